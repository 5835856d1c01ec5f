import Testing
import WeakTraining

@Suite struct DistributionTests {
    @Test func quantilesLieBetweenNeighbours() {
        let distribution = Distribution([4, 1, 3, 2])
        #expect(distribution.quantile(0) == 1 && distribution.quantile(1) == 4)
        #expect(distribution.quantile(0.5) == 2.5 && abs(distribution.quantile(0.05) - 1.15) < 1e-12)
        #expect(Distribution([]).quantile(0.5) == 0 && Distribution([7]).quantile(0.3) == 7)
    }

    @Test(arguments: [
        [0.0, 1], [-1.5507, -0.8066, -1.1], [-3, 3, 0.25], [1e-7, 2e-7, 9e-7], [-0.1, 0, 0.1, 0.2, 0.3], [5, 5.001], [0.99, 1],
    ]) func binsHoldEveryValueOnce(_ values: [Double]) {
        let bins = Distribution(values).bins(atMost: 10)
        #expect(bins.reduce(0) { $0 + $1.count } == values.count && bins.count <= 10 && bins.count > 1)
        for (bin, next) in zip(bins, bins.dropFirst()) { #expect(abs(bin.to - next.from) < 1e-12) }
        // Multiples of 1, 2 or 5 times a power of ten, to the last digit.
        #expect(bins.allSatisfy { "\($0.from)".count <= 7 })
        #expect(bins.first!.from <= values.min()! && bins.last!.to >= values.max()!)
    }

    @Test func equalValuesAreOneBin() {
        #expect(Distribution([0, 0, 0]).bins(atMost: 10) == [.init(from: 0, to: 0, count: 3)])
        #expect(Distribution([]).bins(atMost: 10).isEmpty)
    }
}
