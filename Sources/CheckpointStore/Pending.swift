internal import LMDB

/// Uses that belong to no snapshot: what an ingest has staged, or what a removal has still to release.
///
/// Each entry is one ordinary use in the counts. The record is written in the same commit as what it lists, so
/// whoever finds it after a kill knows exactly what to release, and can do that slice by slice.
struct Pending {
    var tensors: [ContentID] = []
    var blocks: [ContentID] = []

    var isEmpty: Bool { tensors.isEmpty && blocks.isEmpty }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(UInt32(tensors.count))
        for id in tensors { writer.put(id) }
        writer.put(UInt32(blocks.count))
        for id in blocks { writer.put(id) }
        return writer.bytes
    }

    init() {}

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: pending record")
        for _ in 0..<(try reader.takeCount(itemBytes: 32)) { tensors.append(try reader.takeID()) }
        for _ in 0..<(try reader.takeCount(itemBytes: 32)) { blocks.append(try reader.takeID()) }
        try reader.finish()
    }

    /// A key no other pending record has.
    static func newKey() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// Releases up to `budget` entries, taking them off it. A tensor whose last use goes leaves its blocks in the list, a block its bases.
    ///
    /// - Returns: what was deleted.
    mutating func drain(_ transaction: borrowing WriteTransaction, _ tables: Tables, budget: inout Int) throws -> FreedBlocks {
        var freed = FreedBlocks()
        while budget > 0, !isEmpty {
            budget -= 1
            if let block = blocks.popLast() {
                guard let gone = try transaction.releaseBlock(tables, block) else { continue }
                blocks += gone.bases
                freed.add(gone.count)
            } else if let tensor = tensors.popLast() {
                guard let record = try transaction.tensorRecord(tables, tensor) else {
                    throw StoreError(.damaged, "store: tensor \(tensor) is missing", hint: "run ckpt verify")
                }
                if try transaction.release(tables, .tensor, tensor) { blocks += record.blocks }
            }
        }
        return freed
    }

    /// Stores the list under `key`, or deletes it when nothing is left.
    func put(_ transaction: borrowing WriteTransaction, _ tables: Tables, key: [UInt8]) throws {
        if isEmpty {
            try transaction.delete(tables[.pending], key)
        } else {
            try transaction.putRecord(tables, .pending, key, encoded)
        }
    }
}

/// Blocks that were deleted.
struct FreedBlocks {
    var blocks = 0
    var packedBytes: UInt64 = 0

    mutating func add(_ count: CountRecord) {
        blocks += 1
        packedBytes += UInt64(count.packedBytes)
    }

    static func += (left: inout FreedBlocks, right: FreedBlocks) {
        left.blocks += right.blocks
        left.packedBytes += right.packedBytes
    }
}

extension Store {
    /// Entries released in one commit: few enough for little memory, enough for little overhead.
    private static let slice = 4096
    /// Slices for a full disk: their pages fit into the ballast.
    private static let smallSlice = 32

    /// Releases what pending records list and removes unfinished images and old generations. Under the store lock only.
    func recover() throws {
        try releasePending()
        try removeStrayImages()
        try removeOldGenerations()
    }

    /// Releases all pending records, slice by slice, on a full disk too.
    ///
    /// - Parameter report: called after each slice with what it deleted.
    func releasePending(_ report: (FreedBlocks) throws -> Void = { _ in }) throws {
        var slice = Store.slice
        var droppedBallast = false
        while true {
            do {
                guard let freed = try releaseSlice(slice) else { break }
                try report(freed)
            } catch let error as LMDBError where error.isDiskFull && !droppedBallast {
                try Ballast.drop(path)
                droppedBallast = true
                slice = Store.smallSlice
            }
        }
        // Back to what it was; on a disk that is still full, the next writer tries again.
        try? Ballast.lay(path)
    }

    /// One commit of releases; nil when there was nothing to do.
    private func releaseSlice(_ budget: Int) throws -> FreedBlocks? {
        let isIdle = try read { transaction, tables in try transaction.count(tables[.pending]) == 0 }
        if isIdle { return try releaseRemovedSlice(max(1, budget / 16)) ? FreedBlocks() : nil }
        return try write { transaction, tables in
            var (freed, left) = (FreedBlocks(), budget)
            while left > 0 {
                var first: (key: [UInt8], value: [UInt8])?
                try transaction.records(tables, .pending) { key, value in
                    first = (key, value)
                    return false
                }
                guard let first else { break }
                var pending = try Pending(first.value)
                // A long list is rewritten with each slice: longer slices for longer lists keep that linear.
                left = max(left, pending.blocks.count / 16)
                freed += try pending.drain(transaction, tables, budget: &left)
                try pending.put(transaction, tables, key: first.key)
            }
            return freed
        }
    }
}
