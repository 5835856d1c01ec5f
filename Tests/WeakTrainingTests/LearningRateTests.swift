import Foundation
import Testing
import WeakTraining

/// Rates against those of transformers, made by `tools/reference/training/make_learning_rates.py`.
@Suite struct LearningRateTests {
    struct Case: Decodable {
        var peak: Double
        var steps: Int
        /// A share below 1, else a number of steps.
        var warm_up: Double
        var warm_up_steps: Int
        var decay: String
        var rates: [Double]
    }

    private struct Golden: Decodable { var cases: [Case] }

    private static let golden = Result {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Golden/training/learning_rates.json")
        return try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file)).cases
    }

    @Test func `rates are those of transformers`() throws {
        let cases = try LearningRateTests.golden.get()
        #expect(cases.count >= 24)
        for wanted in cases {
            let warmUp: LearningRate.WarmUp = wanted.warm_up < 1 ? .share(wanted.warm_up) : .steps(Int(wanted.warm_up))
            let schedule = try LearningRate(
                peak: wanted.peak, warmUp: warmUp, decay: try #require(LearningRate.Decay(rawValue: wanted.decay)))
            #expect(schedule.warmUpSteps(of: wanted.steps) == wanted.warm_up_steps)
            for (step, rate) in wanted.rates.enumerated() {
                // Cosines of two libraries may differ in the last bit.
                #expect(abs(schedule.rate(at: step, of: wanted.steps) - rate) <= 1e-15 * wanted.peak)
            }
        }
    }

    @Test func `the defaults are those of the method`() throws {
        let schedule = try LearningRate()
        #expect(schedule.peak == 1e-5 && schedule.warmUp == .share(0.1) && schedule.decay == .cosine)
        #expect(schedule.rate(at: 0, of: 1000) == 0 && schedule.rate(at: 100, of: 1000) == 1e-5)
        let last = schedule.rate(at: 999, of: 1000)
        #expect(last > 1e-6 && last < 1.0001e-6)
    }

    @Test func `impossible ones are refused`() {
        for peak in [0, -1, Double.nan, .infinity] { #expect(throws: WeakTrainingError.self) { try LearningRate(peak: peak) } }
        for warmUp in [.share(-0.1), .share(1.1), .share(.nan), .steps(-1)] as [LearningRate.WarmUp] {
            #expect(throws: WeakTrainingError.self) { try LearningRate(warmUp: warmUp) }
        }
    }
}
