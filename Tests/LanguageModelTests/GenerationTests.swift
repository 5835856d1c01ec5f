import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

@Suite struct GenerationTests {
    /// ln P of each generated token by a pass over the whole sequence, and whether none is likelier.
    private func check(_ model: LanguageModel, _ prompt: [Int32], _ made: GeneratedTokens, isGreedy: Bool) throws {
        let all = prompt + made.tokens
        let logits = try model.logits(Array(all.dropLast()))
        for (index, token) in made.tokens.enumerated() {
            let row = Array(logits[(prompt.count + index - 1) * model.vocabularySize..<(prompt.count + index) * model.vocabularySize])
            let largest = row.max()!
            let sum = row.reduce(0) { $0 + exp(Double($1 - largest)) }
            let wanted = Double(row[Int(token)] - largest) - log(sum)
            #expect(abs(Double(made.logProbabilities[index]) - wanted) < 1e-4)
            if isGreedy { #expect(row[Int(token)] > largest - 1e-4) }
        }
    }

    @Test(arguments: GoldenModel.all)
    func `what is kept gives what a pass over all gives`(golden: GoldenModel) throws {
        let model = try golden.model()
        let samples = try golden.samples()
        // One prompt shorter, one longer than windows, and single tokens.
        let prompts = [Array(samples[0].tokens), Array(samples[1].tokens.prefix(23)), [samples[0].tokens[0]], [3]]
        var options = GenerationOptions()
        (options.maximumTokens, options.threads, options.sequences) = (17, 1, 3)
        let made = try model.generate(prompts, options)
        for (prompt, made) in zip(prompts, made) {
            #expect(made.tokens.count == 17 && made.stop == .length)
            try check(model, prompt, made, isGreedy: true)
        }
        (options.temperature, options.seed) = (1.3, 5)
        let drawn = try model.generate(prompts, options)
        for (prompt, made) in zip(prompts, drawn) { try check(model, prompt, made, isGreedy: false) }
    }

    private func tiny() throws -> LanguageModel { try GoldenModel(name: "llama").model() }

    @Test func `neither threads nor company change what becomes of a prompt`() throws {
        let model = try tiny()
        var random = SeededBytes(4)
        let prompts: [[Int32]] = (0..<37).map { _ in (0..<Int.random(in: 1...20, using: &random)).map { _ in Int32.random(in: 0..<100, using: &random) } }
        var options = GenerationOptions()
        (options.maximumTokens, options.temperature, options.seed, options.threads, options.ends) = (20, 1, 7, 1, [5, 9])
        let whole = try model.generate(prompts, options)
        #expect(Set(whole.map(\.stop)) == [.end, .length])
        for (threads, sequences) in [(2, 64), (1, 1), (2, 5)] {
            (options.threads, options.sequences) = (threads, sequences)
            #expect(try model.generate(prompts, options) == whole)
        }
        // Another attempt and another seed draw otherwise.
        options.attempt = 1
        #expect(try model.generate(prompts, options) != whole)
        for made in whole where made.stop == .end { #expect([5, 9].contains(made.tokens.last!)) }
    }

    @Test func `it stops where the model has no more positions`() throws {
        let model = try tiny()
        var options = GenerationOptions()
        options.maximumTokens = 1000
        let made = try model.generate([[1, 2, 3]], options)[0]
        #expect(made.stop == .positions && made.tokens.count + 3 == model.longest + 1)
    }

    @Test func `draws follow the distribution`() {
        let logits: [Float] = [0, 1, 2, -1, 0.5]
        func shares(_ change: (inout GenerationOptions) -> Void) -> [Double] {
            var options = GenerationOptions()
            options.temperature = 1
            change(&options)
            var random = Philox(seed: 3, .generate)
            var counts = [Double](repeating: 0, count: logits.count)
            logits.withUnsafeBufferPointer { logits in
                for _ in 0..<20000 { counts[TokenChoice(options: options).choose(logits) { random.uniform() }.token] += 1 / 20000 }
            }
            return counts
        }
        func softmax(_ temperature: Double, _ kept: Set<Int>) -> [Double] {
            let weights = logits.enumerated().map { kept.contains($0) ? exp(Double($1) / temperature) : 0 }
            return weights.map { $0 / weights.reduce(0, +) }
        }
        func close(_ a: [Double], _ b: [Double]) -> Bool { zip(a, b).allSatisfy { abs($0 - $1) < 0.015 } }
        #expect(close(shares { _ in }, softmax(1, [0, 1, 2, 3, 4])))
        #expect(close(shares { $0.temperature = 0.5 }, softmax(0.5, [0, 1, 2, 3, 4])))
        #expect(close(shares { $0.topK = 2 }, softmax(1, [1, 2])))
        // 2 has .53, 1 has .20, 4 has .12: .8 needs three of them.
        #expect(close(shares { $0.topP = 0.8 }, softmax(1, [1, 2, 4])))
        #expect(close(shares { $0.topP = 1e-9 }, softmax(1, [2])))
        #expect(close(shares { $0.temperature = 0 }, softmax(1, [2])))
    }

    @Test func `prompts that cannot be run are named`() throws {
        let model = try tiny()
        for (prompts, words) in [([[1], []], "prompt 1 has no token"), ([[400]], "token 400"), ([[Int32](repeating: 1, count: 100)], "prompt 0: 100 tokens")] {
            let error = #expect(throws: LanguageModelError.self) { try model.generate(prompts, GenerationOptions()) }
            #expect("\(error!)".contains(words))
        }
        let error = #expect(throws: LanguageModelError.self) { try model.generate([[1]], GenerationOptions(), isStopped: { true }) }
        #expect(error?.code == .interrupted)
    }
}
