import ArgumentParser
import CheckpointStore
import LanguageModel
import TensorFormats
import WeakTraining

/// `ckpt train`
struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train a snapshot further, with a weak snapshot's logits mixed in.",
        discussion: """
            A model that is sure of its targets has no gradients left to learn from. Weak-driven learning (arXiv 2602.08222)
            mixes an older snapshot's logits in: the loss is -ln softmax(lambda z_strong + (1 - lambda) z_weak)[y], and samples are
            drawn by what the two are unsure of. Only the strong model is kept for use.

            --data is a file of JSON lines, as "ckpt probe add" reads them, or a probe. A file is kept as a probe, named for it and
            its content ("ckpt probe ls"); for samples without an end of sequence "ckpt probe add --no-eos" makes one. The
            snapshots go to --run; a weak model that is trained too goes to RUN.weak. --weak auto takes the best of the strong
            snapshot's run by gap value ("ckpt gap").
            --weak A,B,... with --weak-branch frozen mixes each sample with the one of greatest gap. --preset sft trains plainly,
            from a snapshot or, with --init, from random weights; those need a rate of 1e-3 or so.

            Stopped in any way, the same command goes on where it was, and the snapshots are the same byte for byte.

            PRESETS
            \(Preset.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

            \(ExitStatus.table)
            """.flowing)

    @Option(help: ArgumentHelp("The snapshot to train.", valueName: "ref"), completion: .snapshot)
    var strong: String?
    @Option(name: .customLong("init"), help: ArgumentHelp("Begin with random weights for the config.json of this directory or snapshot, with its tokenizer.json.", valueName: "dir|ref"), completion: .snapshotOrPath)
    var initial: String?
    @Option(help: ArgumentHelp("The weak snapshot, several, or auto.", valueName: "ref|auto|a,b"), completion: .snapshots)
    var weak: String?
    @Option(help: ArgumentHelp("What is trained on: a file or a probe.", valueName: "file|probe"), completion: .probeOrPath)
    var data: String
    @Option(help: ArgumentHelp("The member of a file's lines that holds the prompt.", valueName: "key"))
    var promptKey: String?
    @Option(help: ArgumentHelp("The member that holds the completion.", valueName: "key"))
    var completionKey: String?
    @Option(name: .customLong("run"), help: ArgumentHelp("The run to write (default: the strong snapshot's, with the preset behind it).", valueName: "name"), completion: .run)
    var runName: String?
    @OptionGroup(title: "Method") var recipe: RecipeArguments
    @OptionGroup(title: "Length and rate") var plan: PlanArguments
    @Option(help: ArgumentHelp("Steps from snapshot to snapshot (default: 100).", valueName: "n"))
    var saveEvery: Int?
    @Option(name: .customLong("eval"), help: ArgumentHelp("Evaluate each snapshot on this.", valueName: "file|probe"), completion: .probeOrPath)
    var evaluation: String?
    @Option(help: ArgumentHelp("Of the snapshots: bf16, f16 or f32 (default: as the one it begins with).", valueName: "dtype"), completion: .list(["bf16", "f16", "f32"]))
    var dtype: String?
    @Option(help: ArgumentHelp("Tokens that go through the models at once; more take more memory (default: 2048).", valueName: "tokens"))
    var microBatchTokens: Int?
    @Flag(help: "Keep less of the forward pass and compute it again: less memory, more time.")
    var checkpointActivations = false
    @Flag(help: "Go on with a training that another kind of processor began, though sums differ in their last bits.")
    var allowInexactResume = false
    @Option(help: ArgumentHelp("Threads (default: one for each processor). The snapshots do not depend on it.", valueName: "n"))
    var threads: Int?
    @Option(help: ArgumentHelp("Write a line of JSON for each step to this file too.", valueName: "file"), completion: .file())
    var log: String?
    @Option(help: ArgumentHelp("Write a page with the curves at each snapshot and at the end.", valueName: "file"), completion: .file(extensions: ["html"]))
    var report: String?
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard (strong == nil) != (initial == nil) else {
            throw ValidationError("either --strong REF, a snapshot to train, or --init DIR, a configuration to begin anew with")
        }
        guard saveEvery ?? 1 > 0 else { throw ValidationError("--save-every is at least 1") }
        guard microBatchTokens ?? 1 > 0 else { throw ValidationError("--micro-batch-tokens is at least 1") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
        guard dtype.map({ Train.dtypes[$0] != nil }) ?? true else { throw ValidationError("--dtype is bf16, f16 or f32") }
        guard initial == nil || runName != nil else { throw ValidationError("--init needs --run: the name of what begins") }
        guard initial == nil || weak != "auto" else {
            throw ValidationError("--weak auto chooses from the history before the strong snapshot, and --init has none: --preset sft first")
        }
        do {
            _ = try asked()
        } catch {
            throw ValidationError(error.reason + (error.hint.map { " (\($0))" } ?? ""))
        }
    }

    /// The recipe, the plan and the weak snapshots by name.
    private func asked() throws(WeakTrainingError) -> (recipe: Recipe, plan: TrainingPlan, weaks: [String]) {
        let recipe = try recipe.recipe(initial == nil && weak != nil ? .wmss : .sft)
        let weaks = weak.map { $0.split(separator: ",", omittingEmptySubsequences: true).map(String.init) } ?? []
        try recipe.check(weaks: weaks)
        return (recipe, try plan.plan(recipe), weaks)
    }

    private static let dtypes: [String: DType] = ["bf16": .bf16, "f16": .f16, "f32": .f32, "fp32": .f32, "fp16": .f16]

    func run() throws {
        do {
            try train()
        } catch let error as WeakTrainingError {
            throw StoreError(.badInput, error.reason, hint: error.hint)
        } catch let error as LanguageModelError {
            throw StoreError(running: error, strong ?? initial ?? "")
        }
    }

    private func train() throws {
        let store = try options.open()
        let (recipe, plan, weakRefs) = try asked()
        let beginning = try beginning(store)
        let keys = ProbeFile.TextKeys(prompt: promptKey, completion: completionKey)
        func kept(_ name: String) throws(StoreError) -> ContentID {
            try SampleSource(name, keys: keys, options).kept(in: store, tokenizer: beginning.name)
        }
        let limits = ScoringLimits(maxLength: plan.maximumLength, threads: threads)
        let isAutomatic = weakRefs == ["auto"]
        let settings = TrainingSettings(
            run: runName ?? "\(beginning.run)-\(recipe.preset.rawValue)", plan: plan, start: beginning.start,
            weaks: isAutomatic ? [] : try weakRefs.map { ref throws(StoreError) in try store.snapshot(ref).id }, choosesWeak: isAutomatic,
            data: try kept(data), evaluation: try evaluation.map(kept), dtype: dtype.flatMap { Train.dtypes[$0] },
            microBatchTokens: microBatchTokens ?? TrainingSettings.defaultMicroBatchTokens,
            saveInterval: saveEvery ?? TrainingSettings.defaultSaveInterval)
        if case .snapshot(let id) = settings.start, settings.weaks.contains(id) {
            Console.error("ckpt: note: the strong snapshot is a weak one too: the two start equal")
        }
        let probe = try EntropyRunner.probe(store, "\(settings.data)", limits)
        let console = TrainingConsole(settings, isJSON: options.json) { store.name(of: $0) }
        let trainer = try trainer(store, settings, files: beginning.files, probe, limits, console)
        ModelNotes.printUnused(beginning.name, trainer.unusedTensors, "; the snapshots are without them")
        if let strong {
            try ModelNotes.printSamples(
                strong, trainedLength: LanguageModel.trainedLength(store.contents(strong)), probe, store.sidecars(strong))
        }
        console.resumes(from: trainer.stepsDone)
        defer { Console.endProgress() }
        // A page that cannot be written is known before the training, not after it.
        if let report { try TrainingReport.write(trainer, settings, to: report) }
        try trainer.train()
        Console.endProgress()
        if let report { try TrainingReport.write(trainer, settings, to: report) }
        console.finished(try store.history(of: settings.run))
        let policy = PolicyAfterIngest(store: store, isJSON: options.json)
        let runs = Set(try store.history().map(\.run))
        for run in [settings.run, settings.weakRun] where runs.contains(run) { policy.apply(to: run) }
    }

    private func trainer(
        _ store: Store, _ settings: TrainingSettings, files: Sidecars?, _ probe: ScoredProbe, _ limits: ScoringLimits,
        _ console: TrainingConsole
    ) throws -> Trainer {
        let evaluator = try settings.evaluation.map { id in try SnapshotEvaluator(store, "\(id)", limits, options) }
        weak var trained: Trainer?
        let host = TrainerHost(
            entropies: { id in try EntropyRunner.evaluate(store, store.name(of: id), probe, limits).outputs().map(\.entropy) },
            chooseWeak: { id in try Train.chooseWeak(store, strong: id, probe, limits) },
            evaluate: { directory in try evaluator?.figures(directory) ?? [] }, stepped: console.stepped,
            saved: { saved in
                console.saved(saved)
                // What cannot be written now is said at the end.
                if let trained, let report { try? TrainingReport.write(trained, settings, to: report) }
            },
            began: console.began, isStopped: { Interrupt.isRequested })
        var means = Trainer.Options()
        if let threads { means.threads = threads }
        means.checkpointsActivations = checkpointActivations
        means.allowsInexactResume = allowInexactResume
        means.logPath = log
        let trainer = try Trainer(store, settings, host, files: files, options: means)
        trained = trainer
        return trainer
    }

    /// What training begins with.
    private struct Beginning {
        /// As it was named.
        var name: String
        var start: TrainingSettings.Start
        /// The run a snapshot stands in.
        var run: String
        /// For random weights, those that describe the model.
        var files: Sidecars?
    }

    private func beginning(_ store: Store) throws(StoreError) -> Beginning {
        if let strong {
            let step = try Train.snapshot(strong, store)
            return Beginning(name: strong, start: .snapshot(step.id), run: step.run)
        }
        let name = initial!
        let files: Sidecars
        do throws(StoreError) {
            files = try ProbeTokenizer.files(name, store).0
        } catch where error.code == .noSuchRef {
            throw StoreError(.noSuchRef, "--init \(name): neither a directory nor a snapshot")
        }
        guard let config = try files.contents("config.json") else {
            throw StoreError(.badInput, "\(name): no config.json", hint: "--init DIR, with a model's config.json and tokenizer.json")
        }
        return Beginning(name: name, start: .random(ContentID.hash(of: config)), run: name, files: files)
    }

    /// Where a snapshot stands; for a path, what to do with it.
    private static func snapshot(_ strong: String, _ store: Store) throws(StoreError) -> HistoryEntry {
        do throws(StoreError) {
            return try store.steps(of: strong)[0]
        } catch where error.code == .noSuchRef && strong.contains("/") {
            throw StoreError(.noSuchRef, error.reason, hint: "ckpt ingest takes a directory in; then name it by run@step")
        }
    }

    /// The best weak snapshot of the runs that the strong one stands in, of those before it.
    private static func chooseWeak(
        _ store: Store, strong: ContentID, _ probe: ScoredProbe, _ limits: ScoringLimits
    ) throws(StoreError) -> ContentID {
        let step = try store.steps(of: "\(strong)")[0]
        let name = store.name(of: strong)
        let ranking = try GapRanking(
            store, strong: name, run: step.run, beforeStep: step.step, probe, limits, GapValue.Settings())
        Console.endProgress()
        Console.error(ranking.table)
        guard let best = ranking.gap.best else { throw ranking.refusal(step.run, strong: name) }
        return ranking.history[best].id
    }
}
