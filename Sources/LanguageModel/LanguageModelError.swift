/// Why a model, a tokenizer or a text was refused. One line for people.
public struct LanguageModelError: Error, Sendable, CustomStringConvertible {
    /// Opaque, so that new cases do not break callers.
    public struct Code: Sendable, Hashable {
        private enum Value: Hashable { case malformed, unsupported, missing, mismatch, interrupted, failed }
        private let value: Value
        /// A file does not say what it must.
        public static let malformed = Code(value: .malformed)
        /// Well formed, but asks for something this library does not do: named, never guessed.
        public static let unsupported = Code(value: .unsupported)
        /// A tensor, file or key that is needed is not there.
        public static let missing = Code(value: .missing)
        /// Two things that do not fit together: a tensor's shape, a token beyond the vocabulary.
        public static let mismatch = Code(value: .mismatch)
        /// Stopped by the caller.
        public static let interrupted = Code(value: .interrupted)
        /// The operating system, the store or a library failed.
        public static let failed = Code(value: .failed)
    }

    /// What callers decide by.
    public var code: Code
    /// The file, tensor or sample, then what is wrong with it.
    public var reason: String
    /// What to do about it.
    public var hint: String?

    public init(_ code: Code, _ reason: String, hint: String? = nil) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    /// Reason and hint.
    public var description: String {
        guard let hint else { return reason }
        return "\(reason) (hint: \(hint))"
    }
}
