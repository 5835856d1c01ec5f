internal import CheckpointDiff
package import CheckpointStore
package import LanguageModel
package import WeakTraining

/// What the snapshots of runs are worth, for a policy that asks for it. Entropies are taken from records; none is computed.
package struct WorthOfRuns {
    let store: Store
    let policy: RetentionPolicy
    /// Tokens of a sample that are read, as when its entropies were taken.
    let maximumLength: Int
    let monitor: Monitor
    /// Called with the run, and its pairs of snapshots that have been compared and are to be.
    let progress: (_ run: String, _ done: Int, _ pairs: Int) -> Void

    package init(
        store: Store, policy: RetentionPolicy, maximumLength: Int = 4096, monitor: Monitor = Monitor(),
        progress: @escaping (_ run: String, _ done: Int, _ pairs: Int) -> Void = { _, _, _ in }
    ) {
        self.store = store
        self.policy = policy
        self.maximumLength = maximumLength
        self.monitor = monitor
        self.progress = progress
    }

    /// By run.
    package func worths(_ runs: [String]) throws(StoreError) -> [String: SnapshotWorth] {
        var worths: [String: SnapshotWorth] = [:]
        for run in runs {
            switch policy.worth {
            case .gap(let probe, let leastGap): worths[run] = try gap(run, probe, leastGap)
            case .distance: worths[run] = try distances(run)
            case nil: break
            }
        }
        return worths
    }

    private func gap(_ run: String, _ name: String, _ leastGap: Double) throws(StoreError) -> SnapshotWorth {
        let probe = try ScoredProbe(store, name, maximumLength: maximumLength)
        let strongRef = policy.strong ?? run
        let strong = try EntropyEvaluation(store, strongRef, probe, ScoringOptions())
        guard try strong.isKept() else {
            throw StoreError(
                .badInput, "\(strongRef): no entropy record on probe \(name), against which gap values are taken",
                hint: "ckpt entropy \(strongRef) --probe \(name)")
        }
        var notes: [ContentID: String] = [:]
        var known: [(id: ContentID, candidate: GapValue.Candidate)] = []
        for entry in try store.history(of: run) where entry.id != strong.key.snapshot && notes[entry.id] == nil && !known.contains(where: { $0.id == entry.id }) {
            let evaluation = try EntropyEvaluation(store, "\(entry.id)", probe, ScoringOptions())
            if try evaluation.isKept() {
                known.append((entry.id, GapValue.Candidate(try evaluation.outputs())))
            } else {
                notes[entry.id] = "no entropy record"
            }
        }
        var settings = GapValue.Settings()
        settings.leastGap = leastGap
        let value = GapValue(
            strong: try strong.outputs().map(\.entropy), candidates: known.map(\.candidate), unigramNLL: probe.unigramNLL, settings)
        var gains: [ContentID: [Double]] = [:]
        for (index, row) in value.rows.enumerated() {
            gains[known[index].id] = value.gains[index]
            switch row.guarding {
            case .none: break
            case .tooClose: notes[known[index].id] = "too close"
            case .tooWeak: notes[known[index].id] = "too weak"
            }
        }
        return SnapshotWorth(gains: gains, notes: notes, strong: strong.key.snapshot)
    }

    /// How well snapshots stand for the run's others: g_i(W) is by how much nearer i lies to W than to the strong snapshot, in
    /// L2 over all weights, as a share of the strong one's own norm. Nothing is known of what they can teach: a proxy.
    private func distances(_ run: String) throws(StoreError) -> SnapshotWorth {
        let strong = try store.snapshot(policy.strong ?? run).id
        var ids: [ContentID] = []
        for entry in try store.history(of: run) where entry.id != strong && !ids.contains(entry.id) { ids.append(entry.id) }
        let all = ids + [strong]
        let pairs = all.count * (all.count - 1) / 2
        var distance = [[Double]](repeating: [Double](repeating: 0, count: all.count), count: all.count)
        var norm = 0.0
        var done = 0
        for first in all.indices {
            for second in all.indices where second > first {
                if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted; nothing was dropped") }
                let delta = try CheckpointDiff.compare(try store.contents(of: all[first]), try store.contents(of: all[second]))
                let weights = delta.compared.filter { $0.part == .weights }
                distance[first][second] = weights.reduce(0) { $0 + $1.sumDelta }.squareRoot()
                distance[second][first] = distance[first][second]
                if second == all.count - 1 { norm = max(norm, weights.reduce(0) { $0 + $1.sumSecond }.squareRoot()) }
                done += 1
                progress(run, done, pairs)
            }
        }
        var gains: [ContentID: [Double]] = [:]
        for (index, id) in ids.enumerated() {
            gains[id] = ids.indices.map { max(0, distance[$0][ids.count] - distance[$0][index]) / max(norm, .leastNormalMagnitude) }
        }
        return SnapshotWorth(gains: gains, strong: strong)
    }
}

extension GapValue.Candidate {
    /// A candidate by its record's means.
    package init(_ means: [SampleMeans]) {
        let tokens = means.reduce(0) { $0 + $1.tokens }
        let loss = means.reduce(0) { $0 + $1.nll * Double($1.tokens) }
        self.init(entropy: means.map(\.entropy), meanNLL: loss / Double(max(1, tokens)))
    }
}
