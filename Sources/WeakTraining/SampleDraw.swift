public import LanguageModel

/// Samples drawn with replacement, each as often as its share of the weights: by the inverse of their distribution function.
/// `format-spec/random.md` says it to the bit.
public struct SampleDraw: Sendable {
    /// Sums of the weights up to and with each, added from the first to the last in double precision.
    private let prefix: [Double]

    /// - Parameter weights: as `Curriculum` makes them: at least one, finite, not negative, with a sum that `isUsable`.
    /// - Complexity: O(n).
    public init(_ weights: [Double]) {
        var sum = 0.0
        prefix = weights.map { weight in
            precondition(weight.isFinite && weight >= 0, "a weight of \(weight)")
            sum += weight
            return sum
        }
        precondition(SampleDraw.isUsable(sum), "weights of the sum \(sum)")
    }

    /// Whether samples can be drawn by weights of this sum: it is above zero, finite, and so large that every uniform number times
    /// it stays below it.
    public static func isUsable(_ sum: Double) -> Bool { sum.isFinite && sum > .leastNormalMagnitude }

    /// The first sample whose sum is above `u` times the whole sum; so one of weight zero is never drawn.
    ///
    /// - Parameter u: in 0 ..< 1.
    /// - Complexity: O(log n).
    public func index(at u: Double) -> Int {
        let wanted = u * prefix.last!
        var (low, high) = (0, prefix.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if prefix[middle] > wanted { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// `count` draws, one uniform number of `stream` each.
    ///
    /// - Complexity: O(count * log n).
    public func indices(_ count: Int, from stream: inout Philox) -> [Int] {
        (0..<count).map { _ in index(at: stream.uniform()) }
    }
}
