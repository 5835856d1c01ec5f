import CheckpointStore
import LanguageModel

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The samples of `ckpt eval`: a file's, made by each model's own tokenizer, or a probe's as they are.
struct EvaluationData {
    private enum Source {
        case lines([ProbeLine])
        case probe(Probe, ContentID)
    }
    /// As the user named it.
    let name: String
    private let source: Source

    /// - Parameters:
    ///   - limit: samples that are taken, from the first.
    ///   - keys: the members of a file's lines that hold the text.
    init(_ name: String, limit: Int?, keys: ProbeFile.TextKeys?, _ options: StoreOptions) throws(StoreError) {
        self.name = name
        if let stored = try EvaluationData.stored(name, options) {
            guard let limit, limit < stored.probe.samples.count else {
                source = .probe(stored.probe, stored.id)
                return
            }
            var probe = try Probe(samples: Array(stored.probe.samples.prefix(limit)))
            probe.tokenizer = stored.probe.tokenizer
            source = .probe(probe, probe.id)
        } else {
            let lines = try ProbeFile.read(name, keys: keys)
            source = .lines(Array(lines.prefix(limit ?? lines.count)))
        }
    }

    /// A probe, unless there is a file of that name that looks like one, or no probe has the name.
    private static func stored(_ name: String, _ options: StoreOptions) throws(StoreError) -> (probe: Probe, id: ContentID)? {
        let exists = name == "-" || access(name, F_OK) == 0
        if exists, name == "-" || name.contains("/") || name.hasSuffix(".jsonl") || name.hasSuffix(".json") { return nil }
        do throws(StoreError) {
            let stored = try options.open().probe(name)
            return (stored.probe, stored.id)
        } catch {
            guard exists, error.code == .noSuchRef || error.code == .noStore else { throw error }
            return nil
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
        case .lines(let lines):
            let tokenizer = try lines.allSatisfy { $0.sample != nil } ? nil : runner.tokenizer()
            let probe = try Probe(lines: lines, tokenizer: tokenizer?.id) { line in
                try runner.running { try tokenizer!.sample(line) }
            }
            if let tokenizer { ProbeTokenizer.noteLosses(lines, tokenizer) }
            return (probe, probe.id)
        }
    }
}
