import ArgumentParser
import CheckpointReports
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

    @Argument(help: "The strong snapshot.", completion: .snapshot)
    var strong: String
    @Option(name: .customLong("run"), help: ArgumentHelp("The run whose snapshots are ranked.", valueName: "name"), completion: .run)
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
        let probe = try EntropyRunner.probe(store, arguments.probe, arguments.limits)
        var settings = GapValue.Settings()
        settings.leastGap = minGap
        let ranking = try GapRanking(store, strong: strong, run: runName, probe, arguments.limits, settings)
        Console.print(options.json ? ranking.json(strong: strong).text : ranking.table)
        if ranking.gap.best == nil { throw ranking.refusal(runName, strong: strong) }
    }
}
