import CheckpointStore
import LanguageModel

/// Figures of a checkpoint on a probe, for the notes that a training writes beside its snapshots.
struct SnapshotEvaluator {
    private let probe: ScoredProbe
    private let limits: ScoringLimits

    init(_ store: Store, _ probe: String, _ limits: ScoringLimits) throws(StoreError) {
        self.probe = try EntropyRunner.probe(store, probe, limits)
        self.limits = limits
    }

    /// Means over all supervised tokens, in nats.
    func figures(_ directory: String) throws -> [(name: String, value: Double)] {
        let model = try LanguageModel(CheckpointContents(path: directory), longest: probe.longest)
        let outputs = try model.score(probe.samples, limits.options)
        let tokens = Double(max(1, outputs.reduce(0) { $0 + $1.entropy.count }))
        func mean(_ values: (TokenOutputs) -> [Float]) -> Double {
            outputs.reduce(0) { $0 + values($1).reduce(0) { $0 + Double($1) } } / tokens
        }
        return [("nll", mean(\.nll)), ("entropy", mean(\.entropy))]
    }
}
