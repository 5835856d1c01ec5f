import CheckpointStore
import LanguageModel

/// The samples of `ckpt eval`: a file's, made by each model's own tokenizer, or a probe's as they are.
struct EvaluationData {
    /// As the user named it.
    let name: String
    private let source: SampleSource

    /// - Parameters:
    ///   - limit: samples that are taken, from the first.
    ///   - keys: the members of a file's lines that hold the text.
    init(_ name: String, limit: Int?, keys: ProbeFile.TextKeys?, _ options: StoreOptions) throws(StoreError) {
        self.name = name
        switch try SampleSource(name, keys: keys, options) {
        case .lines(let lines, let file): source = .lines(Array(lines.prefix(limit ?? lines.count)), file: file)
        case .probe(let whole, let id):
            guard let limit, limit < whole.samples.count else {
                source = .probe(whole, id)
                return
            }
            var probe = try Probe(samples: Array(whole.samples.prefix(limit)))
            probe.tokenizer = whole.tokenizer
            source = .probe(probe, probe.id)
        }
    }

    /// The samples as one model reads them.
    func scored(_ runner: ModelRunner, _ limits: ScoringLimits) throws(StoreError) -> ScoredProbe {
        let (probe, id) = try probe(runner)
        let scored = try ScoredProbe(probe, id: id, name: name, maximumLength: limits.maximumLength)
        EntropyRunner.noteCuts(scored, limits)
        return scored
    }

    private func probe(_ runner: ModelRunner) throws(StoreError) -> (Probe, ContentID) {
        switch source {
        case .probe(let probe, let id):
            return (probe, id)
        case .lines(let lines, _):
            let tokenizer = try lines.allSatisfy { $0.sample != nil } ? nil : runner.tokenizer()
            let probe = try Probe(lines: lines, tokenizer: tokenizer?.id) { line in
                try runner.running { try tokenizer!.sample(line) }
            }
            if let tokenizer { ProbeTokenizer.noteLosses(lines, tokenizer) }
            return (probe, probe.id)
        }
    }
}
