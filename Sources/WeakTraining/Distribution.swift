/// How figures, one a sample, are spread.
public struct Distribution: Sendable {
    /// Ascending.
    public let values: [Double]

    public init(_ values: [Double]) { self.values = values.sorted() }

    /// The value below which the share `p` of them is, between neighbours in proportion (type 7 of Hyndman and Fan 1996).
    ///
    /// - Returns: 0 of nothing.
    public func quantile(_ p: Double) -> Double {
        guard let last = values.indices.last else { return 0 }
        let place = min(max(p, 0), 1) * Double(last)
        let below = Int(place)
        let above = min(below + 1, last)
        return values[below] + (place - Double(below)) * (values[above] - values[below])
    }

    /// Values in an interval.
    public struct Bin: Sendable, Equatable {
        public var from: Double
        /// Not in it, but in the last bin.
        public var to: Double
        public var count: Int

        public init(from: Double, to: Double, count: Int) {
            self.from = from
            self.to = to
            self.count = count
        }
    }

    /// Bins of one round width, 1, 2 or 5 times a power of ten, whose edges are multiples of it: `atMost` of them cover all values.
    public func bins(atMost: Int) -> [Bin] {
        guard let least = values.first, let greatest = values.last, greatest > least else {
            return values.first.map { [Bin(from: $0, to: $0, count: values.count)] } ?? []
        }
        for (digit, scale) in Distribution.roundWidths where digit / scale * Double(atMost) >= greatest - least {
            let width = digit / scale
            let first = (least / width).rounded(.down)
            let count = Int((greatest / width).rounded(.down) - first) + 1
            guard count <= atMost else { continue }
            // Divided, so that an edge is the number nearest to its decimal digits.
            func edge(_ index: Int) -> Double { (first + Double(index)) * digit / scale }
            var bins = (0..<count).map { Bin(from: edge($0), to: edge($0 + 1), count: 0) }
            for value in values { bins[min(count - 1, Int((value / width).rounded(.down) - first))].count += 1 }
            return bins
        }
        return [Bin(from: least, to: greatest, count: values.count)]
    }

    /// Widths are digit / scale, from far below what single precision tells apart to far above any entropy.
    private static let roundWidths: [(digit: Double, scale: Double)] = {
        var widths: [(digit: Double, scale: Double)] = []
        var scale = 1e9
        while scale >= 1 {
            widths += [(1, scale), (2, scale), (5, scale)]
            scale /= 10
        }
        return widths + [10, 20, 50, 100, 1000].map { ($0, 1) }
    }()
}
