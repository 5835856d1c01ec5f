internal import LMDB

/// What snapshots that may go take, by blocks: those of them that would be freed if all went, bases among them.
///
/// 24 bytes of memory for each such block and 4 for each use of one by a tensor.
struct SnapshotSpace {
    private struct Block {
        var prefix: UInt64
        /// That of its first base while blocks are collected, then the number of it plus 1; 0 for none. The first base names the others.
        var base: UInt64
        var packedBytes: UInt32
    }

    private var blocks: [Block] = []
    /// Blocks of each candidate's tensors.
    private var uses: [ContentID: [UInt32]] = [:]
    /// Blocks that what was added so far needs.
    private var isHeld: [Bool]
    /// What went last over a block.
    private var visits: [UInt32]
    private var visit: UInt32 = 0
    /// Packed bytes of all of them.
    let totalBytes: UInt64

    /// - Parameter steps: the snapshots of all steps that may go, one for each step.
    /// - Complexity: O(n log n) in their blocks.
    init<T: Transaction & ~Copyable>(_ steps: [ContentID], _ transaction: borrowing T, _ tables: Tables) throws {
        var found: [Block] = []
        var forecast = RemovalForecast()
        forecast.freed = { id, count, bases in
            found.append(
                Block(prefix: SnapshotSpace.prefix(id), base: bases.first.map(SnapshotSpace.prefix) ?? 0, packedBytes: count.packedBytes))
        }
        for id in steps { _ = try forecast.removeUse(of: id, transaction, tables) }
        found.sort { $0.prefix < $1.prefix }
        blocks = found
        totalBytes = forecast.packedBytes
        isHeld = [Bool](repeating: false, count: found.count)
        visits = [UInt32](repeating: 0, count: found.count)
        for index in found.indices where found[index].base != 0 {
            blocks[index].base = number(found[index].base).map { UInt64($0) + 1 } ?? 0
        }
        for id in Set(steps) {
            var used: [UInt32] = []
            for part in try transaction.snapshotRecord(tables, id)?.here ?? [] {
                for tensor in try transaction.partManifest(tables, part.id)?.uses ?? [] {
                    for block in try transaction.tensorRecord(tables, tensor)?.blocks ?? [] {
                        if let number = number(SnapshotSpace.prefix(block)) { used.append(UInt32(number)) }
                    }
                }
            }
            uses[id] = used
        }
    }

    private static func prefix(_ id: ContentID) -> UInt64 { withUnsafeBytes(of: id) { UInt64(bigEndian: $0.load(as: UInt64.self)) } }

    private func number(_ prefix: UInt64) -> Int? {
        var (low, high) = (0, blocks.count)
        while low < high {
            let middle = (low + high) / 2
            if blocks[middle].prefix < prefix { low = middle + 1 } else { high = middle }
        }
        return low < blocks.count && blocks[low].prefix == prefix ? low : nil
    }

    /// Packed bytes that keeping `id` takes beside what was added. O(its blocks).
    mutating func cost(of id: ContentID) -> UInt64 {
        visit += 1
        var bytes: UInt64 = 0
        for use in uses[id] ?? [] {
            var index = Int(use)
            while !isHeld[index], visits[index] != visit {
                visits[index] = visit
                bytes += UInt64(blocks[index].packedBytes)
                guard blocks[index].base > 0 else { break }
                index = Int(blocks[index].base) - 1
            }
        }
        return bytes
    }

    /// Keeps `id`.
    mutating func add(_ id: ContentID) {
        for use in uses[id] ?? [] {
            var index = Int(use)
            while !isHeld[index] {
                isHeld[index] = true
                guard blocks[index].base > 0 else { break }
                index = Int(blocks[index].base) - 1
            }
        }
    }

    /// Keeps nothing.
    mutating func removeAll() {
        for index in isHeld.indices { isHeld[index] = false }
    }
}
