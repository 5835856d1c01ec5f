/// Wilson's interval (1927) for a share: 95 % unless told.
public struct WilsonInterval: Sendable, Equatable {
    public var low: Double
    public var high: Double

    /// - Parameter z: quantile of the normal distribution.
    public init(_ right: Int, of count: Int, z: Double = 1.959963984540054) {
        guard count > 0 else {
            (low, high) = (0, 1)
            return
        }
        let n = Double(count)
        let share = Double(right) / n
        let center = share + z * z / (2 * n)
        let reach = z * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
        let scale = 1 + z * z / n
        low = right == 0 ? 0 : (center - reach) / scale
        high = right == count ? 1 : (center + reach) / scale
    }
}
