public import TensorFormats

/// A stored tensor: dtype, shape and the ids of its blocks on the grid.
///
/// Its id is the SHA-256 of its encoded bytes, so it depends on nothing else: the same tensor in another file,
/// format or snapshot is the same record.
public struct TensorRecord: Sendable, Equatable {
    static let magic = Array("ckpttns1".utf8)

    public var dtype: DType
    public var shape: [UInt64]
    /// On the grid of its dtype and shape, in order.
    public var blocks: [ContentID]

    init(dtype: DType, shape: [UInt64], blocks: [ContentID]) {
        self.dtype = dtype
        self.shape = shape
        self.blocks = blocks
    }

    var grid: Grid {
        // Shapes are checked where records are read and where they are made.
        Grid(dtype: dtype, shape: shape)!
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: TensorRecord.magic)
        writer.put(dtype.rawValue)
        writer.put(UInt8(shape.count))
        for dim in shape { writer.put(dim) }
        writer.put(UInt32(blocks.count))
        for block in blocks { writer.put(block) }
        return writer.bytes
    }

    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        guard try reader.takeBytes(8) == TensorRecord.magic else { throw reader.damage("not a tensor record") }
        guard let dtype = DType(rawValue: try reader.take()) else { throw reader.damage("unknown dtype") }
        self.dtype = dtype
        shape = []
        let rank = Int(try reader.take(UInt8.self))
        guard rank <= PartManifest.maximumRank else { throw reader.damage("\(rank) dimensions") }
        for _ in 0..<rank { shape.append(try reader.take()) }
        blocks = []
        let count = try reader.takeCount(itemBytes: ContentID.byteCount)
        blocks.reserveCapacity(count)
        for _ in 0..<count { blocks.append(try reader.takeID()) }
        try reader.finish()
        guard let grid = Grid(dtype: dtype, shape: shape), grid.count == count else {
            throw reader.damage("\(count) blocks do not cover \(dtype.name)\(shape)")
        }
    }
}
