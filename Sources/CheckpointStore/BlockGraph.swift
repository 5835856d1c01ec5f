internal import LMDB

/// The blocks of a store by small numbers, in the order of their ids: what each takes, and what it is packed against. 12 bytes of memory for
/// each, 16 where there are deltas.
struct BlockGraph {
    private static let none = UInt32.max

    private var ids = IDNumbers()
    private(set) var packedBytes: [UInt32] = []
    /// The first base of each block. The second one is that base's own first, so the chain names all of them. Empty while no block has one.
    private var bases: [UInt32] = []

    /// - Parameter visit: called with the count of each block.
    /// - Complexity: O(blocks), and O(log n) for each delta.
    init<T: Transaction & ~Copyable>(
        _ transaction: borrowing T, _ tables: Tables, visit: (CountRecord) -> Void = { _ in }
    ) throws {
        let capacity = try transaction.count(tables[.block])
        ids.reserveCapacity(capacity)
        packedBytes.reserveCapacity(capacity)
        var hasDeltas = false
        try transaction.counts(tables, .block) { id, count in
            ids.append(id)
            packedBytes.append(count.packedBytes)
            if count.depth > 0 { hasDeltas = true }
            visit(count)
        }
        guard hasDeltas else { return }
        bases = [UInt32](repeating: BlockGraph.none, count: ids.count)
        var number = 0
        try transaction.counts(tables, .block) { id, count in
            if count.depth > 0, let base = try transaction.bases(tables, of: id).first.flatMap(ids.number) { bases[number] = UInt32(base) }
            number += 1
        }
    }

    var count: Int { ids.count }

    func number(of id: ContentID) -> Int? { ids.number(of: id) }

    /// The block that `number` is packed against, nil for a dense one.
    func base(of number: Int) -> Int? { bases.isEmpty || bases[number] == BlockGraph.none ? nil : Int(bases[number]) }
}
