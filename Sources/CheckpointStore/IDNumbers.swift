/// Small numbers for ids that come in order: the first is 0.
///
/// Eight bytes an id, not 32: they are hashes, so of ten million two begin alike once in hundreds of thousands of stores. Those are kept whole
/// besides, so that each has its own number. An id that never came may be given another's, if it was made to begin alike.
struct IDNumbers {
    private var prefixes: [UInt64] = []
    private var last: ContentID?
    /// Those that begin like another.
    private var alike: [ContentID: Int] = [:]

    var count: Int { prefixes.count }

    mutating func reserveCapacity(_ count: Int) { prefixes.reserveCapacity(count) }

    mutating func append(_ id: ContentID) {
        let prefix = IDNumbers.prefix(id)
        if let last, prefixes.last == prefix {
            alike[last] = prefixes.count - 1
            alike[id] = prefixes.count
        }
        last = id
        prefixes.append(prefix)
    }

    /// The number of `id`, or nil when it never came. O(log n).
    func number(of id: ContentID) -> Int? {
        if !alike.isEmpty, let number = alike[id] { return number }
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
