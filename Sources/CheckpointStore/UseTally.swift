/// How often the blocks, tensors, parts or snapshots of a store are used, as found by following its records down, to compare with
/// their counts. 12 bytes of memory for each.
struct UseTally {
    private var numbers = IDNumbers()
    private var uses: [UInt32] = []
    /// Of those that have no count.
    private(set) var uncounted: [ContentID: UInt64] = [:]

    init(capacity: Int = 0) {
        numbers.reserveCapacity(capacity)
        uses.reserveCapacity(capacity)
    }

    /// Makes room for one that has a count. In the order of ids.
    mutating func append(_ id: ContentID) {
        numbers.append(id)
        uses.append(0)
    }

    /// Adds a use.
    ///
    /// - Parameter isCounted: whether `id` itself has a count, and so was appended.
    /// - Complexity: O(log n).
    mutating func add(_ id: ContentID, isCounted: Bool) {
        guard isCounted, let number = numbers.number(of: id) else {
            uncounted[id, default: 0] += 1
            return
        }
        if uses[number] < .max { uses[number] += 1 }
    }

    /// Uses of one that was appended or used; zero for others.
    func uses(of id: ContentID) -> UInt64 { uncounted[id] ?? numbers.number(of: id).map { UInt64(uses[$0]) } ?? 0 }
}
