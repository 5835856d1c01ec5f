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

    private func apply(_ step: Step, _ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        switch step {
        case .nfc: NFC.apply(text)
        case .replace(let wanted, let replacement): ByteReplacement.apply(text, wanted, replacement)
        case .prepend(let prefix): text.isEmpty ? nil : prefix + text
        }
    }
}
