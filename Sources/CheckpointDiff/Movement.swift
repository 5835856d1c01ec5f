/// All of how the words of a tensor, or of a group of tensors, moved: `d` is the second minus the first.
public struct Movement: Sendable {
    /// Sum over the finite pairs of their distance in units in the last place: how many representable numbers lie from the one to the other.
    /// Zeros of either sign are the same place.
    public var ulps: Double
    /// Finite pairs by distance: at [0] of none, at [k] of 2^(k-1) to 2^k - 1. 65 of them.
    public var ulpCounts: [UInt64]
    /// L2 norms of d by row and by column of the tensor as a matrix: its last dimension is the columns, all others are the rows. Nil for groups, for
    /// tensors of fewer than two dimensions, and where rows or columns were too many.
    public var rows: [Double]?
    /// L2 norms of d by column.
    public var columns: [Double]?

    /// The mean distance of finite pairs, 0 where there are none.
    public var meanUlps: Double {
        let pairs = ulpCounts.reduce(0, +)
        return pairs == 0 ? 0 : ulps / Double(pairs)
    }

    /// The distances that `ulpCounts[index]` counts.
    public static func distances(_ index: Int) -> ClosedRange<UInt64> {
        if index == 0 { return 0...0 }
        let low = UInt64(1) << UInt64(index - 1)
        return low...(low - 1 + low)
    }

    /// The index of the last class that is not empty.
    public var lastClass: Int { ulpCounts.lastIndex { $0 > 0 } ?? 0 }

    /// Adds the counts of another tensor, as for a group.
    public mutating func add(_ other: Movement) {
        ulps += other.ulps
        for index in ulpCounts.indices { ulpCounts[index] += other.ulpCounts[index] }
        (rows, columns) = (nil, nil)
    }
}

/// Where along an axis a tensor moved most.
public struct AxisSummary: Sendable {
    /// The largest norms, the largest first.
    public var top: [(index: Int, norm: Double)]
    /// The root of the mean square of the norms of each of up to so many equal stretches.
    public var profile: [Double]

    /// - Complexity: O(n x limit) at worst, O(n) where most are small.
    public init(_ norms: [Double], top limit: Int = 10, stretches: Int = 64) {
        top = []
        for (index, norm) in norms.enumerated() where norm > 0 && (top.count < limit || norm > top.last?.norm ?? .infinity) {
            let place = top.firstIndex { norm > $0.norm } ?? top.count
            top.insert((index, norm), at: place)
            if top.count > limit { top.removeLast() }
        }
        profile = AxisSummary.profile(norms, stretches: stretches)
    }

    /// The root of the mean square of each of up to so many equal stretches. O(n).
    public static func profile(_ norms: [Double], stretches: Int) -> [Double] {
        let count = min(stretches, norms.count)
        return (0..<count).map { part in
            let range = (part * norms.count / count)..<((part + 1) * norms.count / count)
            return (norms[range].reduce(0) { $0 + $1 * $1 } / Double(range.count)).squareRoot()
        }
    }
}
