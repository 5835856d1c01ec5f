public import CheckpointStore
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The entropies of one snapshot on one probe: taken from its record where they are kept, computed and kept where not.
public struct EntropyEvaluation: Sendable {
    public let store: Store
    /// As the user named the snapshot.
    public let ref: String
    public let probe: Probe
    public let key: EntropyKey
    public let options: ScoringOptions
    /// Samples that were cut at the right, by id.
    public let cutSamples: [String]

    private let samples: [ScoringSample]

    /// How far a computation is, in scored tokens.
    public struct Progress: Sendable {
        public var doneTokens: UInt64
        public var totalTokens: UInt64
    }

    /// Results are kept at most this long before they are written, in seconds: a commit costs an fsync.
    private static let secondsBetweenWrites = 2.0

    /// - Parameters:
    ///   - maximumLength: tokens of a sample that are read; the rest is cut off at the right.
    /// - Throws: `.noSuchRef`; `.badInput` naming a sample that has no scored token left once it is cut.
    public init(
        _ store: Store, _ ref: String, probe: String, maximumLength: Int, _ options: ScoringOptions
    ) throws(StoreError) {
        self.store = store
        self.ref = ref
        self.options = options
        let stored = try store.probe(probe)
        self.probe = stored.probe
        var samples: [ScoringSample] = []
        var cut: [String] = []
        for sample in stored.probe.samples {
            var scoring = ScoringSample(tokens: sample.tokens, supervised: sample.supervised)
            if sample.tokens.count > maximumLength {
                cut.append(sample.id)
                scoring.tokens = Array(sample.tokens[..<maximumLength])
                scoring.supervised = sample.supervised.map { $0.clamped(to: 1..<maximumLength) }.filter { !$0.isEmpty }
                guard scoring.count > 0 else {
                    throw StoreError(
                        .badInput, "probe \(probe): sample \(sample.id) has no scored token in its first \(maximumLength)",
                        hint: "a greater --max-length")
                }
            }
            samples.append(scoring)
        }
        self.samples = samples
        cutSamples = cut
        // A limit that cuts nothing changes nothing: it is not in the key.
        var settings = ["precision": "f32"]
        if !cut.isEmpty { settings["max_length"] = "\(maximumLength)" }
        key = EntropyKey(snapshot: try store.snapshot(ref).id, probe: stored.id, settings: settings)
    }

    /// Whether every sample's outputs are in the store.
    public func isKept() throws(StoreError) -> Bool { try store.entropyRecord(key)?.isComplete ?? false }

    /// Opens the model, to say what it will take before it starts.
    ///
    /// - Throws: `StoreError`, `LanguageModelError`.
    public func openModel() throws -> LanguageModel {
        let contents = try store.contents(ref)
        return try LanguageModel(contents, longest: samples.map(\.tokens.count).max() ?? 1)
    }

    /// Computes the samples the record lacks, writing them as they come: interrupted, it goes on from there the next time.
    ///
    /// - Throws: `StoreError`, `LanguageModelError`; what was computed until then is kept.
    /// - Complexity: O(tokens * parameters) for the samples that are not there.
    public func run(
        _ model: LanguageModel, isStopped: @Sendable () -> Bool, progress: @Sendable (Progress) -> Void
    ) throws {
        let record = try store.beginEntropyRecord(
            key, columns: [.entropy, .nll, .top1],
            provenance: [
                "program": "ckpt", "device": "cpu", "model_type": model.modelType, "threads": "\(options.threadCount)",
                "batch_tokens": "\(options.batchTokens)",
            ])
        let missing = samples.indices.filter { !record.contains($0) }
        let total = missing.reduce(0) { $0 + samples[$1].count }
        var done = 0
        var waiting: [SampleOutputs] = []
        var written = EntropyEvaluation.seconds
        func write() throws {
            guard !waiting.isEmpty else { return }
            try store.appendOutputs(waiting, to: key)
            waiting = []
            written = EntropyEvaluation.seconds
        }
        do {
            try model.score(missing.map { samples[$0] }, options, isStopped: isStopped) { results in
                for (index, outputs) in results {
                    done += outputs.entropy.count
                    waiting.append(
                        SampleOutputs(
                            sample: missing[index], values: [outputs.entropy, outputs.nll],
                            top1: outputs.top.map { UInt32(bitPattern: $0) }))
                }
                progress(Progress(doneTokens: UInt64(done), totalTokens: UInt64(total)))
                if EntropyEvaluation.seconds - written > EntropyEvaluation.secondsBetweenWrites { try write() }
            }
        } catch {
            try write()
            throw error
        }
        try write()
    }

    private static var seconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The record's outputs, sample by sample.
    public func outputs() throws(StoreError) -> [SampleMeans] {
        try store.outputs(of: key).map { outputs in
            let sample = samples[outputs.sample]
            let targets = sample.supervised.joined().map { sample.tokens[$0] }
            let right = zip(outputs.top1, targets).reduce(0) { $0 + (Int32(bitPattern: $1.0) == $1.1 ? 1 : 0) }
            return SampleMeans(
                id: probe.samples[outputs.sample].id, tokens: outputs.count, entropy: SampleMeans.mean(outputs.values[0]),
                nll: SampleMeans.mean(outputs.values[1]), right: right)
        }
    }

    /// Entropy of the scored tokens' own frequencies, in nats a token: a model that knows nothing but these reaches it.
    public var unigramNLL: Double {
        var counts: [Int32: Int] = [:]
        for sample in samples {
            for position in sample.supervised.joined() { counts[sample.tokens[position], default: 0] += 1 }
        }
        let total = Double(counts.values.reduce(0, +))
        return counts.values.sorted().reduce(0) { $0 - Double($1) / total * log(Double($1) / total) }
    }
}

/// One sample's outputs, averaged over its scored tokens, in nats.
public struct SampleMeans: Sendable, Equatable {
    public var id: String
    public var tokens: Int
    public var entropy: Double
    public var nll: Double
    /// Tokens that were the likeliest.
    public var right: Int

    public init(id: String, tokens: Int, entropy: Double, nll: Double, right: Int) {
        self.id = id
        self.tokens = tokens
        self.entropy = entropy
        self.nll = nll
        self.right = right
    }

    static func mean(_ values: [Float]) -> Double { values.reduce(0) { $0 + Double($1) } / Double(max(1, values.count)) }
}
