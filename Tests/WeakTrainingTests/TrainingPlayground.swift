import CheckpointStore
import LanguageModel
import TestSupport
import Testing
import WeakTraining

/// A store with three alike models, `m@1` to `m@3`, and a probe of random tokens to train on.
final class TrainingPlayground {
    let directory: TemporaryDirectory
    let store: Store
    let data: ContentID
    let config: String

    init(samples: Int = 10, vocabulary: Int = 61) throws {
        directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store")
        store = try Store.open(directory.path + "/store")
        for step in 1...3 {
            let path = directory.path + "/m/checkpoint-\(step)"
            try TinyModel.write(seed: 5, drift: UInt64(step), vocabulary: vocabulary, to: path)
            try FileTree.write("{\"eos_token_id\": 2}\n", to: path + "/generation_config.json")
            try FileTree.write("not to be inherited", to: path + "/trainer_state.txt")
            var options = IngestOptions()
            (options.run, options.step) = ("m", UInt64(step))
            try store.ingest(path, options: options)
        }
        config = directory.path + "/m/checkpoint-1"
        var random = SeededBytes(9)
        let lines = (0..<samples).map { index -> ProbeSample in
            let tokens = (0..<Int.random(in: 4...20, using: &random)).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
            return ProbeSample(id: "s\(index)", tokens: tokens, supervised: [Int.random(in: 1..<tokens.count, using: &random)..<tokens.count])
        }
        data = try store.addProbe(Probe(samples: lines), name: "data")
    }

    func id(_ ref: String) throws -> ContentID { try store.snapshot(ref).id }

    /// A short training of `m@3` with the weak `m@1` where the preset has one.
    func settings(
        _ preset: Preset = .wmss, _ choices: RecipeChoices = RecipeChoices(), run: String = "t", rounds: Int = 1, steps: Int = 6,
        saveInterval: Int = 2, weaks: [String]? = nil, seed: UInt64 = 3, rate: Double = 1e-2
    ) throws -> TrainingSettings {
        let recipe = try Recipe(preset, choices)
        let plan = try TrainingPlan(
            recipe, learningRate: LearningRate(peak: rate), seed: seed, rounds: rounds, length: .steps(steps), batchSize: 4)
        return TrainingSettings(
            run: run, plan: plan, start: .snapshot(try id("m@3")),
            weaks: try (weaks ?? (recipe.needsWeak ? ["m@1"] : [])).map(id), data: data, microBatchTokens: 40, saveInterval: saveInterval)
    }

    /// Trains until the end, or until `steps` steps are taken.
    @discardableResult
    func train(
        _ settings: TrainingSettings, threads: Int = 2, stopAfter steps: Int = .max, evaluate: Bool = false,
        _ change: (inout Trainer.Options) -> Void = { _ in }
    ) throws -> [TrainedStep] {
        var options = Trainer.Options()
        options.threads = threads
        change(&options)
        let taken = Taken()
        let probe = try ScoredProbe(store, "\(data)", maximumLength: settings.plan.maximumLength)
        let host = TrainerHost(
            entropies: { id in
                let evaluation = try EntropyEvaluation(self.store, "\(id)", probe, ScoringOptions(threads: 1))
                if try !evaluation.isKept() { try evaluation.run(evaluation.openModel(), isStopped: { false }) { _ in } }
                return try evaluation.outputs().map(\.entropy)
            },
            chooseWeak: { _ in try self.id("m@2") }, evaluate: { _ in evaluate ? [("nll", 1.25)] : [] },
            stepped: { taken.steps.append($0) }, isStopped: { taken.steps.count >= steps })
        let files: Sidecars? = if case .random = settings.start { try Sidecars(directory: config) } else { nil }
        try Trainer(store, settings, host, files: files, options: options).train()
        return taken.steps
    }

    /// Trains with a stop after every `stride` steps.
    func trainWithStops(_ settings: TrainingSettings, every stride: Int, threads: (Int) -> Int = { _ in 2 }) throws {
        for attempt in 0..<100 {
            do {
                try train(settings, threads: threads(attempt), stopAfter: stride)
                return
            } catch let error as StoreError where error.code == .interrupted {}
        }
        Issue.record("it does not come to an end")
    }

    func ids(_ run: String) throws -> [ContentID] { try store.history(of: run).map(\.id) }

    private final class Taken: @unchecked Sendable {
        var steps: [TrainedStep] = []
    }
}
