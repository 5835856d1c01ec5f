import ArgumentParser
import CheckpointStore
import LanguageModel
import WeakTraining

/// `ckpt gap`
struct Gap: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Rank a run's snapshots by what they can still teach a strong one.",
        discussion: """
            The gap value of a snapshot W for the strong S is the mean over samples of .8 [H_W - H_S]+ + .1 [H_S - H_W]+, H the
            mean entropy of a sample's completion in nats per token (weak-driven learning, arXiv 2602.08222). MARGINAL is what
            a snapshot adds to those picked before it, the best first. MEAN DH is the mean over samples of H_S - H_W: below
            zero S is surer. NLL is W's loss over all supervised tokens together (ckpt entropy and diff average it by sample).

            A snapshot is refused, with value 0, when it is too close (lower 95 % bound of mean(H_W - H_S) under --min-gap; one
            that is surer than S too) or too weak (its NLL is not below the probe's unigram loss, which is the entropy of the
            supervised tokens' own frequencies). Of snapshots whose intervals overlap the later is marked best. Entropies that
            the store lacks are computed first and kept.

            When every snapshot is refused it exits with 65.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The strong snapshot.")
    var strong: String
    @Option(name: .customLong("run"), help: ArgumentHelp("The run whose snapshots are ranked.", valueName: "name"))
    var runName: String
    @Option(help: ArgumentHelp("Nats per token that a snapshot must be less sure by.", valueName: "nats"))
    var minGap = 0.02
    @OptionGroup var arguments: ScoringArguments
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard minGap.isFinite else { throw ValidationError("--min-gap is a number") }
    }

    func run() throws {
        let store = try options.open()
        let strongID = try store.snapshot(strong).id
        var history: [(ref: String, step: UInt64, id: ContentID)] = []
        for entry in try store.history(of: runName) where entry.id != strongID {
            history.append(("\(runName)@\(entry.step)", entry.step, entry.id))
        }
        guard !history.isEmpty else {
            throw StoreError(.badInput, "\(runName): no snapshot but the strong one", hint: "ckpt log lists the runs")
        }
        let probe = try EntropyRunner.probe(store, arguments.probe, arguments.limits)
        let strongEvaluation = try EntropyRunner.evaluate(store, strong, probe, arguments.limits)
        Provenance.note("the figures of \(strong)", try strongEvaluation.record())
        let vocabulary = try strongEvaluation.vocabularySize()
        let strongMeans = try strongEvaluation.outputs().map(\.entropy)
        var candidates: [GapValue.Candidate] = []
        for entry in history {
            let evaluation = try EntropyEvaluation(store, entry.ref, probe, arguments.limits.options)
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
            let means = try evaluation.outputs()
            let tokens = means.reduce(0) { $0 + $1.tokens }
            let loss = means.reduce(0) { $0 + $1.nll * Double($1.tokens) }
            candidates.append(GapValue.Candidate(entropy: means.map(\.entropy), meanNLL: loss / Double(max(1, tokens))))
        }
        var settings = GapValue.Settings()
        settings.leastGap = minGap
        let unigram = probe.unigramNLL
        let gap = GapValue(strong: strongMeans, candidates: candidates, unigramNLL: unigram, settings)
        let rows = gap.rows.sorted { $0.pick < $1.pick }
        if options.json {
            Console.print(json(rows, history, candidates, gap, unigram).text)
        } else {
            show(rows, history, candidates, gap, unigram, sampleCount: strongMeans.count)
        }
        if gap.best == nil {
            throw StoreError(
                .badInput, "\(runName): every snapshot is refused as a weak one for \(strong)",
                hint: gap.rows.contains { $0.guarding == .tooClose }
                    ? "an earlier snapshot; or a lower --min-gap for those that are too close"
                    : "a later snapshot: these do no better than the frequencies of the tokens")
        }
    }

    private func show(
        _ rows: [GapValue.Row], _ history: [(ref: String, step: UInt64, id: ContentID)], _ candidates: [GapValue.Candidate],
        _ gap: GapValue, _ unigram: Double, sampleCount: Int
    ) {
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
        Console.print(table.text(width: Console.width))
        Console.print("nats per token; the probe's unigram loss is \(Format.fixed(unigram, 4))")
    }

    private func json(
        _ rows: [GapValue.Row], _ history: [(ref: String, step: UInt64, id: ContentID)], _ candidates: [GapValue.Candidate],
        _ gap: GapValue, _ unigram: Double
    ) -> JSONOutput {
        [
            "strong": .string(strong), "unigram_nll": .double(unigram),
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
