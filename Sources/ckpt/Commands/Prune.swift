import ArgumentParser
import CheckpointReports
import CheckpointStore
import TensorFormats
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
            apply it after each snapshot, ckpt train at its end. --saved applies it now, --policies lists all, --forget removes it.

            \(ExitStatus.table)
            """.flowing)

    @Option(name: .customLong("run"), help: ArgumentHelp("Only this run; may be repeated (default: all).", valueName: "name"), completion: .run)
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
    @Flag(name: .customLong("policies"), help: "List the policies that the store keeps, and do nothing else.")
    var lists = false
    @Flag(name: .customLong("no-rebase"), help: "Leave blocks packed against what no snapshot has any more.")
    var leavesBases = false
    @OptionGroup var limits: ScoringLimits
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard [save, saved, forget, lists].count(where: { $0 }) < 2 else { throw ValidationError("--save, --saved, --forget or --policies, one of them") }
        guard !(dryRun && (save || forget)) else { throw ValidationError("--dry-run changes nothing: without --save or --forget") }
        guard !(saved || forget || lists) || rules.isEmpty else { throw ValidationError("--saved, --forget and --policies go without rules") }
    }

    func run() throws {
        let store = try options.open()
        if forget { return try forget(store) }
        if lists { return try list(store) }
        let pruner = Pruner(store: store, limits: limits, rebases: !leavesBases, isDryRun: dryRun, isJSON: options.json)
        if saved { return try applySaved(store, pruner) }
        let policy = try rules.policy()
        let all = Set(try store.history().map(\.run))
        // A policy may be there before its run; that for all others leaves those that have their own alone.
        let own = save && runs.isEmpty ? Set(try store.policies().compactMap(\.run)) : []
        let wanted = runs.isEmpty ? (own.isEmpty ? nil : all.subtracting(own).sorted()) : save ? runs.filter(all.contains) : runs
        let outcome = try pruner.prune(policy, wanted)
        // Only once it has proved to be one that can be applied.
        if save {
            for run in runs.isEmpty ? [nil] : runs.map({ Optional($0) }) { try store.savePolicy(policy, for: run) }
        }
        pruner.print(outcome)
        if save, !options.json { Console.print("kept as the policy of \(whose): ckpt ingest, watch and train apply it") }
    }

    private var whose: String { runs.isEmpty ? "all runs without their own" : "run \(runs.joined(separator: ", "))" }

    private func list(_ store: Store) throws {
        let policies = try store.policies().filter { policy in runs.isEmpty || policy.run.map(runs.contains) ?? true }
        if options.json {
            return Console.print(
                JSONOutput.array(policies.map { ["run": .optional($0.run), "policy": JSONOutput($0.policy.json)] }).text)
        }
        guard !policies.isEmpty else { return Console.print("no policy is kept") }
        for (run, policy) in policies { Console.print("\(run ?? "all runs without their own"): \(policy.json.text)") }
    }

    private func forget(_ store: Store) throws {
        for run in runs.isEmpty ? [nil] : runs.map({ Optional($0) }) where try !store.removePolicy(for: run) {
            let what = run.map { "run \($0)" } ?? "all runs"
            throw StoreError(.noSuchRef, "no policy is kept for \(what)", hint: "ckpt prune --policies lists those that are")
        }
        let text = options.json ? JSONOutput.object([("forgotten", .strings(runs.isEmpty ? ["*"] : runs))]).text : "the policy of \(whose) is forgotten"
        Console.print(text)
    }

    private func applySaved(_ store: Store, _ pruner: Pruner) throws {
        let all = Set(try store.history().map(\.run))
        let wanted = runs.isEmpty ? all.sorted() : runs
        var isAny = false
        for run in wanted {
            guard let policy = try store.policy(of: run) else { continue }
            isAny = true
            guard all.contains(run) else {
                Console.error(Console.printable("ckpt: note: run \(run) has a policy, and no snapshot yet"))
                continue
            }
            pruner.print(try pruner.prune(policy, [run]))
        }
        guard isAny else { throw StoreError(.badInput, "no policy is kept for these runs", hint: "ckpt prune ... --save keeps one") }
    }
}
