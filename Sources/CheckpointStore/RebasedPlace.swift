internal import BlockCodec
internal import LMDB

/// What is to be done at one place.
struct RebasedPlace: Sendable {
    struct Changed: Sendable {
        var id: ContentID
        var before: CountRecord
        var basesBefore: [ContentID]
        var packed: [UInt8]
        var header: PackedHeader
        var bases: [ContentID]
    }

    let hidden: [(id: ContentID, count: CountRecord)]
    /// Those that go.
    var going: Set<ContentID> = []
    var changed: [Changed] = []
    var rawBytes: UInt64 = 0
    var expectedGrowth = 0
    var expectedBlocks = 0

    init(hidden: [(id: ContentID, count: CountRecord)]) { self.hidden = hidden }

    /// Packed bytes of what goes.
    var goingBytes: Int { hidden.reduce(0) { $0 + (going.contains($1.id) ? Int($1.count.packedBytes) : 0) } }

    /// Packed bytes that what is packed anew takes more than before.
    var growth: Int { changed.reduce(0) { $0 + $1.packed.count - Int($1.before.packedBytes) } }

    /// All stays as it is.
    var unchanged: RebasedPlace { RebasedPlace(hidden: hidden) }

    /// Hidden blocks that stay.
    var kept: RebasingResult {
        var result = RebasingResult()
        for block in hidden where !going.contains(block.id) {
            result.hiddenBlocks += 1
            result.hiddenBytes += UInt64(block.count.packedBytes)
        }
        return result
    }

    var expected: RebasingResult {
        var result = kept
        guard !going.isEmpty else { return result }
        (result.blocks, result.rawBytes, result.grownBytes) = (expectedBlocks, rawBytes, Int64(expectedGrowth))
        (result.freedBlocks, result.freedBytes) = (going.count, UInt64(goingBytes))
        return result
    }

    /// Puts the new blocks in the place of the old ones and lets go of what those hung on.
    func apply(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> RebasingResult {
        guard !changed.isEmpty else { return kept }
        guard try isCurrent(transaction, tables) else { return unchanged.kept }
        var result = kept
        var released: [ContentID] = []
        for block in changed {
            for base in block.bases { try transaction.retain(tables, .block, base) }
            try block.packed.withUnsafeBytes { try transaction.putRecord(tables, .block, block.id.bytes, $0) }
            let count = CountRecord(count: block.before.count, block.header, packedBytes: block.packed.count)
            try transaction.putCount(tables, .block, block.id, count)
            released += block.basesBefore
            result.blocks += 1
            result.rawBytes += UInt64(block.header.rawCount)
        }
        var freed = FreedBlocks()
        while let block = released.popLast() {
            guard let gone = try transaction.releaseBlock(tables, block) else { continue }
            released += gone.bases
            freed.add(gone.count)
        }
        result.grownBytes = Int64(growth)
        (result.freedBlocks, result.freedBytes) = (freed.blocks, freed.packedBytes)
        return result
    }

    /// Whether nothing has changed since it was made: two places of one commit may share blocks.
    private func isCurrent(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> Bool {
        for block in changed {
            guard try transaction.count(tables, .block, block.id) == block.before,
                try transaction.bases(tables, of: block.id) == block.basesBefore
            else { return false }
            for base in block.bases where try !transaction.isStored(tables, .block, base) { return false }
        }
        for block in hidden where try transaction.count(tables, .block, block.id) != block.count { return false }
        return true
    }
}
