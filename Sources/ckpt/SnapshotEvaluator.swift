import CheckpointStore
import LanguageModel

/// Figures of a checkpoint on a probe, for the notes that a training writes beside its snapshots: the same checkpoint has the
/// same figures, whatever the number of threads.
struct SnapshotEvaluator {
    private let probe: ScoredProbe
    private let limits: ScoringLimits
    private let options: StoreOptions

    /// So few that no batch is cut: a sample's sums then do not depend on those beside it.
    private static let batchTokens = 512
    private static let marker = "####"

    init(_ store: Store, _ probe: String, _ limits: ScoringLimits, _ options: StoreOptions) throws(StoreError) {
        self.probe = try EntropyRunner.probe(store, probe, limits)
        self.limits = limits
        self.options = options
    }

    /// Means over all supervised tokens, in nats; and where the references have a "####", the share of right answers.
    func figures(_ directory: String) throws -> [(name: String, value: Double)] {
        let runner = try ModelRunner(directory, options)
        let isAnswerable = probe.probe.samples.allSatisfy { $0.completion?.contains(SnapshotEvaluator.marker) == true }
        let task = isAnswerable ? try AnswerTask(probe.probe, runner, AnswerRule(marker: SnapshotEvaluator.marker, pattern: nil)) : nil
        // As long as the longest reference, and half as much again for one that strays.
        let newTokens = 3 * (probe.samples.map(\.count).max() ?? 1) / 2
        let prompts = task?.requests.map(\.tokens.count).max() ?? 0
        let needed = max(probe.longest, prompts)
        let model = try runner.model(longest: runner.positions(needed: needed, wanted: max(needed, prompts + newTokens)))
        var scoring = limits.options
        scoring.batchTokens = SnapshotEvaluator.batchTokens
        var outputs = [TokenOutputs](repeating: TokenOutputs(), count: probe.samples.count)
        try model.score(probe.samples, scoring, isStopped: { Interrupt.isRequested }) { results in
            for (sample, found) in results { outputs[sample] = found }
        }
        let tokens = Double(max(1, outputs.reduce(0) { $0 + $1.entropy.count }))
        func mean(_ values: (TokenOutputs) -> [Float]) -> Double {
            outputs.reduce(0) { $0 + values($1).reduce(0) { $0 + Double($1) } } / tokens
        }
        var figures = [("nll", mean(\.nll)), ("entropy", mean(\.entropy))]
        if let task {
            let options = GenerationOptions(maximumNew: newTokens, ends: task.ends, threads: limits.threads)
            let made = try runner.generate(task.requests, options, model, "evaluating")
            let right = made.enumerated().count { task.judged($0, $1).isRight }
            figures.append(("accuracy", Double(right) / Double(max(1, made.count))))
        }
        return figures.map { (name: $0.0, value: $0.1) }
    }
}
