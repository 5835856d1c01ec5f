/// Merges a row of tokens, lowest rank first, leftmost first among equals.
struct SymbolMerger {
    /// What is merged, in place.
    var symbols: [Int32] = []
    /// The rank of the merge of a symbol and the next one; `none` where there is none. Scratch.
    private var ranks: [UInt32] = []
    /// Neighbours by position, in long rows only.
    private var next: [Int32] = []
    private var previous: [Int32] = []
    /// Rank << 32 | position, the least first. Entries that a later merge has outdated stay until they come up.
    private var heap: [UInt64] = []

    private static let none = UInt32.max
    /// Rows up to this length are searched for the lowest rank each time, which is faster than a heap.
    static let longestScanned = 48

    @inline(__always)
    private static func rank(_ merges: borrowing PairTable, _ left: Int32, _ right: Int32) -> UInt32 {
        merges.find(left, right).map { UInt32(truncatingIfNeeded: $0) } ?? none
    }

    /// - Parameters:
    ///   - merges: ranks by two tokens.
    ///   - products: results by rank.
    /// - Complexity: O(n log n), and O(n) memory.
    mutating func merge(_ merges: borrowing PairTable, _ products: [Int32]) {
        guard symbols.count > 1 else { return }
        ranks.removeAll(keepingCapacity: true)
        for index in 1..<symbols.count {
            ranks.append(SymbolMerger.rank(merges, symbols[index - 1], symbols[index]))
        }
        ranks.append(SymbolMerger.none)
        if symbols.count <= SymbolMerger.longestScanned { scan(merges, products) } else { mergeLong(merges, products) }
    }

    private mutating func scan(_ merges: borrowing PairTable, _ products: [Int32]) {
        var count = symbols.count
        symbols.withUnsafeMutableBufferPointer { symbols in
            ranks.withUnsafeMutableBufferPointer { ranks in
                while true {
                    var (lowest, place) = (SymbolMerger.none, 0)
                    for index in 0..<count &- 1 where ranks[index] < lowest { (lowest, place) = (ranks[index], index) }
                    if lowest == SymbolMerger.none { break }
                    symbols[place] = products[Int(lowest)]
                    count &-= 1
                    for index in place &+ 1..<max(count, place &+ 1) {
                        symbols[index] = symbols[index &+ 1]
                        ranks[index] = ranks[index &+ 1]
                    }
                    ranks[place] =
                        place &+ 1 < count
                        ? SymbolMerger.rank(merges, symbols[place], symbols[place &+ 1]) : SymbolMerger.none
                    if place > 0 {
                        ranks[place &- 1] = SymbolMerger.rank(merges, symbols[place &- 1], symbols[place])
                    }
                }
            }
        }
        symbols.removeLast(symbols.count - count)
    }

    private mutating func mergeLong(_ merges: borrowing PairTable, _ products: [Int32]) {
        let count = Int32(symbols.count)
        next.removeAll(keepingCapacity: true)
        previous.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        for index in 0..<count {
            next.append(index + 1)
            previous.append(index - 1)
            if ranks[Int(index)] != SymbolMerger.none { heap.append(UInt64(ranks[Int(index)]) << 32 | UInt64(index)) }
        }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
        while let least = popLeast() {
            let place = Int(least & 0xffff_ffff)
            let rank = UInt32(least >> 32)
            guard ranks[place] == rank else { continue }
            let gone = Int(next[place])
            let after = next[gone]
            symbols[place] = products[Int(rank)]
            symbols[gone] = -1
            ranks[gone] = SymbolMerger.none
            next[place] = after
            if after < count { previous[Int(after)] = Int32(place) }
            update(place, count, merges)
            if previous[place] >= 0 { update(Int(previous[place]), count, merges) }
        }
        symbols.removeAll { $0 < 0 }
    }

    private mutating func update(_ place: Int, _ count: Int32, _ merges: borrowing PairTable) {
        let right = next[place]
        ranks[place] =
            right < count ? SymbolMerger.rank(merges, symbols[place], symbols[Int(right)]) : SymbolMerger.none
        if ranks[place] != SymbolMerger.none { push(UInt64(ranks[place]) << 32 | UInt64(place)) }
    }

    private mutating func push(_ value: UInt64) {
        var child = heap.count
        heap.append(value)
        while child > 0, heap[(child - 1) / 2] > value {
            heap[child] = heap[(child - 1) / 2]
            child = (child - 1) / 2
        }
        heap[child] = value
    }

    private mutating func popLeast() -> UInt64? {
        guard let least = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            siftDown(0)
        }
        return least
    }

    private mutating func siftDown(_ start: Int) {
        let value = heap[start]
        var parent = start
        while true {
            var child = parent * 2 + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < value else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = value
    }
}
