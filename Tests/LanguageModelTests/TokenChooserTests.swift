import Foundation
import Testing

@testable import LanguageModel

/// Tokens that are drawn, against the distribution they are drawn from.
@Suite struct TokenChooserTests {
    static let logits: [Float] = [0.5, -1, 2, 2, 0, -3, 1.5, -.infinity]

    static func frequencies(_ options: GenerationOptions, draws: Int = 40_000) -> [Double] {
        var counts = [Double](repeating: 0, count: logits.count)
        var random = Philox(seed: 11, .generate, round: 3, pass: 2)
        logits.withUnsafeBufferPointer { logits in
            for _ in 0..<draws { counts[Int(TokenChooser(options: options).draw(logits, largest: 2, &random))] += 1 / Double(draws) }
        }
        return counts
    }

    static func wanted(_ temperature: Double, kept: Set<Int>) -> [Double] {
        let weights = logits.indices.map { kept.contains($0) ? exp(Double(logits[$0]) / temperature) : 0 }
        return weights.map { $0 / weights.reduce(0, +) }
    }

    @Test(arguments: [
        (GenerationOptions(temperature: 1), Array(0..<8)), (GenerationOptions(temperature: 0.5), Array(0..<8)),
        (GenerationOptions(temperature: 2, topK: 3), [2, 3, 6]), (GenerationOptions(temperature: 1, topK: 1), [2]),
        // 2 and 3 have .34 each of all, 6 .20.
        (GenerationOptions(temperature: 1, topP: 0.3), [2]), (GenerationOptions(temperature: 1, topP: 0.6), [2, 3]),
        (GenerationOptions(temperature: 1, topP: 0.7), [2, 3, 6]), (GenerationOptions(temperature: 1, topK: 2, topP: 0.9), [2, 3]),
        (GenerationOptions(temperature: 1, topP: 1), Array(0..<8)),
    ] as [(GenerationOptions, [Int])]) func frequenciesFollowTheDistribution(_ options: GenerationOptions, _ kept: [Int]) {
        let found = TokenChooserTests.frequencies(options)
        for (token, share) in TokenChooserTests.wanted(options.temperature, kept: Set(kept)).enumerated() {
            // Five standard deviations.
            #expect(abs(found[token] - share) <= 5 * (share * (1 - share) / 40_000).squareRoot() + 1e-9)
        }
    }

    @Test func aUniformNumberATokenAndTheFirstAboveIt() {
        let logits = [Float](repeating: 0, count: 10)
        var random = Philox(seed: 5, .generate, round: 1)
        var uniforms = Philox(seed: 5, .generate, round: 1)
        logits.withUnsafeBufferPointer { logits in
            for _ in 0..<200 {
                let token = TokenChooser(options: GenerationOptions(temperature: 1)).draw(logits, largest: 0, &random)
                #expect(Int(token) == Int(uniforms.uniform() * 10))
            }
        }
    }
}
