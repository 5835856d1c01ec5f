internal import LMDB

/// What removals would free, told by the counts. Nothing is changed, and only what loses a use is looked at.
///
/// Memory: 15 bytes for each block that has lost a use and is still used. Of snapshots packed against each other take the newest away first: the
/// others' blocks then wait for one use only as long as one snapshot is gone through.
struct RemovalForecast {
    private struct Object: Hashable {
        var kind: Kind
        var id: ContentID
    }

    /// Uses left of what has lost some and is still used: of blocks, and of all else.
    private var blocksLeft = IDTable()
    private var left: [Object: UInt64] = [:]
    private(set) var packedBytes: UInt64 = 0
    private(set) var blocks = 0
    /// Called with each block that would go.
    var freed: (_ block: ContentID) -> Void = { _ in }

    /// Takes away one use of a snapshot, as the removal of a step does. Returns packed bytes that would be freed.
    ///
    /// - Complexity: O(blocks of what would go).
    mutating func removeUse<T: Transaction & ~Copyable>(
        of id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws -> UInt64 {
        let before = packedBytes
        if try release(.snapshot, id, transaction, tables), let record = try transaction.snapshotRecord(tables, id) {
            for part in record.here { try releasePart(part.id, transaction, tables) }
        }
        return packedBytes - before
    }

    /// Drops a part of a snapshot that stays. Returns packed bytes that would be freed.
    mutating func dropPart<T: Transaction & ~Copyable>(
        _ kind: PartKind, of id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws -> UInt64 {
        let before = packedBytes
        for part in try transaction.snapshotRecord(tables, id)?.here ?? [] where part.kind == kind {
            try releasePart(part.id, transaction, tables)
        }
        return packedBytes - before
    }

    /// Uses of a block that would be left.
    func uses<T: Transaction & ~Copyable>(of block: ContentID, _ transaction: borrowing T, _ tables: Tables) throws -> UInt64 {
        try blocksLeft[block].map { UInt64($0) } ?? transaction.count(tables, .block, block)?.count ?? 0
    }

    /// Counts the block as used by more than can be taken away.
    mutating func keep(_ block: ContentID) { blocksLeft[block] = .max }

    private mutating func releasePart<T: Transaction & ~Copyable>(
        _ id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws {
        guard try release(.part, id, transaction, tables), let part = try transaction.partManifest(tables, id) else { return }
        for tensor in part.uses where try release(.tensor, tensor, transaction, tables) {
            var released = try transaction.tensorRecord(tables, tensor)?.blocks.map { ($0, Int.max) } ?? []
            while let (block, depthAbove) = released.popLast() {
                guard let count = try transaction.count(tables, .block, block) else {
                    throw StoreError(.damaged, "store: block \(block) has no count", hint: "run ckpt verify")
                }
                let uses = blocksLeft[block].map { UInt64($0) } ?? count.count
                guard uses <= 1 else {
                    blocksLeft[block] = UInt32(clamping: uses - 1)
                    continue
                }
                blocksLeft[block] = nil
                // Or a forged chain would never end.
                guard Int(count.depth) < depthAbove else {
                    throw StoreError(.damaged, "store: block \(block) lies no lower than what is packed against it", hint: "run ckpt verify")
                }
                let bases = count.depth > 0 ? try transaction.bases(tables, of: block) : []
                packedBytes += UInt64(count.packedBytes)
                blocks += 1
                freed(block)
                released += bases.map { ($0, Int(count.depth)) }
            }
        }
    }

    /// Whether that was the last use of what is no block.
    private mutating func release<T: Transaction & ~Copyable>(
        _ kind: Kind, _ id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws -> Bool {
        let object = Object(kind: kind, id: id)
        guard let uses = try left[object] ?? transaction.count(tables, kind, id)?.count else {
            throw StoreError(.damaged, "store: \(kind) \(id) has no count", hint: "run ckpt verify")
        }
        if uses > 1 {
            left[object] = uses - 1
            return false
        }
        left[object] = nil
        return true
    }
}
