import CheckpointStore
import TestSupport
import Testing

@testable import LanguageModel

/// Decoding with a cache against forward passes over the whole, for all golden models.
@Suite struct CachedDecodingTests {
    /// Logits of each token, run in `parts` of the sequence, each after the cache of those before; `company` runs beside it.
    static func logits(_ model: LanguageModel, _ tokens: [Int32], parts: [Int], company: [Int32]? = nil) throws -> [Float] {
        let pass = try ForwardPass(model.contents)
        let cache = KeyValueCache(capacity: tokens.count)
        let other = KeyValueCache(capacity: 64)
        var all: [Float] = []
        var start = 0
        for count in parts {
            var batch = Batch()
            if let company, other.count < 60 { batch.append(company, after: other) }
            let first = batch.tokens.count
            batch.append(tokens[start..<start + count], after: cache)
            try model.run(batch, pass)
            let hidden = pass.scratch(5, count, model.architecture.width)
            model.architecture.finish(pass.stream[rows: first..<first + count], pass, into: hidden)
            let logits = try Scorer.logits(hidden, 0..<model.vocabularySize, model.architecture, pass, scratch: 6)
            all += Array(UnsafeBufferPointer(start: logits.data, count: count * model.vocabularySize))
            start += count
        }
        return all
    }

    /// Token by token, by twos and threes, and a prompt at once: the reference's logits come out each time.
    @Test(arguments: GoldenModel.all) func cachedStepsGiveTheLogitsOfTheWhole(_ golden: GoldenModel) throws {
        let model = try golden.model()
        for sample in try golden.samples() {
            let count = sample.tokens.count
            let wanted = try model.logits(sample.tokens)
            var mixed: [Int] = []
            while mixed.reduce(0, +) < count { mixed.append(min([2, 1, 3, 7][mixed.count % 4], count - mixed.reduce(0, +))) }
            for parts in [[Int](repeating: 1, count: count), mixed, [count - 1, 1], [count]] {
                let found = try CachedDecodingTests.logits(model, sample.tokens, parts: parts)
                #expect(found.count == wanted.count)
                #expect(zip(found, wanted).allSatisfy { abs($0 - $1) <= 1e-4 }, "\(parts)")
            }
        }
    }

    @Test(arguments: GoldenModel.all) func companyInABatchChangesNoBit(_ golden: GoldenModel) throws {
        let model = try golden.model()
        let tokens = try golden.samples()[0].tokens
        let parts = [tokens.count / 2] + [Int](repeating: 1, count: tokens.count - tokens.count / 2)
        let alone = try CachedDecodingTests.logits(model, tokens, parts: parts)
        for company in [[1], [3, 1, 4, 1, 5]] as [[Int32]] {
            #expect(try CachedDecodingTests.logits(model, tokens, parts: parts, company: company) == alone)
        }
    }

    @Test func generatedTextDependsOnNoCompanyAndNoThreads() throws {
        let model = try GoldenModel(name: "gemma3").model()
        let requests = (0..<21).map { index in
            GenerationRequest(
                tokens: (0..<(1 + index * 7 % 23)).map { Int32(($0 * 5 + index) % model.vocabularySize) }, sample: index, attempt: index % 2)
        }
        for temperature in [0, 0.9] {
            var options = GenerationOptions(maximumNew: 20, temperature: temperature, seed: 7, ends: [3], threads: 1)
            let together = try model.generate(requests, options)
            for (request, made) in zip(requests, together) { #expect(try model.generate([request], options) == [made]) }
            options.threads = 2
            #expect(try model.generate(requests, options) == together)
            #expect(try model.generate(requests.reversed(), options) == together.reversed())
        }
    }

    @Test func decodingStopsWhereItShould() throws {
        let model = try GoldenModel(name: "gpt2").model()
        let request = GenerationRequest(tokens: [1, 2, 3])
        let free = try model.generate([request], GenerationOptions(maximumNew: 6))[0]
        #expect(free.stop == .length && free.tokens.count == 6 && free.logProbabilities.count == 6)
        let end = free.tokens[3]
        let ended = try model.generate([request], GenerationOptions(maximumNew: 6, ends: [end]))[0]
        #expect(ended.stop == .end && ended.tokens == Array(free.tokens[...free.tokens.firstIndex(of: end)!]))
        let long = try model.generate([request], GenerationOptions(maximumNew: 1000))[0]
        #expect(long.stop == .positions && long.tokens.count == model.longest - 3 + 1)
    }

    @Test func whatCannotBeContinuedIsRefused() throws {
        let model = try GoldenModel(name: "llama").model()
        func refusal(_ request: GenerationRequest, _ options: GenerationOptions = GenerationOptions()) -> String {
            do throws(LanguageModelError) {
                _ = try model.generate([request], options)
                return ""
            } catch { return error.description }
        }
        #expect(refusal(GenerationRequest(tokens: [], name: "a")).contains("sample a: no token"))
        #expect(refusal(GenerationRequest(tokens: [-1], sample: 4)).contains("sample 4: token -1"))
        #expect(refusal(GenerationRequest(tokens: [Int32(model.vocabularySize)])).contains("vocabulary"))
        #expect(refusal(GenerationRequest(tokens: [Int32](repeating: 1, count: 65))).contains("opened for 64"))
        #expect(refusal(GenerationRequest(tokens: [1]), GenerationOptions(temperature: .nan)).contains("temperature"))
        #expect(refusal(GenerationRequest(tokens: [1]), GenerationOptions(topP: 0)).contains("together"))
    }
}
