import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import LanguageModel

/// Generated tokens and calibration against tools/reference/models/generate.py: transformers' `generate`, and numpy.
@Suite struct GenerationGoldenTests {
    static let cases = ["llama3", "mistral", "qwen2-window", "qwen3-bf16", "gemma3", "olmo2", "gpt2", "gpt_neox"]

    static func golden(_ name: String) throws -> (model: LanguageModel, json: JSONValue) {
        let path = URL(filePath: GoldenModel.directory).deletingLastPathComponent().appending(path: "generation/\(name).json").path
        return (try GoldenModel(name: name).model(), try JSONValue.parse(try FileTree.bytes(path), path: path))
    }

    static func sequences(_ json: JSONValue, _ key: String) -> [[Int32]] {
        json[key]!.array!.map { $0.array!.map { Int32($0.unsigned!) } }
    }

    @Test(arguments: cases) func greedyTokensAreTheReferences(_ name: String) throws {
        let (model, json) = try GenerationGoldenTests.golden(name)
        let requests = GenerationGoldenTests.sequences(json, "prompts").map { GenerationRequest(tokens: $0) }
        let made = try model.generate(requests, GenerationOptions(maximumNew: 20))
        #expect(made.map(\.tokens) == GenerationGoldenTests.sequences(json, "tokens"))
        let wanted = json["logprobs"]!.array!.map { $0.array!.map { $0.double! } }
        for (made, wanted) in zip(made, wanted) {
            #expect(zip(made.logProbabilities, wanted).allSatisfy { abs(Double($0) - $1) < 1e-4 })
        }
    }

    @Test(arguments: cases) func calibrationIsTheReferences(_ name: String) throws {
        let (model, json) = try GenerationGoldenTests.golden(name)
        let samples = GenerationGoldenTests.sequences(json, "sequences").map { ScoringSample(tokens: $0, supervised: [1..<$0.count]) }
        let cases = json["calibration"]!.array!
        let temperatures = cases.map { $0["temperature"]!.double! }
        for threads in [1, 2] {
            let found = try model.score(samples, temperatures: temperatures, ScoringOptions(threads: threads))
            for (outputs, wanted) in zip(found, cases) {
                let summary = CalibrationSummary(outputs)
                for (key, value) in [
                    ("nll", summary.nll), ("brier", summary.brier), ("ece", summary.ece), ("entropy", summary.entropy),
                    ("mean_p", summary.meanP),
                ] {
                    #expect(abs(value - wanted[key]!.double!) < 1e-5, "\(key)")
                }
            }
            let fitted = try model.fittedTemperature(samples, ScoringOptions(threads: threads))
            #expect(abs(log(fitted) - log(json["fitted"]!.double!)) < 5e-5)
        }
    }

    @Test func atOneTheFiguresAreThoseOfEntropies() throws {
        let model = try GoldenModel(name: "gemma3").model()
        let samples = [ScoringSample(tokens: [1, 5, 9, 2, 6], supervised: [1..<2, 3..<5])]
        let plain = try model.score(samples)[0]
        let found = try model.score(samples, temperatures: [1])[0]
        #expect(zip(found.nll, plain.nll).allSatisfy { abs($0 - Double($1)) < 1e-6 })
        #expect(zip(found.entropy, plain.entropy).allSatisfy { abs($0 - Double($1)) < 1e-6 })
    }

    /// Losses whose least place is known, beyond the bounds too.
    @Test func theFitFindsWhereTheSlopeChanges() throws {
        for wanted in [0.06, 1, 3.3, 19] {
            let found = try TemperatureFit.minimum(passes: 3) { $0.map { log($0) - log(wanted) + pow(log($0 / wanted), 3) } }
            #expect(abs(log(found) - log(wanted)) < 1e-5)
        }
        #expect(abs(try TemperatureFit.minimum(passes: 3) { $0.map { _ in 1 } } - 0.05) < 1e-9)
        #expect(abs(try TemperatureFit.minimum(passes: 3) { $0.map { _ in -1 } } - 20) < 1e-9)
    }

    @Test func binsHaveEquallyManyTokens() {
        // Sure of all, right in none: each bin is as far off.
        #expect(abs(CalibrationSummary.error([Double](repeating: 0.75, count: 31), [Bool](repeating: false, count: 31)) - 0.75) < 1e-12)
        #expect(CalibrationSummary.error([0.5, 0.5], [true, false], bins: 1) == 0)
        #expect(CalibrationSummary.error([0.5, 0.5], [true, false], bins: 2) == 0.5)
        #expect(CalibrationSummary.error([], []) == 0)
    }
}
