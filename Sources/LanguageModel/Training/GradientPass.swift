/// The loss of a batch of samples, and its gradient by the weights of the models that are trained.
///
/// A batch goes through in micro-batches; what their gradients add up to is that of the whole batch. Logits are made a chunk of
/// tokens at a time and never held whole. Results do not depend on the number of threads.
public final class GradientPass {
    /// The weak model whose logits are mixed in.
    public enum Weak {
        /// No weak model.
        case none
        /// Trained too, by its own share of the gradient.
        case trained(TrainedModel)
        /// Left as they are; each sample names one of them.
        case frozen([LanguageModel])
    }

    /// How a batch goes through.
    public struct Options: Sendable, Equatable {
        /// Tokens of a micro-batch: samples are added while they fit, one at least.
        public var microBatchTokens = 2048
        /// Whether layers are run again on the way back instead of keeping what they made.
        public var checkpointsActivations = false

        public init() {}
    }

    /// One sample of a batch.
    public struct Sample {
        public var sample: ScoringSample
        /// Which of the frozen weak models it is mixed with.
        public var weak: Int
        /// For each supervised token how the weak's logits are rotated; nil: not at all.
        public var rotations: [Rotation]?

        public init(_ sample: ScoringSample, weak: Int = 0, rotations: [Rotation]? = nil) {
            self.sample = sample
            self.weak = weak
            self.rotations = rotations
        }
    }

    private let pass: TrainingPass
    private let options: Options
    private let strong: ModelRun
    private let weak: ModelRun?
    private let frozen: [FrozenRun]
    private let logitBuffer = FloatBuffer()
    private let weakLogitBuffer = FloatBuffer()
    private let rotationBuffers: [FloatBuffer]

    /// - Throws: `.mismatch` when vocabularies differ in size.
    public init(_ strong: TrainedModel, _ weak: Weak, _ options: Options, _ team: ThreadTeam) throws(LanguageModelError) {
        self.options = options
        pass = TrainingPass(team)
        self.strong = ModelRun(strong, pass, isRecomputing: options.checkpointsActivations)
        var sizes = [strong.vocabularySize]
        switch weak {
        case .none: (self.weak, frozen) = (nil, [])
        case .trained(let model):
            self.weak = ModelRun(model, pass, isRecomputing: options.checkpointsActivations)
            frozen = []
            sizes.append(model.vocabularySize)
        case .frozen(let models):
            self.weak = nil
            var runs: [FrozenRun] = []
            // A twenty-fifth of what weights, gradients and moments take.
            let bytes = 16 * strong.weightCount / 25
            for model in models { runs.append(try FrozenRun(model, team, bytes: bytes / models.count)) }
            frozen = runs
            sizes += models.map(\.vocabularySize)
        }
        rotationBuffers = (0..<team.count).map { _ in FloatBuffer() }
        if let other = sizes.first(where: { $0 != sizes[0] }) {
            throw LanguageModelError(.mismatch, "the strong model has a vocabulary of \(sizes[0]), a weak one of \(other)")
        }
    }

    /// Adds the gradient of the mean loss over all supervised tokens of `samples` to the models' gradients.
    ///
    /// - Throws: `.mismatch` naming a sample with a token beyond the vocabulary or too many of them.
    /// - Complexity: O(tokens * parameters) for each model, three times what a forward pass takes; four with checkpoints.
    public func addGradients(_ samples: [Sample], _ settings: LossSettings) throws(LanguageModelError) -> LossFigures {
        try forEachMicroBatch(samples) { samples, weight throws(LanguageModelError) in
            try run(samples, settings, weight: weight)
        }
    }

    /// What `addGradients` would see, without a gradient.
    public func figures(of samples: [Sample], _ settings: LossSettings) throws(LanguageModelError) -> LossFigures {
        try forEachMicroBatch(samples) { samples, _ throws(LanguageModelError) in
            try run(samples, settings, weight: nil)
        }
    }

    private func forEachMicroBatch(
        _ samples: [Sample], _ body: ([Sample], _ weight: Float) throws(LanguageModelError) -> LossFigures
    ) throws(LanguageModelError) -> LossFigures {
        for (index, sample) in samples.enumerated() { try strong.model.check(sample.sample, index) }
        let tokens = samples.reduce(0) { $0 + $1.sample.count }
        var figures = LossFigures()
        var start = 0
        while start < samples.count {
            var end = start
            var size = 0
            while end < samples.count, end == start || size + samples[end].sample.inputCount <= options.microBatchTokens {
                size += samples[end].sample.inputCount
                end += 1
            }
            figures += try body(Array(samples[start..<end]), 1 / Float(max(1, tokens)))
            start = end
        }
        return figures
    }

    /// Rows whose logits are held at one time: 64 MiB of them, the weak model's too.
    private var chunkRows: Int {
        let most = min(512, max(64, (1 << 24) / strong.model.vocabularySize))
        return weak == nil && frozen.isEmpty ? most : most / 2
    }

    /// - Parameter weight: of a token in the gradient; nil: there is none.
    private func run(
        _ samples: [Sample], _ settings: LossSettings, weight: Float?
    ) throws(LanguageModelError) -> LossFigures {
        // Those of one frozen weak lie together.
        let samples = frozen.count > 1 ? samples.indices.sorted { (samples[$0].weak, $0) < (samples[$1].weak, $1) }.map { samples[$0] } : samples
        var batch = Batch()
        var scored = ScoredRows()
        var rotations: [Rotation?] = []
        var groups: [(weak: Int, sequences: Range<Int>, rows: Range<Int>)] = []
        for (index, sample) in samples.enumerated() {
            let first = batch.tokens.count
            let firstRow = scored.rows.count
            batch.append(sample.sample.tokens[..<sample.sample.inputCount])
            for position in sample.sample.supervised.joined() {
                scored.rows.append(first + position - 1)
                scored.targets.append(sample.sample.tokens[position])
            }
            rotations += sample.rotations ?? [Rotation?](repeating: nil, count: scored.rows.count - firstRow)
            let rows = firstRow..<scored.rows.count
            if let last = groups.indices.last, frozen.count < 2 || groups[last].weak == sample.weak {
                groups[last].sequences = groups[last].sequences.lowerBound..<index + 1
                groups[last].rows = groups[last].rows.lowerBound..<rows.upperBound
            } else {
                groups.append((sample.weak, index..<index + 1, rows))
            }
        }
        pass.begin(batch)
        strong.forward()
        weak?.forward()
        let loss = MixedLoss(settings, weight: weight, trainsWeak: weak != nil)
        let d = weight == nil ? nil : strong.zeroGradient()
        let dWeak = weight == nil ? nil : weak?.zeroGradient()
        var figures = LossFigures()
        for group in groups {
            let frozenHidden = try frozen.isEmpty ? nil : frozen[group.weak].run(batch, group.sequences, scored.rows[group.rows])
            for rows in Parts.of(group.rows, atMost: chunkRows) {
                let hidden = lastRows(strong, scored, rows, scratch: 5)
                let logits = logitBuffer.matrix(rows.count, strong.model.vocabularySize)
                pass.product.multiply(hidden.normed, head(strong).value, into: logits)
                var weakLogits: Matrix?
                var weakHidden: (raw: Matrix, normed: Matrix)?
                if let weak {
                    weakHidden = lastRows(weak, scored, rows, scratch: 7)
                    weakLogits = weakLogitBuffer.matrix(rows.count, logits.columns)
                    pass.product.multiply(weakHidden!.normed, head(weak).value, into: weakLogits!)
                } else if let frozenHidden {
                    weakLogits = weakLogitBuffer.matrix(rows.count, logits.columns)
                    let part = frozenHidden[rows: rows.lowerBound - group.rows.lowerBound..<rows.upperBound - group.rows.lowerBound]
                    try frozen[group.weak].logits(part, into: weakLogits!)
                }
                figures += turnIntoGradients(logits, weakLogits, scored.targets[rows], rotations[rows], loss)
                if let d { backward(strong, hidden, logits, scored.rows[rows], d) }
                if let weak, let weakHidden, let weakLogits, let dWeak {
                    backward(weak, weakHidden, weakLogits, scored.rows[rows], dWeak)
                }
            }
        }
        if let d { strong.backward(d) }
        if let weak, let dWeak { weak.backward(dWeak) }
        return figures
    }

    private func head(_ run: ModelRun) -> (value: Matrix, gradient: Matrix) {
        let parameters = run.model.parameters
        return (parameters.value(run.model.decoder.head), parameters.gradient(run.model.decoder.head))
    }

    /// Rows `range` of what is scored, before and after the last norm.
    private func lastRows(_ run: ModelRun, _ scored: ScoredRows, _ range: Range<Int>, scratch: Int) -> (raw: Matrix, normed: Matrix) {
        let raw = pass.scratch(scratch, range.count, run.model.decoder.width)
        let normed = pass.scratch(scratch + 1, range.count, run.model.decoder.width)
        let output = run.output
        for (index, at) in range.enumerated() { raw.row(index).update(from: output.row(scored.rows[at]), count: raw.columns) }
        run.model.decoder.finish(raw, pass, into: normed)
        return (raw, normed)
    }

    /// From the gradient of a chunk's logits to that of the rows of the last layer's output.
    private func backward(_ run: ModelRun, _ hidden: (raw: Matrix, normed: Matrix), _ dLogits: Matrix, _ rows: ArraySlice<Int>, _ d: Matrix) {
        let head = head(run)
        let dNormed = pass.scratch(9, hidden.raw.rows, hidden.raw.columns)
        pass.product.multiply(dLogits, transposed: head.value, into: dNormed)
        pass.product.addOuter(dLogits, hidden.normed, to: head.gradient)
        let dRaw = pass.scratch(10, hidden.raw.rows, hidden.raw.columns)
        dRaw.data.update(repeating: 0, count: dRaw.rows * dRaw.columns)
        run.model.decoder.finishBackward(hidden.raw, dNormed, pass, addingTo: dRaw)
        for (index, row) in rows.enumerated() { d.row(row).update(from: dRaw.row(index), count: d.columns) }
    }

    /// Logits (rows, V) become the gradient of the loss by them, each model's by its own.
    private func turnIntoGradients(
        _ logits: Matrix, _ weakLogits: Matrix?, _ targets: ArraySlice<Int32>, _ rotations: ArraySlice<Rotation?>, _ loss: MixedLoss
    ) -> LossFigures {
        var rows = [LossFigures](repeating: LossFigures(), count: logits.rows)
        rows.withUnsafeMutableBufferPointer { rows in
            // Written row by row, each by one thread.
            nonisolated(unsafe) let rows = rows
            pass.team.forEach(rows.count) { row, thread in
                rows[row] = loss.turnIntoGradient(
                    logits.row(row), weakLogits?.row(row), logits.columns, target: Int(targets[targets.startIndex + row]),
                    rotations[rotations.startIndex + row], rotationBuffers[thread])
            }
        }
        return rows.reduce(into: LossFigures()) { $0 += $1 }
    }
}
