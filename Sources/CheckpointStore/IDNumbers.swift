/// Small numbers for ids that come in order: the first is 0.
///
/// Eight bytes an id, not 32: they are hashes, so of a million two begin alike once in tens of millions of stores. Those would
/// share a number; for sums to show to people that is good enough.
struct IDNumbers {
    private var prefixes: [UInt64] = []

    var count: Int { prefixes.count }

    mutating func append(_ id: ContentID) { prefixes.append(IDNumbers.prefix(id)) }

    /// The number of `id`, or nil when it never came. O(log n).
    func number(of id: ContentID) -> Int? {
        let prefix = IDNumbers.prefix(id)
        var (low, high) = (0, prefixes.count)
        while low < high {
            let middle = (low + high) / 2
            if prefixes[middle] < prefix { low = middle + 1 } else { high = middle }
        }
        return low < prefixes.count && prefixes[low] == prefix ? low : nil
    }

    private static func prefix(_ id: ContentID) -> UInt64 {
        withUnsafeBytes(of: id) { UInt64(bigEndian: $0.load(as: UInt64.self)) }
    }
}
