/// A block that another is packed against.
public struct BaseBlock {
    /// Its SHA-256.
    public var id: [UInt8]
    /// Its raw bytes; as many as the other block has.
    public var bytes: UnsafeRawBufferPointer
    /// Its recorded depth.
    public var depth: UInt8

    public init(id: [UInt8], bytes: UnsafeRawBufferPointer, depth: UInt8) {
        self.id = id
        self.bytes = bytes
        self.depth = depth
    }
}
