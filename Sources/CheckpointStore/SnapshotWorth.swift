/// What snapshots of a run are worth, each by itself and together: V(K) is the mean over samples of the largest gain in K, as gap value
/// has it. Monotone and submodular: what a snapshot adds to a set is never more than what it adds to a smaller one.
public struct SnapshotWorth: Sendable {
    /// One a sample, of those that something is known of, none below zero.
    public var gains: [ContentID: [Double]]
    /// Why one is worth nothing, for people.
    public var notes: [ContentID: String]
    /// The snapshot they are measured against.
    public var strong: ContentID

    public init(gains: [ContentID: [Double]], notes: [ContentID: String] = [:], strong: ContentID) {
        precondition(Set(gains.values.map(\.count)).count < 2, "gains of different samples")
        self.gains = gains
        self.notes = notes
        self.strong = strong
    }

    /// V of one snapshot by itself.
    public func value(of id: ContentID) -> Double? { gains[id].map { $0.reduce(0, +) / Double(max(1, $0.count)) } }

    /// V of a set.
    public func value<S: Sequence<ContentID>>(of set: S) -> Double {
        var cover = Cover(self)
        for id in set { cover.add(id) }
        return cover.value
    }

    /// What each of `ids` adds to all others of `kept`: V(kept + id) - V(kept - id).
    ///
    /// - Complexity: O((ids + kept) * samples).
    func marginals(of ids: [ContentID], beside kept: Set<ContentID>) -> [ContentID: Double] {
        // The largest gain of each sample and whose it is, and the largest of all others.
        let count = gains.values.first?.count ?? 0
        var (largest, next) = ([Double](repeating: 0, count: count), [Double](repeating: 0, count: count))
        var owners = [Int](repeating: -1, count: count)
        let known = kept.filter { gains[$0] != nil }.sorted()
        for (owner, id) in known.enumerated() {
            for (sample, gain) in gains[id]!.enumerated() {
                if gain > largest[sample] {
                    (largest[sample], next[sample], owners[sample]) = (gain, largest[sample], owner)
                } else {
                    next[sample] = max(next[sample], gain)
                }
            }
        }
        let numbers = Dictionary(uniqueKeysWithValues: known.enumerated().map { ($1, $0) })
        var marginals: [ContentID: Double] = [:]
        for id in Set(ids) {
            guard let own = gains[id] else { continue }
            let number = numbers[id]
            let sum = own.indices.reduce(0.0) { sum, sample in
                sum + max(0, own[sample] - (owners[sample] == number ? next[sample] : largest[sample]))
            }
            marginals[id] = sum / Double(max(1, count))
        }
        return marginals
    }

    /// A set under way: the largest gain of each sample so far.
    struct Cover {
        private let gains: [ContentID: [Double]]
        private var largest: [Double]

        init(_ worth: SnapshotWorth) {
            gains = worth.gains
            largest = [Double](repeating: 0, count: worth.gains.values.first?.count ?? 0)
        }

        var value: Double { largest.reduce(0, +) / Double(max(1, largest.count)) }

        /// V(K + id) - V(K). O(samples).
        func marginal(_ id: ContentID) -> Double {
            guard let gains = gains[id] else { return 0 }
            return zip(gains, largest).reduce(0) { $0 + max(0, $1.0 - $1.1) } / Double(max(1, largest.count))
        }

        mutating func add(_ id: ContentID) {
            guard let gains = gains[id] else { return }
            for (sample, gain) in gains.enumerated() where gain > largest[sample] { largest[sample] = gain }
        }
    }

    /// The `count` of `candidates` that are worth most together, greedily: within 1 - 1/e of the best (Nemhauser, Wolsey and Fisher
    /// 1978). Of equals the later one. None that adds nothing.
    ///
    /// - Complexity: O(count * candidates * samples).
    func best(_ count: Int, of candidates: [ContentID]) -> [ContentID] {
        var cover = Cover(self)
        var left = candidates
        var picked: [ContentID] = []
        while picked.count < count, !left.isEmpty {
            let marginals = left.map(cover.marginal)
            let at = left.indices.max { (marginals[$0], $0) < (marginals[$1], $1) }!
            guard marginals[at] > 0 else { break }
            let id = left.remove(at: at)
            cover.add(id)
            picked.append(id)
        }
        return picked
    }
}
