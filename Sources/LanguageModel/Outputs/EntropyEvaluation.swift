public import CheckpointStore

/// The entropies of one snapshot on one probe: taken from its record where they are kept, computed and kept where not.
public struct EntropyEvaluation: Sendable {
    /// Where the record is kept.
    public let store: Store
    /// As the user named the snapshot.
    public let ref: String
    /// What the snapshot is run on.
    public let probe: ScoredProbe
    /// What the record is kept under; its snapshot is what the ref named when this was made.
    public let key: EntropyKey
    /// How it is run.
    public let options: ScoringOptions

    /// - Throws: `.noSuchRef`.
    public init(_ store: Store, _ ref: String, _ probe: ScoredProbe, _ options: ScoringOptions) throws(StoreError) {
        self.store = store
        self.ref = ref
        self.probe = probe
        self.options = options
        key = EntropyKey(snapshot: try store.snapshot(ref).id, probe: probe.id, settings: RecordSettings.own(probe))
    }

    /// The record; nil before the first sample.
    public func record() throws(StoreError) -> EntropyRecord? { try store.entropyRecord(key) }

    /// Whether every sample's outputs are in the store.
    public func isKept() throws(StoreError) -> Bool { try record()?.isComplete ?? false }

    /// Opens the model, to say what it will take before it starts. Weights that are packed are decoded ahead
    /// (`CheckpointContents.decodedAhead`), once it is clear that the model can be run.
    ///
    /// - Parameter decoding: bytes of weights decoded, and in all.
    /// - Throws: `StoreError`, `LanguageModelError`.
    public func openModel(
        isStopped: @Sendable () -> Bool = { false }, decoding: @Sendable (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws -> LanguageModel {
        let contents = try store.contents(ref)
        guard contents.id == key.snapshot else {
            throw StoreError(.conflict, "\(ref): has become another snapshot meanwhile", hint: "the same command again")
        }
        let model = try LanguageModel(contents, longest: probe.longest)
        try model.check(probe.samples)
        guard let decoded = try contents.decodedWhereNeeded(isCancelled: isStopped, progress: decoding) else { return model }
        return try LanguageModel(decoded, longest: probe.longest)
    }

    /// Refuses to go on with a record that another program has begun: figures of two would look like those of one.
    ///
    /// - Throws: `.conflict` naming the record and both.
    public func checkMaker() throws(StoreError) {
        if let record = try record(), !record.isComplete { try record.checkMaker(EntropyEvaluation.maker) }
    }

    /// The record as it is begun when the first figures of `model` come.
    func target(_ model: LanguageModel) -> OutputWriter.Target {
        OutputWriter.Target(
            key: key, columns: RecordSettings.columns, provenance: EntropyEvaluation.provenance(model, options))
    }

    /// What tells figures that are computed here from others.
    static let maker = ["program": "ckpt", "device": "cpu"]

    /// Tokens of the model's vocabulary, as its `config.json` says; nil when it has none or does not say.
    public func vocabularySize() throws(StoreError) -> Int? {
        guard let bytes = try store.sidecars(ref).contents("config.json"),
            let config = try? ConfigurationReader(bytes, path: "\(ref)/config.json"), let found = try? Architectures.named(config)
        else { return nil }
        return try? found.config.size("vocab_size")
    }

    static func provenance(_ model: LanguageModel, _ options: ScoringOptions) -> [String: String] {
        maker.merging([
            "version": CkptVersion.current, "model_type": model.modelType, "threads": "\(options.threadCount)",
            "batch_tokens": "\(options.batchTokens)",
        ]) { $1 }
    }

    /// Computes the samples the record lacks, writing them as they come: interrupted, it goes on from there the next time.
    ///
    /// - Throws: `StoreError`, `LanguageModelError`; what was computed until then is kept.
    /// - Complexity: O(tokens * parameters) for the samples that are not there.
    public func run(
        _ model: LanguageModel, isStopped: @Sendable () -> Bool, progress: @Sendable (ScoringProgress) -> Void
    ) throws {
        try checkMaker()
        let record = try record()
        let missing = probe.samples.indices.filter { record?.contains($0) != true }
        var meter = ScoringProgress(probe, missing)
        try OutputWriter.write(to: [target(model)], of: store) { writer in
            try model.score(missing.map { probe.samples[$0] }, options, isStopped: isStopped) { results in
                for (index, outputs) in results {
                    meter.add(outputs)
                    writer.add(outputs.of(missing[index]), to: 0)
                }
                progress(meter)
                try writer.writeNowAndThen()
            }
        }
    }

    /// The record's outputs, sample by sample.
    ///
    /// - Throws: `.conflict` when they are not all there: another process has removed the record meanwhile.
    public func outputs() throws(StoreError) -> [SampleMeans] {
        let all = try store.outputs(of: key)
        guard all.count == probe.samples.count else {
            throw StoreError(.conflict, "\(ref): its entropy record was removed meanwhile", hint: "the same command again")
        }
        return all.map { outputs in
            let right = zip(outputs.top1, probe.targets(outputs.sample)).reduce(0) { $0 + (Int32(bitPattern: $1.0) == $1.1.token ? 1 : 0) }
            return SampleMeans(
                id: probe.probe.samples[outputs.sample].id, tokens: outputs.count, entropy: SampleMeans.mean(outputs.values[0]),
                nll: SampleMeans.mean(outputs.values[1]), right: right)
        }
    }
}

extension TokenOutputs {
    /// As a record has them.
    func of(_ sample: Int) -> SampleOutputs {
        SampleOutputs(sample: sample, values: [entropy, nll], top1: top.map { UInt32(bitPattern: $0) })
    }
}
