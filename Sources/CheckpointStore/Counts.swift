internal import BlockCodec
internal import LMDB

/// How often a block, tensor, part or snapshot is used, and for a block how it is packed. Kept beside the
/// records, so that a count changes without moving a block.
struct CountRecord: Equatable {
    static let byteCount = 18

    var count: UInt64
    /// Blocks only: the depth, codec, raw and packed bytes of the block's header. Zero for the other kinds.
    var depth: UInt8 = 0
    var codec: UInt8 = 0
    var rawBytes: UInt32 = 0
    var packedBytes: UInt32 = 0

    init(count: UInt64) { self.count = count }

    /// The codec of a block that was damaged and of which no copy was found: nothing is stored of it but this count.
    static let quarantined: UInt8 = 0xFF

    var isQuarantined: Bool { codec == CountRecord.quarantined }

    /// That of a stored block.
    ///
    /// - Parameter packedBytes: of the whole packed block.
    init(count: UInt64, _ header: PackedHeader, packedBytes: Int) {
        self.count = count
        depth = header.depth
        codec = header.codec
        rawBytes = UInt32(header.rawCount)
        self.packedBytes = UInt32(packedBytes)
    }

    /// That of a quarantined block.
    init(quarantinedWith count: UInt64, rawBytes: Int) {
        self.count = count
        codec = CountRecord.quarantined
        self.rawBytes = UInt32(rawBytes)
    }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(count)
        writer.put(depth)
        writer.put(codec)
        writer.put(rawBytes)
        writer.put(packedBytes)
        return writer.bytes
    }

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: count")
        count = try reader.take()
        depth = try reader.take()
        codec = try reader.take()
        rawBytes = try reader.take()
        packedBytes = try reader.take()
        try reader.finish()
        guard count > 0 else { throw reader.damage("a count of 0") }
    }

    /// The key of the count of `id`: its kind, then the id.
    static func key(_ kind: Kind, _ id: ContentID) -> [UInt8] { [kind.rawValue] + id.bytes }

    /// The kind and id of a key; nil for an impossible one.
    static func decodeKey(_ key: [UInt8]) -> (kind: Kind, id: ContentID)? {
        guard let kind = key.first.flatMap(Kind.init(rawValue:)), let id = try? ContentID(Array(key.dropFirst())) else { return nil }
        return (kind, id)
    }
}

extension Transaction where Self: ~Copyable {
    func count(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws -> CountRecord? {
        try record(tables, .count, CountRecord.key(kind, id)).map { bytes in try CountRecord(bytes) }
    }

    /// Visits the counts of a kind in the order of its ids.
    func counts(_ tables: Tables, _ kind: Kind, _ body: (_ id: ContentID, _ count: CountRecord) throws -> Void) throws {
        try records(tables, .count, from: [kind.rawValue]) { key, value in
            guard key.first == kind.rawValue else { return false }
            try body(ContentID(Array(key.dropFirst())), CountRecord(value))
            return true
        }
    }

    /// The blocks that `block` is packed against: each holds one use of its own.
    func bases(_ tables: Tables, of block: ContentID) throws -> [ContentID] {
        guard let record = try get(tables[.block], block.bytes) else {
            throw StoreError(.damaged, "store: block \(block) is missing", hint: "run ckpt verify")
        }
        return try record.withUnsafeBytes { record in
            try PackedHeader.bases(in: Checksum.unchecked(record, .block, key: block.bytes)).map { ContentID($0) }
        }
    }

    /// Whether the block, tensor, part or snapshot is stored; a quarantined block is not. O(log n), without touching its record.
    func isStored(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws -> Bool {
        guard kind == .block else { return try contains(tables[.count], CountRecord.key(kind, id)) }
        return try count(tables, kind, id).map { !$0.isQuarantined } ?? false
    }
}

extension WriteTransaction {
    func putCount(_ tables: Tables, _ kind: Kind, _ id: ContentID, _ record: CountRecord) throws {
        try putRecord(tables, .count, CountRecord.key(kind, id), record.encoded)
    }

    /// Adds one use.
    func retain(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws {
        guard var record = try count(tables, kind, id) else {
            throw StoreError(.damaged, "store: \(kind) \(id) has no count", hint: "run ckpt verify")
        }
        record.count += 1
        try putCount(tables, kind, id, record)
    }

    /// Takes one use back. At the last one the record is deleted; what it used in turn is the caller's.
    ///
    /// - Returns: whether that was the last use.
    func release(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws -> Bool {
        guard var record = try count(tables, kind, id), record.count > 0 else {
            throw StoreError(.damaged, "store: \(kind) \(id) is released more often than used", hint: "run ckpt verify")
        }
        record.count -= 1
        guard record.count == 0 else {
            try putCount(tables, kind, id, record)
            return false
        }
        try delete(tables[.count], CountRecord.key(kind, id))
        try delete(tables[kind], id.bytes)
        return true
    }

    /// Takes back one use of a block. At the last one it is deleted; its count is returned then, with what it was packed against, whose
    /// uses are the caller's to take back.
    func releaseBlock(_ tables: Tables, _ id: ContentID) throws -> (count: CountRecord, bases: [ContentID])? {
        guard let record = try count(tables, .block, id) else {
            throw StoreError(.damaged, "store: block \(id) is released more often than used", hint: "run ckpt verify")
        }
        let bases = record.count == 1 && record.depth > 0 ? try bases(tables, of: id) : []
        return try release(tables, .block, id) ? (record, bases) : nil
    }
}
