internal import CKernels
internal import CheckpointStore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// How well the probabilities a model gives are the shares in which it is right, over supervised tokens, at one temperature.
public struct Calibration: Sendable {
    /// What logits were divided by.
    public var temperature: Double
    /// Supervised tokens.
    public var tokens: Int
    /// Mean of -ln P(y), in nats.
    public var nll: Double
    /// Mean of sum_v (P(v) - [v = y])^2.
    public var brier: Double
    /// Expected calibration error of the most likely token, in 15 bins of equally many tokens by its probability.
    public var ece: Double
    /// Mean entropy, in nats.
    public var entropy: Double
    /// Mean of P(y).
    public var probability: Double
    /// Share of tokens where the most likely one is right.
    public var topAccuracy: Double

    static let bins = 15

    /// Of tokens at one of the temperatures they were scored at.
    init(_ outputs: [TemperatureOutputs], _ temperatures: [Double], at index: Int) {
        temperature = temperatures[index]
        let all = outputs.flatMap { $0.tokens[index] }
        tokens = all.count
        let count = Double(max(1, all.count))
        func mean(_ value: (TemperatureOutputs.Token) -> Double) -> Double { all.reduce(0) { $0 + value($1) } / count }
        nll = mean { Double($0.nll) }
        brier = mean { Double($0.brier) }
        entropy = mean { Double($0.entropy) }
        probability = mean { exp(-Double($0.nll)) }
        topAccuracy = mean { $0.isTopRight ? 1 : 0 }
        // Of equal probabilities those that come first are in the lower bin: the order is that of the samples.
        let order = all.indices.sorted { (all[$0].confidence, $0) < (all[$1].confidence, $1) }
        ece = (0..<Calibration.bins).reduce(0) { sum, bin in
            let range = order.count * bin / Calibration.bins..<order.count * (bin + 1) / Calibration.bins
            let difference = order[range].reduce(0) { $0 + Double(all[$1].confidence) - (all[$1].isTopRight ? 1 : 0) }
            return sum + abs(difference) / count
        }
    }
}

/// What is seen of each token at several temperatures.
struct TemperatureOutputs: SampleOutputsSlicing {
    struct Token {
        var nll: Float
        var brier: Float
        var entropy: Float
        /// P of the most likely token.
        var confidence: Float
        var isTopRight: Bool
    }

    /// For each temperature, the tokens in their order.
    var tokens: [[Token]]

    var isFinite: Bool { tokens.allSatisfy { $0.allSatisfy { $0.nll.isFinite && $0.entropy.isFinite } } }

    func sliced(_ range: Range<Int>) -> TemperatureOutputs { TemperatureOutputs(tokens: tokens.map { Array($0[range]) }) }
}

extension LanguageModel {
    /// How well calibrated it is on `samples`, at each of `temperatures`.
    ///
    /// - Throws: as `score`.
    /// - Complexity: that of `score`, and two more passes over the logits for each temperature.
    public func calibration(
        _ samples: [ScoringSample], temperatures: [Double] = [1], _ options: ScoringOptions = ScoringOptions(),
        isStopped: @Sendable () -> Bool = { false }, scored: (Int) -> Void = { _ in }
    ) throws(LanguageModelError) -> [Calibration] {
        var all = [TemperatureOutputs](repeating: TemperatureOutputs(tokens: temperatures.map { _ in [] }), count: samples.count)
        try Scoring.run(samples, self, contents.name, options, isStopped) { (results: [(sample: Int, outputs: TemperatureOutputs)]) in
            for (sample, outputs) in results { all[sample] = outputs }
            scored(results.count)
        } makeLane: { () throws(LanguageModelError) in
            let pass = try ForwardPass(contents)
            return { batch, rows, isStopped throws(LanguageModelError) in
                try run(batch, pass, isStopped)
                var outputs = TemperatureOutputs(tokens: temperatures.map { _ in [] })
                try Scoring.forEachTile(rows) { range throws(LanguageModelError) in
                    let tile = try Scorer.score(rows, range, architecture, pass, temperatures: temperatures)
                    for index in temperatures.indices { outputs.tokens[index] += tile.tokens[index] }
                }
                return outputs
            }
        }
        return temperatures.indices.map { Calibration(all, temperatures, at: $0) }
    }

    /// The temperature at which the mean loss on `samples` is least, within .05 and 20: to a thousandth of its logarithm.
    ///
    /// The loss over ln T has one minimum. Each of three passes looks at 13 temperatures, evenly between the neighbours of the
    /// best so far.
    public func fittedTemperature(
        _ samples: [ScoringSample], _ options: ScoringOptions = ScoringOptions(), isStopped: @Sendable () -> Bool = { false }
    ) throws(LanguageModelError) -> Double {
        var (low, high) = (log(0.05), log(20.0))
        for _ in 0..<4 {
            let steps = (0...12).map { low + (high - low) * Double($0) / 12 }
            let found = try calibration(samples, temperatures: steps.map { exp($0) }, options, isStopped: isStopped)
            let best = found.indices.min { found[$0].nll < found[$1].nll }!
            (low, high) = (steps[max(0, best - 1)], steps[min(12, best + 1)])
        }
        return exp((low + high) / 2)
    }
}

extension Scorer {
    /// Statistics of rows `range` of `scored` at each temperature, the vocabulary a tile at a time.
    ///
    /// With m the largest logit, sum_v P(v)^2 = sum exp(2 (z - m) / T) / (sum exp((z - m) / T))^2: the same sum at half the
    /// temperature.
    static func score(
        _ scored: ScoredRows, _ range: Range<Int>, _ model: any Architecture, _ pass: ForwardPass, temperatures: [Double]
    ) throws(LanguageModelError) -> TemperatureOutputs {
        let hidden = lastRows(scored, range, model, pass)
        var states = [[ck_distribution]](repeating: [ck_distribution](repeating: empty, count: 2 * temperatures.count), count: range.count)
        var targets = [Float](repeating: .nan, count: range.count)
        let vocabulary = model.head.weight.rows
        var scaled = [Float](repeating: 0, count: tileTokens)
        for start in stride(from: 0, to: vocabulary, by: tileTokens) {
            let tokens = start..<min(start + tileTokens, vocabulary)
            let tile = try logits(hidden, tokens, model, pass, scratch: 6)
            for row in 0..<range.count {
                let target = Int(scored.targets[range.lowerBound + row])
                if tokens.contains(target) { targets[row] = tile.row(row)[target - start] }
                for (index, temperature) in temperatures.enumerated() {
                    for (half, factor) in [Float(1 / temperature), Float(2 / temperature)].enumerated() {
                        for token in 0..<tokens.count { scaled[token] = tile.row(row)[token] * factor }
                        pass.kernels.observe(scaled, tokens.count, Int32(start), &states[row][2 * index + half])
                    }
                }
            }
        }
        var outputs = TemperatureOutputs(tokens: temperatures.map { _ in [] })
        for row in 0..<range.count {
            for (index, temperature) in temperatures.enumerated() {
                let (state, half) = (states[row][2 * index], states[row][2 * index + 1])
                let logSum = log(state.sum)
                let nll = max(0, logSum + Double(state.largest) - Double(targets[row]) / temperature)
                let squares = half.sum / (state.sum * state.sum)
                outputs.tokens[index].append(
                    TemperatureOutputs.Token(
                        nll: nll.isNaN ? .nan : Float(nll), brier: Float(squares - 2 * exp(-nll) + 1),
                        entropy: Float(max(0, logSum - state.weighted / state.sum)), confidence: Float(1 / state.sum),
                        isTopRight: state.top == scored.targets[range.lowerBound + row]))
            }
        }
        return outputs
    }
}
