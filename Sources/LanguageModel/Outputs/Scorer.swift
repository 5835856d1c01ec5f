internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Rows of a batch whose logits are wanted, and the tokens they predict.
struct ScoredRows {
    var rows: [Int] = []
    var targets: [Int32] = []
}

/// Turns the last layer's output into statistics of its distribution, a few rows by a few tokens of the vocabulary at a time:
/// logits are never held whole.
struct Scorer {
    /// Rows and tokens of a tile of logits: 512 KiB of floats, read back from the cache they were written to.
    static let tileRows = 512
    static let tileTokens = DenseProduct.panelRows

    /// Statistics of rows `range` of `scored`, by one model.
    static func score(
        _ scored: ScoredRows, _ range: Range<Int>, _ model: any Architecture, _ pass: ForwardPass
    ) throws(LanguageModelError) -> TokenOutputs {
        let hidden = lastRows(scored, range, model, pass)
        var states = [ck_distribution](repeating: Scorer.empty, count: range.count)
        var targetLogits = [Float](repeating: .nan, count: range.count)
        let vocabulary = model.head.weight.rows
        for start in stride(from: 0, to: vocabulary, by: tileTokens) {
            let tokens = start..<min(start + tileTokens, vocabulary)
            let tile = try logits(hidden, tokens, model, pass, scratch: 6)
            for row in 0..<range.count {
                pass.kernels.observe(tile.row(row), tokens.count, Int32(start), &states[row])
                let target = Int(scored.targets[range.lowerBound + row])
                if tokens.contains(target) { targetLogits[row] = tile.row(row)[target - start] }
            }
        }
        var outputs = TokenOutputs()
        outputs.reserve(range.count)
        for (state, logit) in zip(states, targetLogits) { outputs.append(state, targetLogit: logit) }
        return outputs
    }

    static let empty = ck_distribution(largest: -.infinity, top: 0, sum: 0, weighted: 0)

    /// The last norm's output for the rows wanted, (range.count, D).
    static func lastRows(
        _ scored: ScoredRows, _ range: Range<Int>, _ model: any Architecture, _ pass: ForwardPass
    ) -> Matrix {
        let hidden = pass.scratch(5, range.count, model.width)
        for (index, at) in range.enumerated() {
            hidden.row(index).update(from: pass.stream.row(scored.rows[at]), count: model.width)
        }
        model.finish(hidden, pass, into: hidden)
        return hidden
    }

    /// Logits of `tokens`, (rows, tokens.count).
    static func logits(
        _ hidden: Matrix, _ tokens: Range<Int>, _ model: any Architecture, _ pass: ForwardPass, scratch: Int
    ) throws(LanguageModelError) -> Matrix {
        let tile = pass.scratch(scratch, hidden.rows, tokens.count)
        try pass.product.multiply(hidden, model.head.weight, rows: tokens, into: tile)
        if let cap = model.logitCap { pass.kernels.soft_cap(tile.data, tile.rows * tile.columns, cap) }
        return tile
    }

    /// Statistics of rows `range` by two models that read the same batch.
    static func score(
        _ scored: ScoredRows, _ range: Range<Int>, strong: (any Architecture, ForwardPass), weak: (any Architecture, ForwardPass),
        lambda: Float
    ) throws(LanguageModelError) -> PairOutputs {
        let hidden = lastRows(scored, range, strong.0, strong.1)
        let weakHidden = lastRows(scored, range, weak.0, weak.1)
        let differences = try zip(
            targetLogits(hidden, scored, range, strong.0, strong.1), targetLogits(weakHidden, scored, range, weak.0, weak.1)
        ).map { $0 - $1 }
        var states = [ck_distribution](repeating: Scorer.empty, count: range.count)
        var weakStates = states
        var pairs = [ck_pair](
            repeating: ck_pair(
                strong_difference: 0, weak_difference: 0, largest_mix: -.infinity, mix: 0, hard_negatives: 0),
            count: range.count)
        var targetLogits = [(strong: Float, weak: Float)](repeating: (.nan, .nan), count: range.count)
        let vocabulary = strong.0.head.weight.rows
        let kernels = strong.1.kernels
        for start in stride(from: 0, to: vocabulary, by: tileTokens) {
            let tokens = start..<min(start + tileTokens, vocabulary)
            let tile = try logits(hidden, tokens, strong.0, strong.1, scratch: 6)
            let weakTile = try logits(weakHidden, tokens, weak.0, weak.1, scratch: 6)
            for row in 0..<range.count {
                let (a, b) = (tile.row(row), weakTile.row(row))
                let before = (states[row].largest, weakStates[row].largest)
                kernels.observe(a, tokens.count, Int32(start), &states[row])
                kernels.observe(b, tokens.count, Int32(start), &weakStates[row])
                kernels.observe_pair(
                    a, b, tokens.count, &states[row], &weakStates[row], before.0, before.1, lambda, differences[row], &pairs[row])
                let target = Int(scored.targets[range.lowerBound + row]) - start
                if target >= 0, target < tokens.count {
                    targetLogits[row] = (a[target], b[target])
                    // The target is no negative of its own; rounding may have made it one.
                    if a[target] - b[target] < differences[row] { pairs[row].hard_negatives -= 1 }
                }
            }
        }
        var outputs = PairOutputs()
        for row in 0..<range.count {
            outputs.strong.append(states[row], targetLogit: targetLogits[row].strong)
            outputs.weak.append(weakStates[row], targetLogit: targetLogits[row].weak)
            outputs.append(pairs[row], states[row], weakStates[row], lambda: lambda, vocabulary: vocabulary)
        }
        return outputs
    }

    /// The logit of each row's target by itself: it must be known before the vocabulary is gone through.
    private static func targetLogits(
        _ hidden: Matrix, _ scored: ScoredRows, _ range: Range<Int>, _ model: any Architecture, _ pass: ForwardPass
    ) throws(LanguageModelError) -> [Float] {
        let rows = pass.scratch(7, range.count, hidden.columns)
        try pass.product.lookUp(scored.targets[range], in: model.head.weight, into: rows)
        var logits = (0..<range.count).map { row in
            var sum = 0.0
            let (x, w) = (hidden.row(row), rows.row(row))
            for column in 0..<hidden.columns { sum += Double(x[column]) * Double(w[column]) }
            return Float(sum)
        }
        if let cap = model.logitCap { pass.kernels.soft_cap(&logits, logits.count, cap) }
        return logits
    }
}

extension TokenOutputs {
    mutating func reserve(_ count: Int) {
        entropy.reserveCapacity(count)
        nll.reserveCapacity(count)
        top.reserveCapacity(count)
    }

    mutating func append(_ state: ck_distribution, targetLogit: Float) {
        entropy.append(Float(state.entropy))
        nll.append(Float(state.nll(targetLogit)))
        top.append(state.top)
    }

    mutating func append(contentsOf other: TokenOutputs) {
        entropy += other.entropy
        nll += other.nll
        top += other.top
    }
}

extension PairOutputs {
    mutating func append(_ pair: ck_pair, _ strong: ck_distribution, _ weak: ck_distribution, lambda: Float, vocabulary: Int) {
        let (logStrong, logWeak) = (strong.logSum, weak.logSum)
        let share = Double(lambda)
        strongToWeak.append(Float(atLeastZero(pair.strong_difference / strong.sum - logStrong + logWeak)))
        weakToStrong.append(Float(atLeastZero(pair.weak_difference / weak.sum - logWeak + logStrong)))
        let logMix = log(pair.mix) + Double(pair.largest_mix)
        logMixingConstant.append(Float(-atLeastZero(share * logStrong + (1 - share) * logWeak - logMix)))
        hardNegatives.append(Float(pair.hard_negatives) / Float(max(1, vocabulary - 1)))
    }

    mutating func append(contentsOf other: PairOutputs) {
        strong.append(contentsOf: other.strong)
        weak.append(contentsOf: other.weak)
        strongToWeak += other.strongToWeak
        weakToStrong += other.weakToStrong
        logMixingConstant += other.logMixingConstant
        hardNegatives += other.hardNegatives
    }
}
