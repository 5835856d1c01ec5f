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
            let block = try transaction.checkedBlock(tables, id) { packed throws(CodecError) in
                let header = try PackedHeader(packed)
                if let raw = try BlockCoder.rawBytes(of: packed), raw.count == count {
                    return BaseBlock(id: id.bytes, bytes: raw, depth: header.depth)
                }
                let room = lane.chainBuffer(keepsAll ? index : index % 3)
                let target = UnsafeMutableRawBufferPointer(rebasing: room[..<min(count, room.count)])
                try BlockChain.unpack(packed, bases: blocks.suffix(2).reversed(), lane, into: target)
                return BaseBlock(id: id.bytes, bytes: UnsafeRawBufferPointer(target), depth: header.depth)
            }
            blocks.append(block)
        }
        return blocks
    }

    /// The raw bytes of the block alone, decoded from the nearest block of the chain that is remembered.
    ///
    /// - Complexity: O(bytes) for each step from there.
    func decode(
        count: Int, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, recent: RecentBlocks
    ) throws -> UnsafeRawBufferPointer {
        var known = try nearest(count: count, transaction, tables, recent)
        for id in ids.prefix(known.below).reversed() {
            // Below one that is not, some may be remembered.
            if let bytes = recent.bytes(id, count: count) {
                known.blocks = known.blocks.suffix(1) + [BaseBlock(id: id.bytes, bytes: bytes, depth: 0)]
                continue
            }
            let block = try transaction.checkedBlock(tables, id) { packed throws(CodecError) in
                if let raw = try BlockCoder.rawBytes(of: packed), raw.count == count {
                    return BaseBlock(id: id.bytes, bytes: raw, depth: 0)
                }
                let bytes = try recent.add(id, count: min(count, BlockCoder.maximumBlockBytes), keeping: known.blocks) { target throws(CodecError) in
                    try BlockChain.unpack(packed, bases: known.blocks.reversed(), lane, into: target)
                }
                return BaseBlock(id: id.bytes, bytes: bytes, depth: 0)
            }
            known.blocks = known.blocks.suffix(1) + [block]
        }
        return known.blocks.last!.bytes
    }

    /// Where to decode from: the remembered blocks, base last, that suffice for the `below` blocks of the chain that come before them; none where
    /// it is to be the root.
    private func nearest(
        count: Int, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ recent: RecentBlocks
    ) throws -> (blocks: [BaseBlock], below: Int) {
        func remembered(_ index: Int) throws -> BaseBlock? {
            guard index < ids.count else { return nil }
            if let bytes = recent.bytes(ids[index], count: count) { return BaseBlock(id: ids[index].bytes, bytes: bytes, depth: 0) }
            guard index == ids.count - 1 else { return nil }
            // A root that is kept raw is never decoded, and always at hand.
            guard let raw = try transaction.rawBlock(tables, ids[index], count: count) else { return nil }
            try transaction.checkedBlock(tables, ids[index]) { _ in }
            return BaseBlock(id: ids[index].bytes, bytes: raw, depth: 0)
        }
        for index in ids.indices {
            guard let base = try remembered(index) else { continue }
            if index == 0 { return ([base], 0) }
            let needed = try transaction.blockRecord(tables, ids[index - 1]).withUnsafeBytes {
                try PackedHeader.bases(in: Checksum.unchecked($0, .block, key: ids[index - 1].bytes)).count
            }
            if needed < 2 { return ([base], index) }
            if let previous = try remembered(index + 1) { return ([previous, base], index) }
        }
        return ([], ids.count)
    }

    /// Decodes `packed`, whose first bases are `known`, the nearest first.
    private static func unpack(
        _ packed: UnsafeRawBufferPointer, bases known: [BaseBlock], _ lane: CodecLane, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let bases = try PackedHeader.bases(in: packed)
        let found = known.prefix(bases.count)
        guard found.count == bases.count, zip(found, bases).allSatisfy({ $0.id.elementsEqual($1) }) else {
            throw CodecError(.malformed, "its second base is not the first one's own")
        }
        try lane.coder.unpack(packed, bases: found.map(\.bytes), into: target)
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
    /// Calls `body` with a packed block that agrees with its record's checksum. The map outlives the call: it is the transaction that keeps
    /// the page.
    func checkedBlock<R>(_ tables: Tables, _ id: ContentID, _ body: (UnsafeRawBufferPointer) throws(CodecError) -> R) throws -> R {
        let key = id.bytes
        return try blockRecord(tables, id, prefetching: false).withUnsafeBytes { record in
            let packed = try Checksum.open(record, .block, key: key)
            do throws(CodecError) {
                return try body(packed)
            } catch {
                throw StoreError(block: id, error)
            }
        }
    }

    /// The same by way of the blocks that are remembered, where it becomes one. Valid until the reader's next call.
    func blockBytes(
        _ tables: Tables, _ id: ContentID, count: Int, _ lane: CodecLane, recent: RecentBlocks, for reader: BlockReader
    ) throws -> UnsafeRawBufferPointer {
        let bytes = try recent.bytes(id, count: count)
            ?? BlockChain(id, self, tables).decode(count: count, self, tables, lane, recent: recent)
        recent.handOut(id, to: reader)
        return bytes
    }

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
