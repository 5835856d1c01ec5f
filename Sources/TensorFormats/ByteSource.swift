/// Random access to the bytes of a file that is being parsed.
public protocol ByteSource {
    /// Bytes in all.
    var count: UInt64 { get }
    /// The file, as errors name it.
    var path: String { get }
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// - Throws: `.truncated` when the source ends first, `.io` when the system refuses.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FormatError)
}
