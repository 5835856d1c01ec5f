internal import CKernels
public import CheckpointStore
internal import LanguageModel
public import TensorFormats

/// The compensatory training loop (weak-driven learning, arXiv 2602.08222): reads a strong and a weak model from the store, trains,
/// and writes a run of snapshots back.
///
/// It can be stopped anywhere, by a kill too: the same settings go on from the last state, and the snapshots are the same
/// byte for byte. For one thread; its team shares the work.
public final class Trainer {
    /// What does not change the snapshots.
    public struct Options: Sendable {
        public var threads = Int(ck_processor_count())
        /// Run layers again on the way back instead of keeping what they made: less memory, a third more time.
        public var checkpointsActivations = false
        /// Go on from a state that other kernels made: later snapshots then differ in their last bits.
        public var allowsInexactResume = false
        /// A second place for the log, one line of JSON for each step and snapshot.
        public var logPath: String?

        public init() {}
    }

    let store: Store
    let settings: TrainingSettings
    let options: Options
    let host: TrainerHost
    let area: TrainingArea
    let team: ThreadTeam
    let probe: ScoredProbe
    var files: InheritedFiles
    let strong: TrainedModel
    /// Of each tensor of the snapshots.
    let dtypes: [String: DType]
    var progress = TrainingProgress()
    /// A state that is gone on from, until its round is set up.
    private var state: ResumeState.Tensors?
    let logs: [TrainingLog]

    /// - Parameters:
    ///   - files: for random weights, those that describe the model: its `config.json` and tokenizer.
    /// - Throws: `StoreError`, `LanguageModelError`, `WeakTrainingError`: `.conflict` when the run is there and is not this training's.
    public init(
        _ store: Store, _ settings: TrainingSettings, _ host: TrainerHost, files: Sidecars? = nil, options: Options = Options()
    ) throws {
        self.store = store
        self.settings = settings
        self.options = options
        self.host = host
        team = ThreadTeam(count: options.threads)
        probe = try ScoredProbe(store, "\(settings.data)", maximumLength: settings.plan.maximumLength)
        var dtypes: [String: DType] = [:]
        switch settings.start {
        case .snapshot(let id):
            let contents = try store.contents(of: id)
            strong = try TrainedModel(contents, longest: probe.longest)
            self.files = try InheritedFiles(store.sidecars("\(id)"))
            for tensor in contents.tensors where tensor.part == .weights { dtypes[tensor.name] = settings.dtype ?? tensor.dtype }
        case .random:
            guard let files else { throw WeakTrainingError(.usage, "random weights need the files that describe a model") }
            self.files = try InheritedFiles(files)
            guard let config = self.files["config.json"] else {
                throw WeakTrainingError(.badInput, "\(files.name): no config.json", hint: "--init DIR, with a model's config.json")
            }
            strong = try TrainedModel(
                config: config, path: files.name + "/config.json", seed: settings.plan.seed, longest: probe.longest)
            let dtype = settings.dtype ?? self.files.dtype ?? .f32
            for weight in strong.weights { dtypes[weight.name] = dtype }
        }
        for (index, sample) in probe.samples.enumerated() { try strong.check(sample, index) }
        guard settings.plan.recipe.mix != .shuffled || strong.vocabularySize > 2 else {
            throw WeakTrainingError(
                .badInput, "--mix shuffled: in a vocabulary of \(strong.vocabularySize) there is nothing to change places", hint: "another --mix")
        }
        self.dtypes = dtypes
        if Set(dtypes.values).count == 1 { self.files.setDType(dtypes.first!.value) }
        if settings.plan.recipe.weakBranch == .joint { try TrainingArea.check(run: settings.weakRun) }
        area = try TrainingArea(store, run: settings.run)
        let isThere = TrainingArea.exists(store, run: settings.run)
        if isThere, let (state, progress) = try Trainer.open(area.statePath, store, settings, options) {
            self.state = progress.step > 0 ? state : nil
            self.progress = progress
        } else {
            do {
                try Trainer.checkNew(store, settings)
            } catch {
                if !isThere { try? area.remove() }
                throw error
            }
        }
        let step = progress.step
        logs = try ([area.logPath] + (options.logPath.map { [$0] } ?? [])).map { try TrainingLog($0, step: step) }
    }

    /// The log so far, line by line, as it is to be plotted.
    public var logLines: [JSONValue] { TrainingLog.lines(area.logPath) }
    /// Tensors of the strong snapshot that the model has no use for: they are not in the snapshots that are written.
    public var unusedTensors: [String] { strong.unusedTensors }
    /// Steps that were taken before, by an earlier process.
    public var stepsDone: Int { progress.step }

    /// The name of the kernels that sums are made by.
    static let kernels =
        ck_avx512_product_kernels() != nil ? "avx512" : ck_avx2_product_kernels() != nil ? "avx2" : "portable"

    /// The state of the training; nil for one of other settings that has neither a step nor a snapshot: nothing would be lost.
    private static func open(
        _ path: String, _ store: Store, _ settings: TrainingSettings, _ options: Options
    ) throws -> (ResumeState.Tensors, TrainingProgress)? {
        let (state, tensors) = try ResumeState.read(path)
        let progress = try TrainingProgress(state.progress, path: path)
        guard let theirs = try? JSONValue.parse(Array(state.settings.utf8), path: path) else { throw tensors.damaged("no settings") }
        let differences = settings.differences(from: theirs)
        if !differences.isEmpty, progress.step == 0, (try? store.history(of: settings.run)) == nil { return nil }
        guard differences.isEmpty else {
            throw StoreError(
                .conflict, "run \(settings.run) is there already, begun with other settings: \(differences.joined(separator: "; "))",
                hint: "another --run; or the same settings, to go on with it")
        }
        guard state.kernels == Trainer.kernels || options.allowsInexactResume else {
            throw StoreError(
                .conflict, "run \(settings.run) was trained with \(state.kernels) kernels, and this processor has \(Trainer.kernels)",
                hint: "--allow-inexact-resume goes on all the same; snapshots then differ in their last bits")
        }
        return (tensors, progress)
    }

    private static func checkNew(_ store: Store, _ settings: TrainingSettings) throws(StoreError) {
        for run in [settings.run, settings.weakRun] {
            do throws(StoreError) {
                _ = try store.history(of: run)
            } catch where error.code == .noSuchRef {
                continue
            }
            throw StoreError(
                .conflict, "run \(run) is there already, and is not one that can be gone on with", hint: "another --run")
        }
    }

    /// Trains to the end.
    ///
    /// - Throws: `StoreError.interrupted` when it is asked to stop; what was done until then is kept.
    public func train() throws {
        if progress.step == 0 {
            let models = RoundModels(strong: strong, weak: nil, optimizer: nil)
            // A run without a state is not one to go on with: a kill may come between any two writes.
            try writeState(models)
            // The history begins with what nobody has trained yet.
            if case .random = settings.start { try save(models) }
        }
        while progress.round < settings.plan.rounds { try trainRound() }
        try area.removeStaging()
    }

    private func trainRound() throws {
        try beginRound()
        guard !settings.plan.recipe.needsWeak || !progress.weaks.isEmpty else {
            throw WeakTrainingError(.badInput, "run \(settings.run): round \(progress.round + 1) has no weak snapshot", hint: "another --run")
        }
        let weights = try drawingWeights()
        let plan = settings.plan
        var order = BatchOrder(
            plan.recipe.curriculum.selection, weights: weights.weights, multiplier: plan.recipe.multiplier, seed: plan.seed,
            round: progress.round, batchSize: plan.batchSize)
        let count = plan.steps(&order)
        let weak = try weakModel()
        var models = [strong]
        if case .trained(let model) = weak { models.append(model) }
        let optimizer = AdamW(models, plan.optimizer, team, step: progress.stepInRound)
        let isJoint = models.count > 1
        let round = RoundModels(
            strong: strong, weak: isJoint ? models[1] : nil, weakFiles: isJoint ? try weakFiles(progress.weaks[0]) : nil,
            optimizer: optimizer)
        if let state {
            try state.restore(round.branches, team)
            self.state = nil
        }
        let pass = try GradientPass(strong, weak, gradientOptions, team)
        if plan.recipe.isMatched, progress.share == nil { progress.share = try matchedShare() }
        let loss = lossSettings
        host.began(
            BegunRound(
                round: progress.round, strong: progress.strong!, weaks: progress.weaks,
                steps: count, stepsDone: progress.stepInRound, samples: weights.weights.count { $0 > 0 }, weights: strong.weightCount,
                share: progress.share))
        let ahead = count.multipliedReportingOverflow(by: plan.rounds - progress.round)
        let known = ahead.overflow ? Int.max : progress.earlierSteps.addingReportingOverflow(ahead.partialValue).partialValue
        while progress.stepInRound < count {
            let batch = order.batch(progress.stepInRound)
            let samples = batch.samples.map { sample($0, weak: weights.choices?[$0] ?? 0) }
            var step = try takeStep(samples, loss, rate: plan.rate(at: progress.stepInRound, of: count), pass, optimizer)
            (step.pass, step.stepCount) = (batch.pass, known)
            logs.forEach { $0.add(step.json) }
            host.stepped(step)
            let isLast = progress.stepInRound == count
            if isLast || progress.step % settings.saveInterval == 0 { try save(round) }
            if host.isStopped(), !isLast {
                try writeState(round)
                throw StoreError(
                    .interrupted, "stopped after step \(progress.step)", hint: "the same command goes on from there")
            }
        }
        progress.round += 1
        progress.stepInRound = 0
        progress.share = nil
        // Between rounds the state has to say so: the moments are fresh in the next one.
        progress.weightsHash = ""
        if progress.round < plan.rounds { progress.weaks = settings.choosesWeak || !plan.recipe.needsWeak ? [] : [progress.strong!] }
        progress.strong = nil
        try writeState(round)
    }

    private func takeStep(
        _ samples: [GradientPass.Sample], _ loss: LossSettings, rate: Double, _ pass: GradientPass, _ optimizer: AdamW
    ) throws -> TrainedStep {
        let start = ContinuousClock().now
        let figures = try pass.addGradients(samples, loss)
        let norms = optimizer.gradientNorms()
        guard figures.loss.isFinite, norms.allSatisfy(\.isFinite) else {
            throw WeakTrainingError(
                .badInput, "step \(progress.step + 1): the loss or its gradient is no number, with sample \(samples[0].sample.name) and those after it",
                hint: "a lower --learning-rate; the last snapshot is as it was")
        }
        optimizer.take(rate: rate, norms: norms)
        progress.stepInRound += 1
        progress.step += 1
        let elapsed = (ContinuousClock().now - start).components
        return TrainedStep(
            step: progress.step, stepCount: 0, round: progress.round, pass: 0, figures: figures,
            hasWeak: settings.plan.recipe.mix.hasWeak, rate: rate, gradientNorms: norms,
            tokens: samples.reduce(0) { $0 + $1.sample.tokens.count },
            seconds: Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18)
    }

    private var gradientOptions: GradientPass.Options {
        var options = GradientPass.Options()
        options.microBatchTokens = settings.microBatchTokens
        options.checkpointsActivations = self.options.checkpointsActivations
        return options
    }

    /// Fixes the snapshots that this round works with, where that was not done before a stop.
    private func beginRound() throws {
        guard progress.strong == nil else { return }
        // A state between rounds has weights, and moments that do not count.
        if let state {
            let models = RoundModels(strong: strong, weak: nil, optimizer: AdamW([strong], settings.plan.optimizer, team))
            try state.restore(models.branches, team)
            self.state = nil
        }
        let id: ContentID
        if progress.round == 0, case .snapshot(let start) = settings.start {
            id = start
        } else {
            id = try store.snapshot("\(settings.run)@\(progress.step)").id
        }
        progress.strong = id
        if progress.round == 0 { progress.weaks = settings.weaks }
        if progress.weaks.isEmpty, settings.choosesWeak { progress.weaks = [try host.chooseWeak(id)] }
    }

    /// The weak models as this round needs them.
    private func weakModel() throws -> GradientPass.Weak {
        guard settings.plan.recipe.mix.hasWeak else { return .none }
        if settings.plan.recipe.weakBranch == .joint {
            return .trained(try TrainedModel(contents(progress.weaks[0]), longest: probe.longest))
        }
        return .frozen(try progress.weaks.map(frozen))
    }

    /// A snapshot that the round began with: it may have been removed while the training was stopped.
    func contents(_ id: ContentID) throws(StoreError) -> CheckpointContents {
        do throws(StoreError) {
            return try store.contents(of: id)
        } catch where error.code == .noSuchRef {
            throw StoreError(
                .noSuchRef, "run \(settings.run) goes on with snapshot \(id.short), which is no longer in the store",
                hint: "ingest it again, or begin anew under another --run")
        }
    }

    private func frozen(_ id: ContentID) throws -> LanguageModel {
        let contents = try contents(id)
        return try LanguageModel(contents.decodedWhereNeeded(isCancelled: host.isStopped, progress: { _, _ in }) ?? contents, longest: probe.longest)
    }

    private var lossSettings: LossSettings {
        let recipe = settings.plan.recipe
        let share = Float(progress.share ?? recipe.lambda ?? 1)
        return LossSettings(
            share: recipe.mix == .alone ? 1 : share, weakShare: recipe.mix.hasWeak ? 1 - share : 0,
            smoothing: Float(recipe.labelSmoothing))
    }

    private func sample(_ index: Int, weak: Int) -> GradientPass.Sample {
        let sample = probe.samples[index]
        guard settings.plan.recipe.mix == .shuffled else { return GradientPass.Sample(sample, weak: weak) }
        let rotations = sample.supervised.joined().map { position in
            Rotation(
                vocabulary: strong.vocabularySize, target: Int(sample.tokens[position]), seed: settings.plan.seed, sample: index,
                position: position)
        }
        return GradientPass.Sample(sample, weak: weak, rotations: rotations)
    }

    /// The scale of the logits at which the mean of 1 - P(y) is that of the mix with the weak model, on the first 256 samples.
    private func matchedShare() throws -> Double {
        let samples = probe.samples.prefix(256).map { GradientPass.Sample($0) }
        let lambda = Float(settings.plan.recipe.lambda ?? Recipe.defaultLambda)
        let mixed = try GradientPass(strong, .frozen([frozen(progress.weaks[0])]), gradientOptions, team)
            .figures(of: samples, LossSettings(share: lambda, weakShare: 1 - lambda)).mixedProbability
        let plain = try GradientPass(strong, .none, gradientOptions, team)
        // P(y) grows with the scale where the model is mostly right.
        var (low, high) = (0.01, 4.0)
        for _ in 0..<24 {
            let middle = (low * high).squareRoot()
            let figures = try plain.figures(of: samples, LossSettings(share: Float(middle)))
            if figures.mixedProbability < mixed { low = middle } else { high = middle }
        }
        return (low * high).squareRoot()
    }
}
