/// Everything that decides what a training run computes, but for its snapshots and samples: written beside what it made.
public struct TrainingPlan: Sendable, Equatable {
    /// How long a round is.
    public enum Length: Sendable, Equatable {
        /// Over the samples, each round.
        case passes(Int)
        /// Optimizer steps, each round.
        case steps(Int)
    }

    /// What is trained on, and with which loss.
    public let recipe: Recipe
    /// Its peak is that before the recipe's rate factor.
    public let learningRate: LearningRate
    /// Of the order of samples, of draws, and of random weights.
    public let seed: UInt64
    public let rounds: Int
    /// Before the recipe's step factor.
    public let length: Length
    /// Samples an optimizer step.
    public let batchSize: Int
    /// Tokens of a sample; what is over is cut at the right.
    public let maximumLength: Int
    /// The gradient's norm over both branches, at most.
    public let clip: Double
    /// Of matrices; never of norms and biases.
    public let weightDecay: Double

    public static let defaultBatchSize = 512
    public static let defaultMaximumLength = 4096

    /// - Throws: `.usage`, naming the option, for a value that cannot be.
    public init(
        _ recipe: Recipe, learningRate: LearningRate, seed: UInt64 = 0, rounds: Int = 1, length: Length = .passes(1),
        batchSize: Int = defaultBatchSize, maximumLength: Int = defaultMaximumLength, clip: Double = 1, weightDecay: Double = 0
    ) throws(WeakTrainingError) {
        self.recipe = recipe
        self.learningRate = learningRate
        self.seed = seed
        self.rounds = rounds
        self.length = length
        self.batchSize = batchSize
        self.maximumLength = maximumLength
        self.clip = clip
        self.weightDecay = weightDecay
        try TrainingPlan.check(rounds, "--rounds")
        switch length {
        case .passes(let passes): try TrainingPlan.check(passes, "--epochs", to: TrainingPlan.greatestPasses)
        case .steps(let steps): try TrainingPlan.check(steps, "--steps")
        }
        try TrainingPlan.check(batchSize, "--batch")
        try TrainingPlan.check(maximumLength, "--max-length", from: 2)
        guard clip > 0, clip.isFinite else { throw WeakTrainingError(.usage, "--clip: \(clip) is not above zero") }
        guard weightDecay >= 0, weightDecay.isFinite else {
            throw WeakTrainingError(.usage, "--weight-decay: \(weightDecay) is below zero")
        }
    }

    /// Steps of one round.
    ///
    /// - Parameter order: that of the round.
    public func steps(_ order: inout BatchOrder) -> Int {
        switch length {
        case .passes(let passes): order.steps(ofPasses: passes * recipe.stepFactor)
        case .steps(let steps): steps * recipe.stepFactor
        }
    }

    /// How weights are moved.
    var optimizer: AdamW.Settings {
        var settings = AdamW.Settings()
        (settings.clip, settings.decay) = (clip, weightDecay)
        return settings
    }

    /// The rate of step `step`, counted from 0, of `steps` in a round.
    public func rate(at step: Int, of steps: Int) -> Double { recipe.rateFactor * learningRate.rate(at: step, of: steps) }

    /// Counts up to this bound can be multiplied with each other.
    private static let greatest = 1 << 30

    /// `BatchOrder` keeps a word for each pass.
    private static let greatestPasses = 1 << 20

    private static func check(
        _ count: Int, _ option: String, from least: Int = 1, to greatest: Int = greatest
    ) throws(WeakTrainingError) {
        guard count >= least, count <= greatest else {
            throw WeakTrainingError(.usage, "\(option): \(count) is not from \(least) to \(greatest)")
        }
    }
}
