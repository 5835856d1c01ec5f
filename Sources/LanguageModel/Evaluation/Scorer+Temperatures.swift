internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension Scorer {
    /// Statistics of rows `range` of `scored` at each temperature, from tiles of logits that are made once.
    ///
    /// The sum of squares of exp(z / T) is the sum of exp(z / (T / 2)): what one kernel observes.
    static func score(
        _ scored: ScoredRows, _ range: Range<Int>, _ model: any Architecture, _ pass: ForwardPass, temperatures: [Double]
    ) throws(LanguageModelError) -> TemperatureSeries {
        let hidden = lastRows(scored, range, model, pass)
        let scales = temperatures.flatMap { [Float(1 / $0), Float(2 / $0)] }
        var states = [ck_distribution](repeating: Scorer.empty, count: range.count * scales.count)
        var targetLogits = [Float](repeating: .nan, count: range.count)
        let vocabulary = model.head.weight.rows
        for start in stride(from: 0, to: vocabulary, by: tileTokens) {
            let tokens = start..<min(start + tileTokens, vocabulary)
            let tile = try logits(hidden, tokens, model, pass, scratch: 6)
            let scaled = pass.scratch(7, 1, tokens.count).data
            for row in 0..<range.count {
                let values = tile.row(row)
                let target = Int(scored.targets[range.lowerBound + row])
                if tokens.contains(target) { targetLogits[row] = values[target - start] }
                for (index, scale) in scales.enumerated() {
                    for token in 0..<tokens.count { scaled[token] = values[token] * scale }
                    pass.kernels.observe(scaled, tokens.count, Int32(start), &states[row * scales.count + index])
                }
            }
        }
        return TemperatureSeries(outputs: temperatures.indices.map { index in
            var outputs = TemperedOutputs()
            for row in 0..<range.count {
                outputs.append(
                    states[row * scales.count + 2 * index], squares: states[row * scales.count + 2 * index + 1].sum,
                    targetLogit: targetLogits[row] * scales[2 * index], target: scored.targets[range.lowerBound + row])
            }
            return outputs
        })
    }
}

extension TemperedOutputs {
    /// - Parameter squares: sum of the squares of exp(z - largest).
    fileprivate mutating func append(_ state: ck_distribution, squares: Double, targetLogit: Float, target: Int32) {
        let logSum = log(state.sum)
        let below = Double(targetLogit) - Double(state.largest)
        let mean = state.weighted / state.sum
        nll.append(logSum - below)
        entropy.append(logSum - mean)
        brier.append(squares / (state.sum * state.sum) - 2 * exp(below - logSum) + 1)
        confidence.append(1 / state.sum)
        isRight.append(state.top == target)
        slope.append(below - mean)
    }
}
