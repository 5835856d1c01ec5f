@_spi(_Unicode) import Swift

/// What happens to a text before it is cut into words.
struct Normalizer: Sendable {
    enum Step: Sendable {
        case nfc
        case replace([UInt8], [UInt8])
        /// Before a text that is not empty.
        case prepend([UInt8])
    }
    var steps: [Step] = []

    /// The normalised text; nil where it stays as it is. O(n).
    func apply(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        var result: [UInt8]?
        for step in steps {
            let next = result.map { $0.withUnsafeBufferPointer { apply(step, $0) } } ?? apply(step, text)
            if let next { result = next }
        }
        return result
    }

    /// The text in form C where the file asks for it; nil where it stays as it is. O(n).
    func composed(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        steps.contains { if case .nfc = $0 { true } else { false } } ? NFC.apply(text) : nil
    }

    private func apply(_ step: Step, _ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        switch step {
        case .nfc: NFC.apply(text)
        case .replace(let wanted, let replacement): ByteReplacement.apply(text, wanted, replacement)
        case .prepend(let prefix): text.isEmpty ? nil : prefix + text
        }
    }
}

/// Normalization form C, as the library's tables have it: those of Unicode 9.
///
/// A character that came later is to them one that nothing composes or reorders with. The text is cut there, and
/// what lies between is normalised by the standard library, whose tables are newer.
enum NFC {
    /// The text in form C; nil where it is already. O(n).
    static func apply(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        // Below U+0300, whose first byte is CC, every text is in form C.
        guard let first = text.firstIndex(where: { $0 >= 0xcc }) else { return nil }
        // The character before may compose with it.
        var start = first
        if start > 0 { start -= UTF8Text.scalar(text, before: start).length }
        var result = [UInt8](text[..<start])
        var run = String.UnicodeScalarView()
        var index = start
        while index < text.count {
            let (value, length) = UTF8Text.scalar(text, at: index)
            index += length
            // Text is well-formed here, so every value is a scalar.
            let scalar = UnicodeScalar(value)!
            if isLater(scalar) {
                append(run, to: &result)
                run = String.UnicodeScalarView()
                result.append(contentsOf: UTF8.encode(scalar)!)
            } else if let parts = reordered(value) {
                run.append(contentsOf: parts)
            } else {
                run.append(scalar)
            }
        }
        append(run, to: &result)
        return result
    }

    private static func append(_ run: String.UnicodeScalarView, to result: inout [UInt8]) {
        for scalar in String(run)._nfc { result.append(contentsOf: UTF8.encode(scalar)!) }
    }

    private static func isLater(_ scalar: UnicodeScalar) -> Bool {
        switch scalar.value {
        // The common ranges, in which only U+07FD is later and has a combining class.
        case 0x7fd: true
        case 0..<0x800, 0x3000...0x9fff, 0xac00...0xd7a3: false
        default: scalar.properties.age.map { $0.major > 9 } ?? false
        }
    }

    /// The three characters that are combining marks only when taken apart. The standard library does not move them
    /// before marks of a higher class that precede them (6.3.1 does not), so they are taken apart here.
    private static func reordered(_ value: UInt32) -> [UnicodeScalar]? {
        switch value {
        case 0xf73: ["\u{f71}", "\u{f72}"]
        case 0xf75: ["\u{f71}", "\u{f74}"]
        case 0xf81: ["\u{f71}", "\u{f80}"]
        default: nil
        }
    }
}
