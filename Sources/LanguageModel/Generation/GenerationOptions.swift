/// How text is generated.
public struct GenerationOptions: Sendable, Equatable {
    /// New tokens of a sequence at most.
    public var maximumTokens = 256
    /// What logits are divided by before one is drawn; 0: the most likely token each time, of equals the first.
    public var temperature = 0.0
    /// Only the so many most likely tokens can be drawn; nil: all.
    public var topK: Int?
    /// Only the most likely tokens that together have this probability can be drawn.
    public var topP = 1.0
    public var seed: UInt64 = 0
    /// Which of several answers to the same prompts: each is drawn by numbers of its own.
    public var attempt: UInt32 = 0
    /// Tokens that end a sequence.
    public var ends: Set<Int32> = []
    /// nil: one for each processor.
    public var threads: Int?
    /// Sequences that a thread goes on with at one time.
    public var sequences = 64

    public init() {}
}

/// What a model made of a prompt.
public struct GeneratedTokens: Sendable, Equatable {
    public enum Stop: String, Sendable {
        /// A token that ends a sequence came; it is among the tokens.
        case end
        /// There were as many tokens as were asked for.
        case length
        /// The model has no more positions.
        case positions
    }

    public var tokens: [Int32] = []
    /// ln P of each by the model itself, at temperature 1.
    public var logProbabilities: [Float] = []
    public var stop = Stop.length
}
