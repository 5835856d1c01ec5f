import ArgumentParser
import CheckpointStore
import WeakTraining

/// `ckpt prune`
struct Prune: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Drop snapshots that no rule keeps, and free what only they use.",
        discussion: """
            Rules combine: a snapshot that any of them keeps stays. Heads and pinned snapshots always stay, tagged ones
            unless --include-tagged, and those that a training which was stopped goes on with. Without a rule nothing is done.

            --keep-gap and --budget go by gap value (ckpt gap) on --probe: V(K), the mean over samples of what the best of
            the set can still teach. A snapshot without an entropy record stays, and is named. ADDS is what a snapshot is
            worth beside all that stay: of one that goes, what is lost with it.

            Blocks that stay only because others are packed against them are re-based where that takes less. Long free
            runs of the data file go back to the file system at once; ckpt compact gives the rest. Stopped anywhere, the
            store is whole, and the same command goes on.

            --save keeps the policy in the store, for the runs of --run or for all others: ckpt ingest and ckpt watch then
            apply it after each snapshot, ckpt train at its end. --saved applies it now, --forget removes it.

            \(ExitStatus.table)
            """.flowing)

    @Option(name: .customLong("run"), help: ArgumentHelp("Only this run; may be repeated (default: all).", valueName: "name"))
    var runs: [String] = []
    @OptionGroup(title: "Rules") var rules: PolicyArguments
    @Flag(name: [.customShort("n"), .long], help: "Say what would go, and change nothing.")
    var dryRun = false
    @Flag(help: "Keep the policy in the store too, for ingests to apply.")
    var save = false
    @Flag(help: "Apply the policies that the store keeps.")
    var saved = false
    @Flag(help: "Remove the policy that the store keeps.")
    var forget = false
    @Flag(name: .customLong("no-rebase"), help: "Leave blocks packed against what no snapshot has any more.")
    var leavesBases = false
    @OptionGroup var limits: ScoringLimits
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard [save, saved, forget].count(where: { $0 }) < 2 else { throw ValidationError("--save, --saved or --forget, one of them") }
        guard !(dryRun && (save || forget)) else { throw ValidationError("--dry-run changes nothing: without --save or --forget") }
        guard !(saved || forget) || rules.isEmpty else { throw ValidationError("--saved and --forget go without rules") }
    }

    func run() throws {
        let store = try options.open()
        if forget { return try forget(store) }
        let pruner = Pruner(store: store, limits: limits, rebases: !leavesBases, isDryRun: dryRun, isJSON: options.json)
        if saved { return try applySaved(store, pruner) }
        let policy = try rules.policy()
        // A policy may be there before its run.
        let known = save ? Set(try store.history().map(\.run)) : Set(runs)
        let outcome = try pruner.prune(policy, runs.isEmpty ? nil : runs.filter(known.contains))
        // Only once it has proved to be one that can be applied.
        if save {
            for run in runs.isEmpty ? [nil] : runs.map({ Optional($0) }) { try store.savePolicy(policy, for: run) }
        }
        pruner.print(outcome)
    }

    private func forget(_ store: Store) throws {
        for run in runs.isEmpty ? [nil] : runs.map({ Optional($0) }) where try !store.removePolicy(for: run) {
            let what = run.map { "run \($0)" } ?? "all runs"
            throw StoreError(.noSuchRef, "no policy is kept for \(what)", hint: "ckpt prune --saved --dry-run shows those that are")
        }
        if options.json { Console.print(JSONOutput.object([("forgotten", .strings(runs.isEmpty ? ["*"] : runs))]).text) }
    }

    private func applySaved(_ store: Store, _ pruner: Pruner) throws {
        let wanted = try runs.isEmpty ? Array(Set(store.history().map(\.run))).sorted() : runs
        var isAny = false
        for run in wanted {
            guard let policy = try store.policy(of: run) else { continue }
            isAny = true
            pruner.print(try pruner.prune(policy, [run]))
        }
        guard isAny else { throw StoreError(.badInput, "no policy is kept for these runs", hint: "ckpt prune ... --save keeps one") }
    }
}
