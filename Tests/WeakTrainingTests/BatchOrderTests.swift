import Testing
import WeakTraining

import struct LanguageModel.Philox

@Suite struct BatchOrderTests {
    static let weights = (0..<50).map { $0 % 7 == 2 ? 0 : Double($0 % 5) + 0.5 }

    static func order(_ selection: Selection, multiplier: Double = 1, round: Int = 0, batchSize: Int = 8) -> BatchOrder {
        BatchOrder(selection, weights: weights, multiplier: multiplier, seed: 3, round: round, batchSize: batchSize)
    }

    static let selections: [Selection] = [.uniform, .v1, .v2, .code]

    @Test func `a draw is the first sample above`() {
        let draw = SampleDraw([0, 1, 0, 2, 1, 0])
        #expect([0, 0.1, 0.25, 0.5, 0.74, 0.75, 0.99, 1 - 0x1p-53].map(draw.index) == [1, 1, 3, 3, 3, 4, 4, 4])
        // The last uniform number there is stays below every sum.
        for weight in [1.0, 3, 0.1, Double.leastNormalMagnitude.nextUp, .greatestFiniteMagnitude] {
            #expect(SampleDraw([0, weight, 0]).index(at: 1 - 0x1p-53) == 1)
        }
    }

    @Test func `samples are drawn as often as they weigh, and never at weight zero`() {
        let total = BatchOrderTests.weights.reduce(0, +)
        var stream = Philox(seed: 11, .draw)
        var counts = [Int](repeating: 0, count: 50)
        let draws = 200_000
        for sample in SampleDraw(BatchOrderTests.weights).indices(draws, from: &stream) { counts[sample] += 1 }
        var chiSquare = 0.0
        for (count, weight) in zip(counts, BatchOrderTests.weights) {
            if weight == 0 {
                #expect(count == 0)
            } else {
                let wanted = Double(draws) * weight / total
                chiSquare += (Double(count) - wanted) * (Double(count) - wanted) / wanted
            }
        }
        // 42 degrees of freedom; the seed is fixed. 99.9 % of all seeds are below 77.
        #expect(chiSquare < 77)
    }

    @Test func `uniform passes have each sample once`() {
        let order = BatchOrderTests.order(.uniform)
        let passes = (0..<5).map { order.samples(ofPass: $0) }
        for pass in passes { #expect(pass.sorted() == Array(0..<50)) }
        #expect(Set(passes).count == 5)
    }

    @Test func `v2 keeps the first of each draw, once`() {
        let order = BatchOrderTests.order(.v2)
        let draws = BatchOrderTests.order(.v1)
        for pass in 0..<5 {
            let samples = order.samples(ofPass: pass)
            #expect(Set(samples).count == samples.count && samples.count < 50)
            #expect(Set(samples) == Set(draws.samples(ofPass: pass)))
            var seen: Set<Int> = []
            let kept = draws.samples(ofPass: pass).filter { seen.insert($0).inserted }
            #expect(samples != kept, "shuffled")
        }
    }

    @Test(arguments: [(1.0, 50), (0.5, 25), (2.5, 125), (0.001, 1), (0.01, 1), (0.03, 2)])
    func `a pass has as many draws as the multiplier says`(_ multiplier: Double, _ count: Int) {
        #expect(BatchOrderTests.order(.code, multiplier: multiplier).samples(ofPass: 0).count == count)
    }

    @Test func `seed, round and pass each change what is drawn`() {
        let first = BatchOrderTests.order(.v1).samples(ofPass: 0)
        #expect(BatchOrderTests.order(.v1).samples(ofPass: 0) == first)
        #expect(BatchOrderTests.order(.v1).samples(ofPass: 1) != first)
        #expect(BatchOrderTests.order(.v1, round: 1).samples(ofPass: 0) != first)
        #expect(BatchOrder(.v1, weights: BatchOrderTests.weights, seed: 4, round: 0, batchSize: 8).samples(ofPass: 0) != first)
    }

    @Test(arguments: selections, [1, 8, 25, 50, 1000])
    func `batches are the slices of the passes`(_ selection: Selection, _ batchSize: Int) {
        var order = BatchOrderTests.order(selection, batchSize: batchSize)
        var step = 0
        for pass in 0..<4 {
            #expect(order.steps(ofPasses: pass) == step)
            let samples = order.samples(ofPass: pass)
            var (place, rest) = (0, samples[...])
            while !rest.isEmpty {
                #expect(order.batch(step) == .init(pass: pass, place: place, samples: Array(rest.prefix(batchSize))))
                rest = rest.dropFirst(batchSize)
                place += 1
                step += 1
            }
        }
    }

    @Test(arguments: selections) func `any step's batch can be had first`(_ selection: Selection) {
        var inOrder = BatchOrderTests.order(selection)
        let batches = (0..<40).map { inOrder.batch($0) }
        for step in [39, 0, 17, 16, 5, 38] {
            var fresh = BatchOrderTests.order(selection)
            #expect(fresh.batch(step) == batches[step])
            #expect(inOrder.batch(step) == batches[step])
        }
    }
}
