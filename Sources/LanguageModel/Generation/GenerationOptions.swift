internal import CKernels

/// How text is continued.
public struct GenerationOptions: Sendable {
    /// Tokens that are made of one prompt at most; the last one may be an end.
    public var maximumNew: Int
    /// Logits are divided by it before a token is drawn; 0: the likeliest token, the first of equals.
    public var temperature: Double
    /// Only the so many likeliest tokens are drawn; nil: all.
    public var topK: Int?
    /// Of those, only the likeliest that together have this probability at least; nil: all.
    public var topP: Double?
    /// Of what is drawn, with the sample and the attempt of the request.
    public var seed: UInt64
    /// Tokens that end a sequence.
    public var ends: Set<Int32>
    /// Threads, each with sequences of its own; nil: one for each processor.
    public var threads: Int?

    public init(
        maximumNew: Int = 256, temperature: Double = 0, topK: Int? = nil, topP: Double? = nil, seed: UInt64 = 0,
        ends: Set<Int32> = [], threads: Int? = nil
    ) {
        (self.maximumNew, self.temperature, self.topK, self.topP) = (maximumNew, temperature, topK, topP)
        (self.seed, self.ends, self.threads) = (seed, ends, threads)
    }

    var threadCount: Int { ScoringOptions(threads: threads).threadCount }

    /// - Throws: `.malformed` naming the option that makes no sense.
    func check() throws(LanguageModelError) {
        let problem: String? =
            if maximumNew < 1 {
                "\(maximumNew) new tokens at most"
            } else if !(temperature >= 0 && temperature.isFinite) {
                "a temperature of \(temperature)"
            } else if let topK, topK < 1 {
                "the \(topK) likeliest tokens"
            } else if let topP, !(topP > 0 && topP <= 1) {
                "the likeliest tokens of together \(topP)"
            } else {
                nil
            }
        if let problem { throw LanguageModelError(.malformed, problem) }
    }
}
