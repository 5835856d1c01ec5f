import ArgumentParser
import CheckpointReports
import CheckpointStore
import LanguageModel
import WeakTraining

/// `ckpt entropy`
struct EntropyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "entropy",
        abstract: "Run a snapshot on a probe: how sure it is of each completion.",
        discussion: """
            For each supervised token, from the logits one position before it: the entropy of the distribution, the loss
            (NLL) of the token, and whether it was the likeliest. In nats per token, averaged over a sample's tokens, then
            over samples, with a 95 % bootstrap interval over samples. Results are kept in the store as they are computed:
            interrupted, the same command goes on; asked again, it reads them. Weights are read where they are.

            \(EntropyImport.help)

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @Option(help: "Show at most so many samples, the most uncertain first; 0: all. (--json has all.)")
    var limit = 10
    @Option(name: .customLong("import"), help: ArgumentHelp("Take in figures that were made elsewhere; runs nothing.", valueName: "file"), completion: .file())
    var importedFile: String?
    @OptionGroup var arguments: ScoringArguments
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard limit >= 0 else { throw ValidationError("--limit is not negative") }
        if importedFile != nil, arguments.limits.maxLength != nil || arguments.limits.threads != nil {
            throw ValidationError("--import runs nothing: --max-length and --threads do not go with it")
        }
    }

    func run() throws {
        let store = try options.open()
        if let importedFile {
            let outcome = try EntropyImport(store, ref, probe: arguments.probe, importedFile)
            Console.print(options.json ? outcome.json.text : outcome.text)
            return
        }
        let probe = try EntropyRunner.probe(store, arguments.probe, arguments.limits)
        let evaluation = try EntropyRunner.evaluate(store, ref, probe, arguments.limits)
        let means = try evaluation.outputs()
        let totals = Totals(means)
        if options.json {
            Console.print(try json(evaluation, means, totals).text)
            return
        }
        let tokens = means.reduce(0) { $0 + $1.tokens }
        Console.print("\(Format.count(means.count, "sample")), \(tokens) scored tokens; nats per token, 95 % intervals over samples")
        if let words = try evaluation.record().flatMap(Provenance.foreign) { Console.print(Console.printable("not computed here: from \(words)")) }
        var summary = TextTable([.init(title: ""), .init(title: "MEAN", isNumber: true), .init(title: "INTERVAL")])
        for (name, value) in [("entropy", totals.entropy), ("nll", totals.nll), ("top-1", totals.top1)] {
            summary.add([name, Format.fixed(value.mean, 4), value.interval(of: means.count)])
        }
        Console.print(summary.text(width: Console.width))
        var table = TextTable([
            .init(title: "SAMPLE", shrinks: true), .init(title: "TOKENS", isNumber: true), .init(title: "ENTROPY", isNumber: true),
            .init(title: "NLL", isNumber: true), .init(title: "TOP-1", isNumber: true),
        ])
        let order = means.sorted { $0.entropy > $1.entropy }
        for sample in order.prefix(limit == 0 ? order.count : limit) {
            table.add([
                sample.id, "\(sample.tokens)", Format.fixed(sample.entropy, 4), Format.fixed(sample.nll, 4),
                Format.percent(UInt64(sample.right), of: UInt64(sample.tokens)),
            ])
        }
        Console.print("\n" + table.text(width: Console.width))
        if limit > 0, means.count > limit { Console.print("\(means.count - limit) more; --limit 0 shows all") }
    }

    /// Means over samples with their intervals.
    struct Totals {
        var entropy: Bootstrap
        var nll: Bootstrap
        var top1: Bootstrap

        init(_ means: [SampleMeans]) {
            entropy = Bootstrap(means.map(\.entropy))
            nll = Bootstrap(means.map(\.nll))
            top1 = Bootstrap(means.map(\.top1))
        }
    }

    private func json(_ evaluation: EntropyEvaluation, _ means: [SampleMeans], _ totals: Totals) throws(StoreError) -> JSONOutput {
        [
            "snapshot": .string("\(evaluation.key.snapshot)"), "probe": .string("\(evaluation.key.probe)"),
            "settings": .texts(evaluation.key.settings),
            "provenance": .texts(try evaluation.record()?.provenance ?? [:]),
            "entropy": totals.entropy.json, "nll": totals.nll.json, "top1": totals.top1.json,
            "cut_samples": .strings(evaluation.probe.cutSamples),
            "samples": .array(
                means.map { sample in
                    [
                        "id": .string(sample.id), "tokens": .int(sample.tokens), "entropy": .double(sample.entropy),
                        "nll": .double(sample.nll), "top1": .double(sample.top1),
                    ]
                }),
        ]
    }
}
