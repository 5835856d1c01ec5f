@_spi(_Unicode) import Swift

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
        var run = Run()
        var index = start
        while index < text.count {
            let (value, length) = UTF8Text.scalar(text, at: index)
            index += length
            // Text is well-formed here, so every value is a scalar.
            let scalar = UnicodeScalar(value)!
            if isLater(scalar) {
                run.finish(&result)
                result.append(contentsOf: UTF8.encode(scalar)!)
            } else if let parts = reordered(value) {
                for part in parts { run.append(part, &result) }
            } else {
                run.append(scalar, &result)
            }
        }
        run.finish(&result)
        return result
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

extension NFC {
    /// Characters that are yet to be normalised, from one that nothing before composes with.
    fileprivate struct Run {
        private var scalars = String.UnicodeScalarView()
        /// The combining marks at the end.
        private var marks: [UnicodeScalar] = []

        /// More marks in a row than any text needs. The standard library sorts them by insertion, in quadratic time.
        private static let manyMarks = 32

        mutating func append(_ scalar: UnicodeScalar, _ result: inout [UInt8]) {
            if Run.combiningClass(scalar) != 0 {
                marks.append(scalar)
                return
            }
            endMarks(&result)
            scalars.append(scalar)
        }

        mutating func finish(_ result: inout [UInt8]) {
            endMarks(&result)
            Run.append(String(scalars)._nfc, to: &result)
            scalars = String.UnicodeScalarView()
        }

        private mutating func endMarks(_ result: inout [UInt8]) {
            if marks.count <= Run.manyMarks {
                // One by one: the view copies itself for a sequence.
                for mark in marks { scalars.append(mark) }
            } else {
                Run.append(Run.composed(Array(String(scalars)._nfc), marks), to: &result)
                scalars = String.UnicodeScalarView()
            }
            marks.removeAll(keepingCapacity: true)
        }

        private static func append(_ scalars: some Sequence<UnicodeScalar>, to result: inout [UInt8]) {
            for scalar in scalars { result.append(contentsOf: UTF8.encode(scalar)!) }
        }

        @inline(__always)
        private static func combiningClass(_ scalar: UnicodeScalar) -> UInt8 {
            switch scalar.value {
            case 0..<0x300, 0x3100...0x9fff, 0xac00...0xd7a3: 0
            default: scalar.properties.canonicalCombiningClass.rawValue
            }
        }

        /// Text in form C and many marks after it, in form C. O(n log n).
        ///
        /// - Parameter text: from a starter on, or empty.
        private static func composed(_ text: [UnicodeScalar], _ marks: [UnicodeScalar]) -> [UnicodeScalar] {
            // The last starter's own marks, inside of it or after it, may come after some of the others.
            let lastStart = text.lastIndex { combiningClass($0) == 0 } ?? 0
            let last = text[lastStart...].flatMap { String($0)._nfd }
            let starterCount = (last.lastIndex { combiningClass($0) == 0 } ?? -1) + 1
            var result = Array(text[..<lastStart])
            result += String(String.UnicodeScalarView(last[..<starterCount]))._nfc
            let ordered = (last[starterCount...] + marks.flatMap { String($0)._nfd }).map { (combiningClass($0), $0) }
                .enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }.map(\.element)
            guard !result.isEmpty else { return ordered.map(\.1) }
            var (starter, kept, lastClass): (UnicodeScalar, [UnicodeScalar], UInt8) = (result.removeLast(), [], 0)
            for (combiningClass, mark) in ordered {
                // A mark composes unless one of its class stands between.
                if lastClass < combiningClass, let one = pair(starter, mark) {
                    starter = one
                } else {
                    kept.append(mark)
                    lastClass = combiningClass
                }
            }
            return result + [starter] + kept
        }

        /// The one character that two compose to; nil where they do not.
        private static func pair(_ starter: UnicodeScalar, _ mark: UnicodeScalar) -> UnicodeScalar? {
            let composed = Array(String(String.UnicodeScalarView([starter, mark]))._nfc)
            return composed.count == 1 ? composed[0] : nil
        }
    }
}
