/// Why a file was refused. One line for people: file, tensor, byte, reason and a hint.
public struct FormatError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Opaque, so that new cases do not break callers.
    public struct Code: Sendable, Hashable {
        private enum Value: Hashable { case malformed, truncated, unsupported, limit, unsafeName, io }
        private let value: Value
        /// The bytes contradict the format.
        public static let malformed = Code(value: .malformed)
        /// The file ends before what it promises: half written or cut.
        public static let truncated = Code(value: .truncated)
        /// Well formed, but a feature this reader does not have.
        public static let unsupported = Code(value: .unsupported)
        /// Over one of the reader's stated limits.
        public static let limit = Code(value: .limit)
        /// A name that is absolute, leaves its directory or holds a NUL.
        public static let unsafeName = Code(value: .unsafeName)
        /// The operating system refused a read.
        public static let io = Code(value: .io)
    }

    public var code: Code
    /// The file, as the caller named it.
    public var path: String
    /// The tensor or entry, when one is to blame.
    public var tensor: String?
    /// Bytes from the start of the file, when a place is to blame.
    public var byte: UInt64?
    public var reason: String
    /// What to do about it.
    public var hint: String?

    public init(
        _ code: Code, path: String, tensor: String? = nil, byte: UInt64? = nil, _ reason: String, hint: String? = nil
    ) {
        self.code = code
        self.path = path
        self.tensor = tensor
        self.byte = byte
        self.reason = reason
        self.hint = hint
    }

    public var description: String {
        var line = path
        if let tensor { line += ": tensor \"\(tensor)\"" }
        if let byte { line += ": byte \(byte)" }
        line += ": \(reason)"
        if let hint { line += " (hint: \(hint))" }
        return line
    }
}
