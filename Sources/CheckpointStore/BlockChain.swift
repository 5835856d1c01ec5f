internal import BlockCodec
internal import LMDB

/// A block with all it is packed against, decoded from its dense root up.
///
/// A delta names its base and, when it was predicted, the base's own first base: so the first bases of a block, one after
/// the other, are all that is needed.
struct BlockChain {
    /// The block and its first bases, the dense root last.
    private let ids: [ContentID]

    /// Follows the bases of `id`.
    ///
    /// - Throws: `.damaged` when a block is missing or lies no lower than what is packed against it.
    /// - Complexity: O(depth log n), reading headers only.
    init(_ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        var ids = [id]
        var depth = Int.max
        while true {
            let current = ids[ids.count - 1]
            let next = try transaction.blockRecord(tables, current).withUnsafeBytes { record in
                let packed = try Checksum.unchecked(record, .block, key: current.bytes)
                do throws(CodecError) {
                    let header = try PackedHeader(packed)
                    guard Int(header.depth) < depth else {
                        throw CodecError(.malformed, "lies no lower than the block packed against it")
                    }
                    depth = Int(header.depth)
                    return try PackedHeader.bases(in: packed).first.map { ContentID($0) }
                } catch {
                    throw StoreError(block: current, error)
                }
            }
            guard let next else { break }
            ids.append(next)
        }
        self.ids = ids
    }

    /// Checks the record of every block of the chain against its checksum: what is packed against it will need them all.
    ///
    /// - Throws: `.damaged`.
    func check(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        for id in ids {
            let key = id.bytes
            try transaction.blockRecord(tables, id).withUnsafeBytes { _ = try Checksum.open($0, .block, key: key) }
        }
    }

    /// Decodes the chain and returns its blocks, the root first. With `keepsAll` all of them stay valid until the lane's next chain,
    /// else the last two.
    ///
    /// Every packed block is checked against its record's checksum.
    func decode(
        count: Int, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, keepsAll: Bool = false
    ) throws -> [BaseBlock] {
        var blocks: [BaseBlock] = []
        for (index, id) in ids.reversed().enumerated() {
            let key = id.bytes
            let block = try transaction.blockRecord(tables, id, prefetching: false).withUnsafeBytes { record in
                let packed = try Checksum.open(record, .block, key: key)
                do throws(CodecError) {
                    let header = try PackedHeader(packed)
                    // The map outlives the record's span: it is the transaction that keeps the page.
                    if let raw = try BlockCoder.rawBytes(of: packed), raw.count == count {
                        return BaseBlock(id: key, bytes: raw, depth: header.depth)
                    }
                    let room = lane.chainBuffer(keepsAll ? index : index % 3)
                    let target = UnsafeMutableRawBufferPointer(rebasing: room[..<min(count, room.count)])
                    let bases = try PackedHeader.bases(in: packed)
                    let found = blocks.suffix(bases.count).reversed()
                    guard found.count == bases.count, zip(found, bases).allSatisfy({ $0.id.elementsEqual($1) }) else {
                        throw CodecError(.malformed, "its second base is not the first one's own")
                    }
                    try lane.coder.unpack(packed, bases: found.map(\.bytes), into: target)
                    return BaseBlock(id: key, bytes: UnsafeRawBufferPointer(target), depth: header.depth)
                } catch {
                    throw StoreError(block: id, error)
                }
            }
            blocks.append(block)
        }
        return blocks
    }
}

extension StoreError {
    init(block id: ContentID, _ error: CodecError) {
        let isUnknown = error.code == .unknownCodec
        self.init(
            isUnknown ? .incompatible : .damaged, "store: block \(id): \(error.reason)",
            hint: isUnknown ? "use a newer ckpt" : "run ckpt verify")
    }
}

extension ReadTransaction {
    /// The raw bytes of a block, it and all it is packed against checked against their records' checksums: in place when it
    /// is kept raw, else decoded into the lane's buffers. Valid until the lane's next chain and while the transaction lives.
    ///
    /// - Complexity: O(bytes x (depth + 1)).
    func blockBytes(_ tables: Tables, _ id: ContentID, count: Int, _ lane: CodecLane) throws -> UnsafeRawBufferPointer {
        let chain = try BlockChain(id, self, tables)
        return try chain.decode(count: count, self, tables, lane).last!.bytes
    }

    /// The bytes of a block kept raw, in place and unread, for kernels that run at memory speed; nil when the block is
    /// packed. (`verify` checks such blocks.) Valid while the transaction lives.
    func rawBlock(_ tables: Tables, _ id: ContentID, count: Int) throws -> UnsafeRawBufferPointer? {
        try blockRecord(tables, id).withUnsafeBytes { record in
            guard let raw = try BlockCoder.rawBytes(of: Checksum.unchecked(record, .block, key: id.bytes)) else { return nil }
            guard raw.count == count else {
                throw StoreError(.damaged, "store: block \(id) has \(raw.count) bytes, not \(count)", hint: "run ckpt verify")
            }
            // The map outlives the span: it is the transaction that keeps the page.
            return raw
        }
    }

    @_lifetime(borrow self)
    func blockRecord(_ tables: Tables, _ id: ContentID, prefetching: Bool = true) throws -> RawSpan {
        guard let record = try get(tables[.block], id.bytes) else {
            let isKnown = try count(tables, .block, id)?.isQuarantined ?? false
            throw StoreError(
                .damaged, "store: block \(id) is \(isKnown ? "quarantined: it was damaged, and no copy of it was found" : "missing")",
                hint: isKnown ? "ckpt verify --repair --from PATH, with an original" : "run ckpt verify")
        }
        if prefetching { record.prefetch() }
        return record
    }
}
