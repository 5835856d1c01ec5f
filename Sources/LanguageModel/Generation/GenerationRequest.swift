/// A sequence to be continued.
public struct GenerationRequest: Sendable {
    /// The prompt, one token at least.
    public var tokens: [Int32]
    /// Names the random numbers, with the attempt: the same two draw the same, whatever else is generated.
    public var sample: Int
    /// Which of the texts of one sample.
    public var attempt: Int
    /// As errors name it; empty: by its sample.
    public var name: String

    public init(tokens: [Int32], sample: Int = 0, attempt: Int = 0, name: String = "") {
        (self.tokens, self.sample, self.attempt, self.name) = (tokens, sample, attempt, name)
    }

    var shown: String { "sample \(name.isEmpty ? "\(sample)" : name)" }
}

/// What was made of a request.
public struct Generation: Sendable, Equatable {
    /// Why it goes no further.
    public enum Stop: String, Sendable {
        /// Its last token ends a sequence.
        case end
        /// It has as many tokens as were asked for.
        case length
        /// The model has no more positions.
        case positions
    }

    /// The tokens after the prompt, an end included.
    public var tokens: [Int32] = []
    /// ln P of each, by the model as it is: at temperature 1 among all tokens.
    public var logProbabilities: [Float] = []
    /// Why it ended.
    public var stop = Stop.length

    public init() {}
}

/// What happens while requests are continued.
public enum GenerationEvent: Sendable {
    /// One more token of a request, by its index.
    case token(request: Int, Int32)
    /// The end of a request, by its index, and all of what was made.
    case finished(request: Int, Generation)
}
