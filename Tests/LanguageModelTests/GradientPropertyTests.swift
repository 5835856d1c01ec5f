import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// What holds for gradients and figures whatever the model says.
@Suite struct GradientPropertyTests {
    private static let cases = ["llama-tied-gqa", "gpt2", "mistral-window", "qwen3"].map(GradientCase.init)
    private static let pairs = ["llama-tied-gqa", "gpt2"].map(GradientCase.init)

    private func options(_ microBatchTokens: Int = 4096, checkpoints: Bool = false) -> GradientPass.Options {
        var options = GradientPass.Options()
        (options.microBatchTokens, options.checkpointsActivations) = (microBatchTokens, checkpoints)
        return options
    }

    private func gradients(_ model: TrainedModel) -> [Float] {
        Array(UnsafeBufferPointer(start: model.parameters.gradients, count: model.parameters.count))
    }

    /// Figures, and gradients of a fresh model and of its weak.
    private func run(
        _ golden: GradientCase, _ samples: [GradientPass.Sample], threads: Int = 2, _ options: GradientPass.Options? = nil,
        mixed: Bool = false
    ) throws -> (figures: LossFigures, strong: [Float], weak: [Float]) {
        let strong = try golden.model()
        let weak = mixed ? try golden.model("weak.safetensors") : nil
        let pass = try GradientPass(strong, weak.map { .trained($0) } ?? .none, options ?? self.options(), ThreadTeam(count: threads))
        let settings = mixed ? LossSettings(share: 0.42, weakShare: 0.58) : LossSettings()
        let figures = try pass.addGradients(samples, settings)
        return (figures, gradients(strong), weak.map(gradients) ?? [])
    }

    /// The largest difference, as a share of the largest gradient.
    private func difference(_ a: [Float], _ b: [Float]) -> Float {
        guard a.count == b.count, let largest = b.map(abs).max(), largest > 0 else { return .infinity }
        return zip(a, b).map { ($0 - $1).isNaN ? .infinity : abs($0 - $1) }.max()! / largest
    }

    private func hasSameBits(_ a: [Float], _ b: [Float]) -> Bool { a.map(\.bitPattern) == b.map(\.bitPattern) }

    // MARK: Batches

    @Test(arguments: cases) func `packed is as alone`(golden: GradientCase) throws {
        let samples = try golden.expected().samples()
        let packed = try run(golden, samples)
        let tokens = samples.reduce(0) { $0 + $1.sample.count }
        var sum = [Float](repeating: 0, count: packed.strong.count)
        var loss = 0.0
        for sample in samples {
            let alone = try run(golden, [sample])
            let share = Float(sample.sample.count) / Float(tokens)
            for index in sum.indices { sum[index] += share * alone.strong[index] }
            loss += alone.figures.loss
        }
        #expect(difference(sum, packed.strong) < 1e-5)
        #expect(abs(loss - packed.figures.loss) < 1e-5 * loss)
    }

    @Test(arguments: cases) func `accumulated is as at once`(golden: GradientCase) throws {
        let samples = try golden.expected().samples()
        let once = try run(golden, samples, options(4096))
        let pieces = try run(golden, samples, options(8))
        #expect(difference(pieces.strong, once.strong) < 1e-6)
        #expect(abs(pieces.figures.loss - once.figures.loss) < 1e-6 * once.figures.loss)
    }

    @Test(arguments: pairs) func `threads and checkpoints change no bit`(golden: GradientCase) throws {
        let samples = try golden.expected().samples()
        let one = try run(golden, samples, threads: 1, mixed: true)
        for (threads, checkpoints) in [(2, false), (3, false), (5, false), (1, true), (3, true)] {
            let other = try run(golden, samples, threads: threads, options(checkpoints: checkpoints), mixed: true)
            #expect(hasSameBits(other.strong, one.strong) && hasSameBits(other.weak, one.weak), "\(threads) threads, \(checkpoints)")
            #expect(other.figures == one.figures)
        }
    }

    // MARK: Mixed logits

    @Test(arguments: pairs) func `equal branches each have half the gradient of plain training`(golden: GradientCase) throws {
        let samples = try golden.expected().samples()
        let plain = try run(golden, samples)
        let (strong, weak) = (try golden.model(), try golden.model())
        let pass = try GradientPass(strong, .trained(weak), options(), ThreadTeam(count: 2))
        let figures = try pass.addGradients(samples, LossSettings(share: 0.5, weakShare: 0.5))
        #expect(hasSameBits(gradients(strong), gradients(weak)))
        #expect(difference(gradients(strong).map { 2 * $0 }, plain.strong) < 1e-6)
        #expect(abs(figures.loss - plain.figures.loss) < 1e-6 * plain.figures.loss)
        #expect(abs(figures.logMixingConstant) < 1e-5)
    }

    /// A weak model that knows nothing is a temperature.
    @Test func `uniform weak logits leave the strong ones scaled`() throws {
        let golden = GradientCase(name: "llama")
        let samples = try golden.expected().samples()
        let (strong, weak, other) = (try golden.model(), try golden.model(), try golden.model())
        let head = try #require(weak.parameters.entries.first { $0.name == "lm_head.weight" }).parameter
        (weak.parameters.values + head.offset).update(repeating: 0, count: head.count)
        let mixed = try GradientPass(strong, .trained(weak), options(), ThreadTeam(count: 2))
            .addGradients(samples, LossSettings(share: 0.42, weakShare: 0.58))
        let scaled = try GradientPass(other, .none, options(), ThreadTeam(count: 2)).addGradients(samples, LossSettings(share: 0.42))
        #expect(hasSameBits(gradients(strong), gradients(other)))
        #expect(mixed.loss == scaled.loss && mixed.mixedProbability == scaled.mixedProbability && mixed.entropy == scaled.entropy)
        #expect(abs(mixed.weakEntropy / Double(mixed.tokens) - log(Double(strong.vocabularySize))) < 1e-5)
    }

    /// CE(y, P_mix) = (1 - lambda) CE(y, P_weak) + lambda CE(y, P_strong) + ln C
    @Test(arguments: pairs, [0.3, 0.42, 0.6] as [Float]) func `the loss splits up`(golden: GradientCase, lambda: Float) throws {
        let samples = try golden.expected().samples()
        let (strong, weak) = (try golden.model(), try golden.model("weak.safetensors"))
        let mixed = try GradientPass(strong, .trained(weak), options(), ThreadTeam(count: 2))
            .figures(of: samples, LossSettings(share: lambda, weakShare: 1 - lambda))
        let alone = try GradientPass(weak, .none, options(), ThreadTeam(count: 2)).figures(of: samples, LossSettings())
        let wanted = Double(1 - lambda) * alone.nll + Double(lambda) * mixed.nll + mixed.logMixingConstant
        #expect(abs(mixed.loss - wanted) < 1e-5 * mixed.loss)
        #expect(mixed.logMixingConstant < 0)
        #expect(abs(mixed.weakEntropy - alone.entropy) < 1e-5 * alone.entropy)
        // Without a gradient: nothing was added.
        #expect(gradients(strong).allSatisfy { $0 == 0 })
    }

    @Test(arguments: pairs) func `a frozen weak gives the strong what a trained one does`(golden: GradientCase) throws {
        let samples = try golden.expected().samples()
        let trained = try run(golden, samples, mixed: true)
        let strong = try golden.model()
        let pass = try GradientPass(
            strong, .frozen([golden.frozen("weak.safetensors"), golden.frozen()]), options(), ThreadTeam(count: 2))
        let figures = try pass.addGradients(samples, LossSettings(share: 0.42, weakShare: 0.58))
        #expect(difference(gradients(strong), trained.strong) < 1e-5)
        #expect(abs(figures.loss - trained.figures.loss) < 1e-5 * figures.loss)
    }

    // MARK: Refusals

    private func refusal(_ body: () throws -> Void) throws -> String {
        let error = try #require(#expect(throws: LanguageModelError.self) { try body() })
        #expect(error.code == .mismatch)
        return "\(error)"
    }

    @Test func `what does not fit is refused by its name`() throws {
        let golden = GradientCase(name: "llama")
        let model = try golden.model()
        let pass = try GradientPass(model, .none, options(), ThreadTeam(count: 1))
        let fine = GradientPass.Sample(ScoringSample(tokens: [1, 2, 3], supervised: [1..<3]))
        for token in [61, -1, Int32.max] as [Int32] {
            let bad = GradientPass.Sample(ScoringSample(tokens: [1, token], supervised: [1..<2], name: "sums:7"))
            let message = try refusal { _ = try pass.addGradients([fine, bad], LossSettings()) }
            #expect(message.contains("sums:7") && message.contains("\(token)") && message.contains("61"), "\(message)")
        }
        let long = GradientPass.Sample(ScoringSample(tokens: [Int32](repeating: 1, count: 42), supervised: [41..<42]))
        let message = try refusal { _ = try pass.figures(of: [fine, long], LossSettings()) }
        #expect(message.contains("sample 1") && message.contains("41") && message.contains("40"), "\(message)")
        // As long as it may be: the last token is only predicted.
        let longest = GradientPass.Sample(ScoringSample(tokens: [Int32](repeating: 1, count: 41), supervised: [40..<41]))
        #expect(try pass.figures(of: [longest], LossSettings()).tokens == 1)
        // Nothing was added before the refusal.
        #expect(gradients(model).allSatisfy { $0 == 0 })
    }

    @Test func `vocabularies that differ are refused`() throws {
        let golden = GradientCase(name: "llama")
        let text = String(decoding: try FileTree.bytes(golden.path + "/config.json"), as: UTF8.self)
            .replacing("\"vocab_size\": 61", with: "\"vocab_size\": 60")
        let other = try TrainedModel(config: Array(text.utf8), path: "config.json", seed: 1, longest: 40)
        let model = try golden.model()
        let message = try refusal { _ = try GradientPass(model, .trained(other), options(), ThreadTeam(count: 1)) }
        #expect(message.contains("61") && message.contains("60"), "\(message)")
    }
}
