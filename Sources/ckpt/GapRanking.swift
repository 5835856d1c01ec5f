import CheckpointReports
import CheckpointStore
import LanguageModel
import WeakTraining

/// A run's snapshots, ranked by what they can still teach a strong one; entropies that the store lacks are computed.
struct GapRanking {
    struct Entry {
        var ref: String
        var step: UInt64
        var id: ContentID
    }

    let history: [Entry]
    let candidates: [GapValue.Candidate]
    let gap: GapValue
    let unigramNLL: Double
    let sampleCount: Int

    /// - Parameter beforeStep: only snapshots of lower steps are candidates; nil: all.
    /// - Throws: `StoreError`; `.badInput` where there is no candidate.
    init(
        _ store: Store, strong: String, run: String, beforeStep: UInt64? = nil, _ probe: ScoredProbe, _ limits: ScoringLimits,
        _ settings: GapValue.Settings
    ) throws(StoreError) {
        let strongID = try store.snapshot(strong).id
        let history = try store.history(of: run)
            .filter { entry in entry.id != strongID && beforeStep.map { entry.step < $0 } ?? true }
            .map { Entry(ref: "\(run)@\($0.step)", step: $0.step, id: $0.id) }
        guard !history.isEmpty else {
            throw StoreError(.badInput, "\(run): no snapshot but the strong one", hint: "ckpt log lists the runs")
        }
        let strongEvaluation = try EntropyRunner.evaluate(store, strong, probe, limits)
        Provenance.note("the figures of \(strong)", try strongEvaluation.record())
        let vocabulary = try strongEvaluation.vocabularySize()
        let strongMeans = try strongEvaluation.outputs().map(\.entropy)
        var candidates: [GapValue.Candidate] = []
        for entry in history {
            let evaluation = try EntropyEvaluation(store, entry.ref, probe, limits.options)
            if let vocabulary, let other = try evaluation.vocabularySize(), other != vocabulary {
                throw StoreError(
                    .badInput,
                    "\(entry.ref) has a vocabulary of \(other) tokens, \(strong) one of \(vocabulary): their entropies cannot be compared")
            }
            try EntropyRunner.complete(evaluation)
            guard evaluation.key.snapshot == entry.id else {
                throw StoreError(.conflict, "\(entry.ref): has become another snapshot meanwhile", hint: "the same command again")
            }
            Provenance.note("the figures of \(entry.ref)", try evaluation.record())
            candidates.append(GapValue.Candidate(try evaluation.outputs()))
        }
        self.history = history
        self.candidates = candidates
        sampleCount = strongMeans.count
        unigramNLL = probe.unigramNLL
        gap = GapValue(strong: strongMeans, candidates: candidates, unigramNLL: unigramNLL, settings)
    }

    /// What every snapshot refused means, as an error.
    func refusal(_ run: String, strong: String) -> StoreError {
        StoreError(
            .badInput, "\(run): every snapshot is refused as a weak one for \(strong)",
            hint: gap.rows.contains { $0.guarding == .tooClose }
                ? "an earlier snapshot; or a lower --min-gap for those that are too close"
                : "a later snapshot: these do no better than the frequencies of the tokens")
    }

    /// By their place in the greedy order.
    var rows: [GapValue.Row] { gap.rows.sorted { $0.pick < $1.pick } }

    var table: String {
        var table = TextTable([
            .init(title: "REF", shrinks: true), .init(title: "GAP VALUE", isNumber: true), .init(title: "INTERVAL"),
            .init(title: "MARGINAL", isNumber: true), .init(title: "MEAN DH", isNumber: true), .init(title: "NLL", isNumber: true),
            .init(title: ""),
        ])
        for row in rows {
            let note =
                switch row.guarding {
                case .none: gap.best == row.candidate ? "best" : ""
                case .tooClose: "too close"
                case .tooWeak: "too weak"
                }
            table.add([
                history[row.candidate].ref, Format.fixed(row.value.mean, 4),
                row.value.interval(of: sampleCount), Format.fixed(row.marginal, 4),
                Format.fixed(row.meanDH.mean, 4), Format.fixed(candidates[row.candidate].meanNLL, 4), note,
            ])
        }
        return table.text(width: Console.width) + "\nnats per token; the probe's unigram loss is \(Format.fixed(unigramNLL, 4))"
    }

    func json(strong: String) -> JSONOutput {
        [
            "strong": .string(strong), "unigram_nll": .double(unigramNLL),
            "best": .optional(gap.best.map { history[$0].ref }),
            "rows": .array(
                rows.map { row in
                    [
                        "ref": .string(history[row.candidate].ref), "step": .unsigned(history[row.candidate].step),
                        "snapshot": .string("\(history[row.candidate].id)"), "gap_value": .double(row.value.mean),
                        "low": .double(row.value.low), "high": .double(row.value.high), "marginal": .double(row.marginal),
                        "mean_dh": .double(row.meanDH.mean), "nll": .double(candidates[row.candidate].meanNLL),
                        "guard": .string(row.guarding.rawValue),
                    ]
                }),
        ]
    }
}
