import Foundation
import LanguageModel
import Testing
import WeakTraining

/// Steps against those of torch.optim.AdamW, made by `tools/reference/training/make_adamw.py`, which says what the numbers are.
@Suite struct AdamWTests {
    private struct Golden: Decodable {
        struct Shown: Decodable {
            var step: Int
            var weights: [Double]
        }

        var decay: Double
        var clip: Double
        /// Of all gradients together, before the clip; step by step.
        var norms: [Double]
        var shown: [Shown]
    }

    private static let golden = Result {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Golden/training/adamw.json")
        return try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file))
    }

    private static let config = """
        {"model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
         "vocab_size": 11}
        """

    /// Weights or gradients of a model in the order of the tensors' names.
    private func fill(_ model: TrainedModel, _ start: UnsafeMutablePointer<Float>, _ number: (Int) -> Double) {
        var index = 0
        for entry in model.parameters.entries.sorted(by: { $0.name < $1.name }) {
            for place in 0..<entry.parameter.count {
                start[entry.parameter.offset + place] = Float(number(index))
                index += 1
            }
        }
    }

    @Test(arguments: [1, 3]) func `steps are those of torch`(threads: Int) throws {
        let golden = try AdamWTests.golden.get()
        let model = try TrainedModel(config: Array(AdamWTests.config.utf8), path: "config.json", seed: 1, longest: 8)
        fill(model, model.parameters.values) { cos(0.3 * Double($0)) }
        var settings = AdamW.Settings()
        (settings.decay, settings.clip) = (golden.decay, golden.clip)
        let optimizer = AdamW([model], settings, ThreadTeam(count: threads))
        for (index, norm) in golden.norms.enumerated() {
            let step = index + 1
            fill(model, model.parameters.gradients) { 0.01 * Double(step) * sin(1.7 * Double($0) + 0.9 * Double(step)) }
            let norms = optimizer.gradientNorms()
            #expect(norms.count == 1 && abs(norms[0] - norm) < 1e-6 * norm)
            optimizer.take(rate: 0.01 * (1 - Double(step) / 25), norms: norms)
            #expect(optimizer.step == step)
            guard let shown = golden.shown.first(where: { $0.step == step }) else { continue }
            let found = model.weights.flatMap { $0.values.map(Double.init) }
            try #require(found.count == shown.weights.count)
            for (a, b) in zip(found, shown.weights) { #expect(abs(a - b) < 2e-6, "step \(step)") }
        }
        #expect(golden.shown.last?.step == golden.norms.count)
    }

    /// One clip over both, and nothing is left of the gradients.
    @Test func `a pair has one clip`() throws {
        func model() throws -> TrainedModel {
            try TrainedModel(config: Array(AdamWTests.config.utf8), path: "config.json", seed: 1, longest: 8)
        }
        let (strong, weak) = (try model(), try model())
        fill(strong, strong.parameters.gradients) { _ in 0.03 }
        fill(weak, weak.parameters.gradients) { _ in 0.04 }
        let optimizer = AdamW([strong, weak], AdamW.Settings(), ThreadTeam(count: 2))
        let norms = optimizer.gradientNorms()
        let count = Double(strong.weightCount).squareRoot()
        #expect(abs(norms[0] - 0.03 * count) < 1e-6 && abs(norms[1] - 0.04 * count) < 1e-6)
        optimizer.take(rate: 0.1, norms: norms)
        for (index, gradient) in [0.03, 0.04].enumerated() {
            let clipped = gradient * min(1, 1 / (0.05 * count + 1e-6))
            #expect(abs(Double(optimizer.models[index].moments.first[0]) - 0.1 * clipped) < 1e-8)
        }
        for model in [strong, weak] {
            #expect((0..<model.parameters.count).allSatisfy { model.parameters.gradients[$0] == 0 })
        }
    }
}
