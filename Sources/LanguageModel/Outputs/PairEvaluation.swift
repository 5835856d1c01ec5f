public import CheckpointStore

/// What two snapshots say about one probe, token by token: taken from records where they are kept, computed in one pass of both
/// models and kept where not.
///
/// The figures of the pair are a record of the strong snapshot; each model's own are the records that `EntropyEvaluation` keeps.
public struct PairEvaluation: Sendable {
    public let weak: EntropyEvaluation
    public let strong: EntropyEvaluation
    /// The strong model's share in the mixed logits.
    public let lambda: Float
    /// What the pair's record is kept under.
    public let key: EntropyKey

    var store: Store { strong.store }
    public var probe: ScoredProbe { strong.probe }

    /// - Throws: `.badInput` when lambda is not within 0 and 1; `.noSuchRef`.
    public init(
        _ store: Store, weak: String, strong: String, _ probe: ScoredProbe, lambda: Float, _ options: ScoringOptions
    ) throws(StoreError) {
        guard lambda > 0, lambda < 1 else { throw StoreError(.badInput, "lambda \(lambda) is not within 0 and 1") }
        self.weak = try EntropyEvaluation(store, weak, probe, options)
        self.strong = try EntropyEvaluation(store, strong, probe, options)
        self.lambda = lambda
        key = EntropyKey(
            snapshot: self.strong.key.snapshot, probe: probe.id,
            settings: RecordSettings.pair(probe, weak: self.weak.key.snapshot, lambda: lambda))
    }

    /// The record of the pair; nil before the first sample.
    public func record() throws(StoreError) -> EntropyRecord? { try store.entropyRecord(key) }

    /// Samples that it lacks.
    ///
    /// - Parameter sample: only this one; nil: any.
    public func missing(_ sample: Int? = nil) throws(StoreError) -> [Int] {
        let record = try record()
        return (sample.map { [$0] } ?? Array(probe.samples.indices)).filter { record?.contains($0) != true }
    }

    /// Refuses to go on with records that another program has begun, as `EntropyEvaluation.checkMaker` does.
    public func checkMakers() throws(StoreError) {
        try weak.checkMaker()
        try strong.checkMaker()
        if let record = try record(), !record.isComplete { try record.checkMaker(EntropyEvaluation.maker) }
    }

    /// Opens both models, to say what they will take before they start, as `EntropyEvaluation.openModel` does.
    ///
    /// - Throws: `StoreError`; `LanguageModelError`: `.mismatch` when they have vocabularies of different size.
    public func openModels(
        isStopped: @Sendable () -> Bool = { false }, decoding: @Sendable (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws -> (weak: LanguageModel, strong: LanguageModel) {
        let models = (
            weak: try weak.openModel(isStopped: isStopped, decoding: decoding),
            strong: try strong.openModel(isStopped: isStopped, decoding: decoding)
        )
        guard models.weak.vocabularySize == models.strong.vocabularySize else {
            throw LanguageModelError(
                .mismatch,
                "\(weak.ref) has a vocabulary of \(models.weak.vocabularySize) tokens, \(strong.ref) one of \(models.strong.vocabularySize): their distributions cannot be compared")
        }
        return models
    }

    /// Anonymous memory that `run` takes at most, in bytes: that of both models' passes on each thread.
    public func scoringMemory(_ models: (weak: LanguageModel, strong: LanguageModel)) -> Int {
        models.strong.scoringMemory(strong.options, against: models.weak)
    }

    /// Computes `missing` samples, writing them as they come: interrupted, it goes on from there the next time. Each model's own
    /// record gets what it lacks of them.
    ///
    /// - Throws: `StoreError`, `LanguageModelError`; what was computed until then is kept.
    /// - Complexity: O(tokens * parameters of both).
    public func run(
        _ models: (weak: LanguageModel, strong: LanguageModel), missing: [Int], isStopped: @Sendable () -> Bool,
        progress: @Sendable (ScoringProgress) -> Void
    ) throws {
        try checkMakers()
        var provenance = EntropyEvaluation.provenance(models.strong, strong.options)
        provenance["weak_model_type"] = models.weak.modelType
        let own = OutputWriter.Target(key: key, columns: RecordSettings.pairColumns, provenance: provenance)
        var meter = ScoringProgress(probe, missing)
        // The pair's record last: what it has, the models' own have too.
        try OutputWriter.write(to: [weak.target(models.weak), strong.target(models.strong), own], of: store) { writer in
            try models.strong.score(
                missing.map { probe.samples[$0] }, against: models.weak, lambda: lambda, strong.options, isStopped: isStopped
            ) { results in
                for (index, outputs) in results {
                    meter.add(outputs.strong)
                    writer.add(outputs.weak.of(missing[index]), to: 0)
                    writer.add(outputs.strong.of(missing[index]), to: 1)
                    writer.add(outputs.of(missing[index]), to: 2)
                }
                progress(meter)
                try writer.writeNowAndThen()
            }
        }
    }
}

extension PairOutputs {
    /// As a record has them.
    fileprivate func of(_ sample: Int) -> SampleOutputs {
        SampleOutputs(sample: sample, values: [strongToWeak, weakToStrong, logMixingConstant, hardNegatives])
    }
}
