/// Bytes in memory, parsed as if they were a file.
public struct MemoryBytes: ByteSource, Sendable {
    public let path: String
    private let bytes: [UInt8]

    /// - Parameter path: the name that errors give the bytes.
    public init(_ bytes: [UInt8], path: String) {
        self.bytes = bytes
        self.path = path
    }

    public var count: UInt64 { UInt64(bytes.count) }

    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FormatError) {
        try checkRange(at: offset, count: buffer.count)
        bytes.withUnsafeBytes { all in
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[Int(offset)..<Int(offset) + buffer.count]))
        }
    }
}
