/// Why packed bytes could not be decoded, or raw bytes not be coded.
public struct CodecError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Opaque, so that new cases do not break callers.
    public struct Code: Sendable, Hashable {
        private enum Value: Hashable { case malformed, unknownCodec, library }
        private let value: Value
        /// The packed bytes contradict themselves.
        public static let malformed = Code(value: .malformed)
        /// A codec id this version does not have.
        public static let unknownCodec = Code(value: .unknownCodec)
        /// zstd failed for a reason of its own, such as memory.
        public static let library = Code(value: .library)
    }

    public var code: Code
    public var reason: String

    public init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    public var description: String { reason }
}
