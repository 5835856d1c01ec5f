import ArgumentParser
import CheckpointStore
import TensorFormats
import WeakTraining

/// What is trained on, and how: the axes of the method, and the presets over them.
struct RecipeArguments: ParsableArguments {
    @Option(help: ArgumentHelp("What the axes below are if not given; see PRESETS (default: wmss with --weak, else sft).", valueName: "name"), completion: .list(Preset.allCases.map(\.rawValue)))
    var preset: String?
    @Option(help: ArgumentHelp("What the logits are mixed with: none, weak, temperature, shuffled.", valueName: "mix"), completion: .list(Mix.allCases.map(\.rawValue)))
    var mix: String?
    @Option(help: ArgumentHelp("Whether the weak model is trained too: joint, or frozen.", valueName: "branch"), completion: .list(WeakBranch.allCases.map(\.rawValue)))
    var weakBranch: String?
    @Option(help: ArgumentHelp("How samples are drawn: uniform, v1, v2, code, or a formula over H_weak, H_strong and dH.", valueName: "selection"), completion: .list(["uniform", "v1", "v2", "code"]))
    var select: String?
    @Option(help: ArgumentHelp("Of v1, v2 and code (default: .1,.8,.1).", valueName: "a,b,c"))
    var coefficients: String?
    @Option(help: ArgumentHelp("Draws in a pass, over samples (default: 1).", valueName: "x"))
    var multiplier: Double?
    @Option(help: ArgumentHelp("The strong model's share of the mixed logits (default: .5).", valueName: "share"))
    var lambda: Double?
    @Option(help: ArgumentHelp("The share of the target that is spread over all tokens (default: 0, .1 by its preset).", valueName: "share"))
    var labelSmoothing: Double?
    @Option(help: ArgumentHelp("Times the learning rate.", valueName: "x"))
    var rateFactor: Double?
    @Option(help: ArgumentHelp("Times the steps.", valueName: "n"))
    var stepFactor: Int?

    /// - Parameter fallback: the preset where none is named.
    func recipe(_ fallback: Preset) throws(WeakTrainingError) -> Recipe {
        var choices = RecipeChoices()
        if let mix { choices.mix = try RecipeArguments.named(mix, "--mix") }
        if let weakBranch { choices.weakBranch = try RecipeArguments.named(weakBranch, "--weak-branch") }
        if let select { choices.selection = try Selection(select) }
        if let coefficients {
            let numbers = coefficients.split(separator: ",").compactMap { Double($0.first == "." ? "0\($0)" : String($0)) }
            guard numbers.count == 3 else {
                throw WeakTrainingError(.usage, "--coefficients \(coefficients): not three numbers", hint: "the default is .1,.8,.1")
            }
            choices.coefficients = try Curriculum.Coefficients(a: numbers[0], b: numbers[1], c: numbers[2])
        }
        choices.multiplier = multiplier
        choices.lambda = lambda
        choices.labelSmoothing = labelSmoothing
        choices.rateFactor = rateFactor
        choices.stepFactor = stepFactor
        return try Recipe(try preset.map(Preset.named) ?? fallback, choices)
    }

    private static func named<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ option: String
    ) throws(WeakTrainingError) -> Choice {
        guard let choice = Choice(rawValue: name) else {
            throw WeakTrainingError(
                .usage, "\(option): \(name) is unknown", hint: "known are \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return choice
    }

    static func decay(_ name: String) throws(WeakTrainingError) -> LearningRate.Decay { try named(name, "--decay") }
}

/// How long, how fast and in what portions.
struct PlanArguments: ParsableArguments {
    @Option(help: ArgumentHelp("Optimizer steps of a round.", valueName: "n"))
    var steps: Int?
    @Option(help: ArgumentHelp("Passes over the data of a round (default: 1).", valueName: "n"))
    var epochs: Int?
    @Option(help: ArgumentHelp("Rounds: in each the strong snapshot of the one before is the weak one (default: 1).", valueName: "n"))
    var rounds: Int?
    @Option(help: ArgumentHelp("Samples of an optimizer step (default: \(TrainingPlan.defaultBatchSize)).", valueName: "n"))
    var batch: Int?
    @Option(name: .customLong("learning-rate"), help: ArgumentHelp("The peak of the learning rate (default: 1e-5).", valueName: "rate"))
    var learningRate: Double?
    @Option(help: ArgumentHelp("Steps of warm-up: a share below 1, or a number of steps (default: .1).", valueName: "x"))
    var warmUp: Double?
    @Option(help: ArgumentHelp("After it: cosine, to a tenth of the peak, or constant (default: cosine).", valueName: "form"), completion: .list(LearningRate.Decay.allCases.map(\.rawValue)))
    var decay: String?
    @Option(help: ArgumentHelp("The largest norm of a gradient (default: 1).", valueName: "norm"))
    var clip: Double?
    @Option(help: ArgumentHelp("Decoupled decay of matrices (default: 0).", valueName: "x"))
    var weightDecay: Double?
    @Option(help: ArgumentHelp("Of everything random (default: 0).", valueName: "n"))
    var seed: UInt64?
    @Option(help: ArgumentHelp("Read at most so many tokens of a sample (default: 4096); the rest is cut at the right.", valueName: "tokens"))
    var maxLength: Int?

    func validate() throws {
        guard steps == nil || epochs == nil else { throw ValidationError("--steps and --epochs both say how long a round is") }
    }

    func plan(_ recipe: Recipe) throws(WeakTrainingError) -> TrainingPlan {
        var warmUp = LearningRate.WarmUp.share(0.1)
        if let share = self.warmUp {
            guard share < 1 || (share.rounded() == share && share < 1e9) else {
                throw WeakTrainingError(.usage, "--warm-up: \(share) is no share and no number of steps")
            }
            warmUp = share < 1 ? .share(share) : .steps(Int(share))
        }
        return try TrainingPlan(
            recipe,
            learningRate: LearningRate(
                peak: learningRate ?? LearningRate.defaultPeak, warmUp: warmUp,
                decay: try decay.map(RecipeArguments.decay) ?? .cosine),
            seed: seed ?? 0, rounds: rounds ?? 1, length: steps.map { .steps($0) } ?? .passes(epochs ?? 1),
            batchSize: batch ?? TrainingPlan.defaultBatchSize, maximumLength: maxLength ?? TrainingPlan.defaultMaximumLength,
            clip: clip ?? 1, weightDecay: weightDecay ?? 0)
    }
}
