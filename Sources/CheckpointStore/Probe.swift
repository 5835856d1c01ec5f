internal import TensorFormats

/// One sample of a probe.
public struct ProbeSample: Sendable, Equatable {
    /// Not empty, and unique in its probe.
    public var id: String
    /// Prompt and completion.
    public var tokens: [Int32]
    /// The tokens that outputs are recorded for: ascending, disjoint, within 1..<tokens.count (before token 0 there is nothing
    /// to predict it from). Usually one range, from the completion's start to the end.
    public var supervised: [Range<Int>]
    /// The text, for people, when the probe was made from text.
    public var prompt: String?
    /// The text of the completion.
    public var completion: String?

    public init(id: String, tokens: [Int32], supervised: [Range<Int>], prompt: String? = nil, completion: String? = nil) {
        self.id = id
        self.tokens = tokens
        self.supervised = supervised
        self.prompt = prompt
        self.completion = completion
    }

    /// Tokens in `supervised`.
    public var supervisedCount: Int { supervised.reduce(0) { $0 + $1.count } }
}

/// A fixed set of samples on which outputs are compared.
///
/// Its id is the SHA-256 of its canonical encoding, so what refers to a probe never refers to a changed file.
public struct Probe: Sendable, Equatable {
    /// Bytes of a probe's encoding at most.
    public static let maximumBytes = 256 << 20

    /// Their order is part of the probe's id.
    public var samples: [ProbeSample]
    /// SHA-256 of the tokenizer.json that made the tokens; nil when they came as they are.
    public var tokenizer: ContentID?
    /// The bytes that each token that occurs stands for; empty when unknown.
    public var pieces: [Int32: [UInt8]]

    /// - Throws: `.badInput` naming the sample and what is wrong with it.
    /// - Complexity: O(tokens).
    public init(samples: [ProbeSample], tokenizer: ContentID? = nil, pieces: [Int32: [UInt8]] = [:]) throws(StoreError) {
        self.samples = samples
        self.tokenizer = tokenizer
        self.pieces = pieces
        try check()
    }

    /// SHA-256 of the canonical encoding. O(bytes).
    public var id: ContentID { ContentID.hash(of: encoded) }

    func check() throws(StoreError) {
        guard !samples.isEmpty else { throw StoreError(.badInput, "a probe without samples") }
        var ids: Set<ExactName> = []
        for (index, sample) in samples.enumerated() {
            guard !sample.id.isEmpty else { throw StoreError(.badInput, "sample \(index) has an empty id") }
            guard ids.insert(ExactName(sample.id)).inserted else {
                throw StoreError(.badInput, "two samples have the id \"\(sample.id)\"")
            }
            if let problem = Probe.problem(sample) { throw StoreError(.badInput, "sample \"\(sample.id)\": \(problem)") }
        }
        guard !pieces.isEmpty else { return }
        var occurring: Set<Int32> = []
        for sample in samples { occurring.formUnion(sample.tokens) }
        if let stranger = pieces.keys.first(where: { !occurring.contains($0) }) {
            throw StoreError(.badInput, "a piece of text for token \(stranger), which occurs in no sample")
        }
    }

    private static func problem(_ sample: ProbeSample) -> String? {
        if let token = sample.tokens.first(where: { $0 < 0 }) { return "token \(token) is negative" }
        if sample.supervised.isEmpty { return "no token is supervised" }
        var end = 1
        for range in sample.supervised {
            guard !range.isEmpty, range.lowerBound >= end, range.upperBound <= sample.tokens.count else {
                return "supervised tokens \(range.lowerBound) to \(range.upperBound) are empty, overlap or are not within 1 to \(sample.tokens.count)"
            }
            end = range.upperBound
        }
        return nil
    }
}

/// A probe in a list.
public struct ProbeSummary: Sendable {
    public var id: ContentID
    /// A probe of several names has a summary for each.
    public var name: String
    public var samples: Int
    public var tokens: Int
    /// Tokens that outputs are recorded for.
    public var supervisedTokens: Int
    /// Entropy records on it.
    public var records: Int
    /// Bytes it takes, packed, without its records.
    public var bytes: UInt64
    /// Nanoseconds since 1970.
    public var created: Int64
}
