public import CheckpointStore
public import LanguageModel

/// What a training asks of whoever runs it, and tells.
public struct TrainerHost {
    /// Mean entropies of a snapshot on the training data, one a sample, in nats per token; nil for a sample that has none.
    public var entropies: (_ snapshot: ContentID) throws -> [Double?]
    /// The weak snapshot of another round, by gap value.
    public var chooseWeak: (_ strong: ContentID) throws -> ContentID
    /// Of a snapshot that was just written, a directory, on the evaluation probe: names and figures. The same snapshot must give the
    /// same ones.
    public var evaluate: (_ directory: String) throws -> [(name: String, value: Double)]
    /// Called after each step.
    public var stepped: (TrainedStep) -> Void
    /// Called after each snapshot.
    public var saved: (SavedSnapshot) -> Void
    /// Called before a round begins.
    public var began: (BegunRound) -> Void
    /// Asked after each step; true ends the training with `.interrupted`, to be gone on with.
    public var isStopped: @Sendable () -> Bool

    /// What is left out does nothing; a training that asks for entropies or a choice of its weak then ends with an error.
    public init(
        entropies: @escaping (ContentID) throws -> [Double?] = { _ in throw WeakTrainingError(.usage, "nothing gives entropies of snapshots") },
        chooseWeak: @escaping (ContentID) throws -> ContentID = { _ in throw WeakTrainingError(.usage, "nothing chooses a weak snapshot") },
        evaluate: @escaping (String) throws -> [(name: String, value: Double)] = { _ in [] },
        stepped: @escaping (TrainedStep) -> Void = { _ in },
        saved: @escaping (SavedSnapshot) -> Void = { _ in }, began: @escaping (BegunRound) -> Void = { _ in },
        isStopped: @escaping @Sendable () -> Bool = { false }
    ) {
        self.entropies = entropies
        self.chooseWeak = chooseWeak
        self.evaluate = evaluate
        self.stepped = stepped
        self.saved = saved
        self.began = began
        self.isStopped = isStopped
    }
}

/// One optimizer step that was taken.
public struct TrainedStep: Sendable {
    /// From 1, over all rounds, and of how many that are known so far.
    public var step: Int
    /// Steps in all, as far as they are known.
    public var stepCount: Int
    public var round: Int
    public var pass: Int
    /// Sums over its supervised tokens.
    public var figures: LossFigures
    /// Whether a weak model was in the mix.
    public var hasWeak: Bool
    /// The learning rate.
    public var rate: Double
    /// Of the strong model's gradient, and the weak's where it is trained.
    public var gradientNorms: [Double]
    /// All that were read, the prompts' too.
    public var tokens: Int
    /// That it took.
    public var seconds: Double
}

/// A snapshot that was written.
public struct SavedSnapshot: Sendable {
    /// As `run@step`.
    public var ref: String
    public var id: ContentID
    /// The trained weak branch's.
    public var weak: ContentID?
    public var step: Int
    /// What `TrainerHost.evaluate` gave.
    public var metrics: [(name: String, value: Double)]
    /// Of its files, and of what was new, packed.
    public var rawBytes: UInt64
    /// Packed bytes of what was new.
    public var packedBytes: UInt64
}

/// A round before its first step.
public struct BegunRound: Sendable {
    public var round: Int
    public var strong: ContentID
    public var weaks: [ContentID]
    /// Of this round.
    public var steps: Int
    /// Steps of it that were taken before the training stopped and is gone on with.
    public var stepsDone: Int
    /// Samples that can be drawn.
    public var samples: Int
    /// Weights that are trained, of one model.
    public var weights: Int
    /// The scale of the logits where it was chosen to match a mix.
    public var share: Double?
}
