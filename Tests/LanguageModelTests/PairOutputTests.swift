import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// Figures of a pair against sums in double precision over all logits.
@Suite struct PairOutputTests {
    static let tolerance = 1e-5
    static let lambdas: [Float] = [0.05, 0.42, 0.5, 0.9]

    /// The figures of one token by their definitions.
    struct Plain {
        var entropy: (weak: Double, strong: Double)
        var nll: (weak: Double, strong: Double)
        var top: (weak: Int32, strong: Int32)
        var klStrongWeak: Double
        var klWeakStrong: Double
        var lnC: Double
        var hardNegatives: Double
        /// -ln of the mixed distribution's probability of the target, straight from mixed logits.
        var mixedNLL: Double

        init(weak w: [Double], strong s: [Double], target y: Int, lambda: Double) {
            func logP(_ z: [Double]) -> [Double] {
                let most = z.max()!
                let sum = log(z.reduce(0) { $0 + exp($1 - most) }) + most
                return z.map { $0 - sum }
            }
            func top(_ z: [Double]) -> Int32 { Int32(z.firstIndex(of: z.max()!)!) }
            let (pw, ps) = (logP(w), logP(s))
            entropy = (-pw.reduce(0) { $0 + exp($1) * $1 }, -ps.reduce(0) { $0 + exp($1) * $1 })
            nll = (-pw[y], -ps[y])
            self.top = (top(w), top(s))
            klStrongWeak = zip(ps, pw).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
            klWeakStrong = zip(pw, ps).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
            lnC = log(zip(pw, ps).reduce(0) { $0 + exp((1 - lambda) * $1.0 + lambda * $1.1) })
            hardNegatives = Double(w.indices.filter { $0 != y && w[y] - w[$0] < s[y] - s[$0] }.count) / Double(w.count - 1)
            mixedNLL = -logP(zip(w, s).map { (1 - lambda) * $0 + lambda * $1 })[y]
        }
    }

    static func check(_ weak: LanguageModel, _ strong: LanguageModel, _ samples: [ScoringSample], _ lambda: Float) throws {
        var all = [PairOutputs](repeating: PairOutputs(), count: samples.count)
        try strong.score(samples, against: weak, lambda: lambda) { for (index, outputs) in $0 { all[index] = outputs } }
        let vocabulary = strong.vocabularySize
        for (sample, ours) in zip(samples, all) {
            let (w, s) = (try weak.logits(sample.tokens), try strong.logits(sample.tokens))
            #expect(ours.hardNegatives.count == sample.count)
            for (index, position) in sample.supervised.joined().enumerated() {
                let row = (position - 1) * vocabulary..<position * vocabulary
                let plain = Plain(
                    weak: w[row].map(Double.init), strong: s[row].map(Double.init), target: Int(sample.tokens[position]), lambda: Double(lambda))
                let pairs = [
                    (ours.weak.entropy, plain.entropy.weak), (ours.strong.entropy, plain.entropy.strong), (ours.weak.nll, plain.nll.weak),
                    (ours.strong.nll, plain.nll.strong), (ours.strongToWeak, plain.klStrongWeak), (ours.weakToStrong, plain.klWeakStrong),
                    (ours.logMixingConstant, plain.lnC),
                ]
                for (figures, wanted) in pairs { #expect(abs(Double(figures[index]) - wanted) < tolerance * max(1, abs(wanted))) }
                // A margin within rounding of the other model's may fall on either side.
                #expect(abs(Double(ours.hardNegatives[index]) - plain.hardNegatives) < 1.01 / Double(vocabulary - 1))
                #expect(ours.weak.top[index] == plain.top.weak && ours.strong.top[index] == plain.top.strong)
                // CE(q, P_mix) = (1 - lambda) CE(q, P_w) + lambda CE(q, P_s) + ln C, q the target.
                let share = Double(lambda)
                let identity =
                    (1 - share) * Double(ours.weak.nll[index]) + share * Double(ours.strong.nll[index]) + Double(ours.logMixingConstant[index])
                #expect(abs(identity - plain.mixedNLL) < tolerance * max(1, plain.mixedNLL))
            }
        }
    }

    static func samples(_ vocabulary: Int, _ seed: UInt64) -> [ScoringSample] {
        var random = SeededBytes(seed)
        return [9, 33, 2, 20].map { count in
            ScoringSample(
                tokens: (0..<count).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) },
                supervised: count > 10 ? [1..<3, 7..<count] : [1..<count])
        }
    }

    /// gemma3 caps its logits.
    @Test(arguments: [("llama3", "llama"), ("gemma3-plain", "gemma3"), ("gemma3", "gpt2"), ("qwen3-bf16", "gpt_neox")])
    func figuresOfAPair(_ weak: String, _ strong: String) throws {
        let (weak, strong) = (try GoldenModel(name: weak).model(), try GoldenModel(name: strong).model())
        for lambda in PairOutputTests.lambdas {
            try PairOutputTests.check(weak, strong, PairOutputTests.samples(103, 7), lambda)
        }
    }

    private static func tiny(_ directory: TemporaryDirectory, seed: UInt64, drift: UInt64, vocabulary: Int) throws -> LanguageModel {
        let path = directory.path + "/\(seed)-\(drift)-\(vocabulary)"
        try TinyModel.write(seed: seed, drift: drift, vocabulary: vocabulary, to: path)
        return try LanguageModel(CheckpointContents(path: path), longest: 64)
    }

    /// More tokens than one tile of logits has.
    @Test func vocabulariesOfSeveralTiles() throws {
        let directory = try TemporaryDirectory()
        let weak = try PairOutputTests.tiny(directory, seed: 1, drift: 1, vocabulary: 1_337)
        let strong = try PairOutputTests.tiny(directory, seed: 1, drift: 2, vocabulary: 1_337)
        for lambda in PairOutputTests.lambdas { try PairOutputTests.check(weak, strong, PairOutputTests.samples(1_337, 3), lambda) }
    }

    @Test(arguments: ["llama", "gemma3", "gpt2-bf16"]) func aModelAgainstItself(_ name: String) throws {
        let model = try GoldenModel(name: name).model()
        let samples = PairOutputTests.samples(103, 5)
        for lambda in PairOutputTests.lambdas {
            try model.score(samples, against: model, lambda: lambda) { results in
                for (_, outputs) in results {
                    #expect(outputs.weak == outputs.strong)
                    #expect((outputs.strongToWeak + outputs.weakToStrong).allSatisfy { $0 < 1e-6 })
                    #expect(outputs.logMixingConstant.allSatisfy { $0 <= 0 && $0 > -1e-6 })
                    #expect(outputs.hardNegatives.allSatisfy { $0 == 0 })
                }
            }
        }
    }

    @Test func otherVocabulariesAreRefused() throws {
        let directory = try TemporaryDirectory()
        let (a, b) = (
            try PairOutputTests.tiny(directory, seed: 1, drift: 1, vocabulary: 61), try PairOutputTests.tiny(directory, seed: 1, drift: 1, vocabulary: 67)
        )
        let error = #expect(throws: LanguageModelError.self) {
            try a.score(PairOutputTests.samples(61, 1), against: b, lambda: 0.5) { (_: [(sample: Int, outputs: PairOutputs)]) in }
        }
        let reason = try #require(error).reason
        #expect(error?.code == .mismatch && reason.contains("61") && reason.contains("67"))
    }

    /// What is announced is at least what the lanes take: both models' and the rows of the targets.
    @Test func memoryOfBothModelsIsAnnounced() throws {
        let (weak, strong) = (try GoldenModel(name: "gpt2").model(), try GoldenModel(name: "gemma3").model())
        let options = ScoringOptions(threads: 2)
        #expect(strong.scoringMemory(options, against: weak) > strong.scoringMemory(options) + weak.scoringMemory(options))
    }
}
