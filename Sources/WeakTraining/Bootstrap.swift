/// 95 % intervals of a mean over samples, by resampling them with replacement (percentile bootstrap).
public struct Bootstrap: Sendable {
    public static let resamples = 1000

    /// Of the values.
    public var mean: Double
    /// The lower end of the interval.
    public var low: Double
    /// The upper end.
    public var high: Double

    /// - Parameters:
    ///   - values: one a sample. Empty: all zero.
    ///   - seed: the same values and seed give the same interval.
    /// - Complexity: O(resamples * n).
    public init(_ values: [Double], seed: UInt64 = 1) {
        guard !values.isEmpty else {
            (mean, low, high) = (0, 0, 0)
            return
        }
        let count = UInt64(values.count)
        mean = values.reduce(0, +) / Double(count)
        var state = seed
        var means: [Double] = []
        means.reserveCapacity(Bootstrap.resamples)
        for _ in 0..<Bootstrap.resamples {
            var sum = 0.0
            for _ in 0..<count { sum += values[Int(Bootstrap.next(&state).multipliedFullWidth(by: count).high)] }
            means.append(sum / Double(count))
        }
        means.sort()
        low = means[Bootstrap.resamples * 25 / 1000]
        high = means[Bootstrap.resamples * 975 / 1000 - 1]
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    private static func next(_ state: inout UInt64) -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
