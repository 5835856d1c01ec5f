import TestSupport
import Testing

@testable import LanguageModel

/// Gradients against differences of a loss that shares no code with them.
@Suite struct FiniteDifferenceTests {
    private static let step = 1e-5
    private static let entries = 12
    private static let tolerance = 1e-4

    @Test(arguments: GradientCase.trainable) func `the plain loss is that of the reference`(golden: GradientCase) throws {
        let expected = try golden.expected()
        let samples = try expected.samples()
        let decoder = try PlainDecoder(golden.model(), config: golden.path + "/config.json")
        let logits = samples.flatMap { decoder.logits($0.sample) }
        let loss = try expected.values("loss", Double.self)[0]
        #expect(abs(PlainLoss(samples, LossSettings()).mean(logits) - loss) <= 1e-9 * loss)
    }

    @Test(arguments: GradientCase.trainable) func `gradients are differences of the loss`(golden: GradientCase) throws {
        try check(golden, LossSettings(), hasWeak: false)
    }

    @Test(arguments: ["llama-tied-gqa", "gpt2"].map(GradientCase.init)) func `smoothed labels`(golden: GradientCase) throws {
        try check(golden, LossSettings(smoothing: 0.15), hasWeak: false)
    }

    @Test(arguments: ["llama-tied-gqa", "gpt2"].map(GradientCase.init)) func `a temperature`(golden: GradientCase) throws {
        try check(golden, LossSettings(share: 0.5), hasWeak: false)
    }

    @Test(arguments: ["llama-tied-gqa", "gpt2"].map(GradientCase.init), [0, 0.1] as [Float])
    func `mixed logits, both branches`(golden: GradientCase, smoothing: Float) throws {
        try check(golden, LossSettings(share: 0.42, weakShare: 0.58, smoothing: smoothing), hasWeak: true)
    }

    @Test(arguments: ["llama-tied-gqa", "gpt2"].map(GradientCase.init))
    func `rotated weak logits, both branches`(golden: GradientCase) throws {
        try check(golden, LossSettings(share: 0.42, weakShare: 0.58), hasWeak: true, isRotated: true)
    }

    /// Two sequences, one longer than every window.
    private func samples(_ vocabulary: Int, isRotated: Bool) -> [GradientPass.Sample] {
        var generator = SeededGenerator(seed: 11)
        return [(4, [1..<4]), (11, [3..<5, 8..<11])].enumerated().map { index, wanted in
            let tokens = (0..<wanted.0).map { _ in Int32(generator.below(vocabulary)) }
            let rotations = wanted.1.joined().map {
                Rotation(vocabulary: vocabulary, target: Int(tokens[$0]), seed: 3, sample: index, position: $0)
            }
            return .init(ScoringSample(tokens: tokens, supervised: wanted.1), rotations: isRotated ? rotations : nil)
        }
    }

    private func check(_ golden: GradientCase, _ settings: LossSettings, hasWeak: Bool, isRotated: Bool = false) throws {
        let strong = try golden.model()
        let weak = hasWeak ? try golden.model("weak.safetensors") : nil
        let samples = samples(strong.vocabularySize, isRotated: isRotated)
        let pass = try GradientPass(strong, weak.map { .trained($0) } ?? .none, GradientPass.Options(), ThreadTeam(count: 1))
        let figures = try pass.addGradients(samples, settings)

        let loss = PlainLoss(samples, settings)
        let config = golden.path + "/config.json"
        let decoders = (strong: try PlainDecoder(strong, config: config), weak: try weak.map { try PlainDecoder($0, config: config) })
        func logits(_ decoder: PlainDecoder) -> [[Double]] { samples.flatMap { decoder.logits($0.sample) } }
        let strongLogits = logits(decoders.strong)
        let weakLogits = decoders.weak.map(logits)
        #expect(abs(figures.loss / Double(figures.tokens) - loss.mean(strongLogits, weakLogits)) < 1e-5)

        try checkDifferences(strong, decoders.strong) { loss.mean(logits($0), weakLogits) }
        if let weak, let decoder = decoders.weak { try checkDifferences(weak, decoder) { loss.mean(strongLogits, logits($0)) } }
    }

    /// The entry of each tensor whose gradient is the largest, and others at random.
    private func checkDifferences(_ model: TrainedModel, _ decoder: PlainDecoder, _ loss: (PlainDecoder) -> Double) throws {
        var generator = SeededGenerator(seed: 5)
        var decoder = decoder
        for weight in model.weights {
            let gradient = try model.gradient(weight.name).map(Double.init)
            let largest = gradient.map(abs).max()!
            #expect(largest > 0, "\(weight.name)")
            let most = gradient.firstIndex { abs($0) == largest } ?? 0
            for index in [most] + (1..<FiniteDifferenceTests.entries).map({ _ in generator.below(gradient.count) }) {
                let value = decoder.weights[weight.name]![index]
                func moved(_ step: Double) -> Double {
                    decoder.weights[weight.name]![index] = value + step
                    return loss(decoder)
                }
                let slope = (moved(FiniteDifferenceTests.step) - moved(-FiniteDifferenceTests.step)) / (2 * FiniteDifferenceTests.step)
                decoder.weights[weight.name]![index] = value
                #expect(abs(gradient[index] - slope) <= FiniteDifferenceTests.tolerance * largest, "\(weight.name)[\(index)]")
            }
        }
    }
}
