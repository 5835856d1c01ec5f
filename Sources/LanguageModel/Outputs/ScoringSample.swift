/// A sequence, and which of its tokens are scored.
public struct ScoringSample: Sendable {
    /// Prompt and completion.
    public var tokens: [Int32]
    /// Ascending, disjoint, within 1 ..< tokens.count: a token is predicted from those before it.
    public var supervised: [Range<Int>]
    /// As errors name it; empty: by its place.
    public var name: String

    public init(tokens: [Int32], supervised: [Range<Int>], name: String = "") {
        self.tokens = tokens
        self.supervised = supervised
        self.name = name
    }

    /// Scored tokens.
    public var count: Int { supervised.reduce(0) { $0 + $1.count } }

    /// Tokens that must be run: the last scored one is only predicted.
    var inputCount: Int { max(0, (supervised.last?.upperBound ?? 0) - 1) }
}

extension ScoringSample {
    /// As errors name it.
    func shown(_ index: Int) -> String { "sample \(name.isEmpty ? "\(index)" : name)" }

    /// Refuses a sample that would be read outside its tokens or the vocabulary: the last token scored is looked up too.
    ///
    /// - Parameter model: as errors name it.
    /// - Throws: `.malformed`, `.mismatch` naming the sample.
    func check(_ index: Int, vocabulary: Int, of model: String) throws(LanguageModelError) {
        var end = 1
        for range in supervised {
            guard !range.isEmpty, range.lowerBound >= end, range.upperBound <= tokens.count else {
                throw LanguageModelError(
                    .malformed, "\(shown(index)): supervised tokens that are out of order, not there or have none before them")
            }
            end = range.upperBound
        }
        try ScoringSample.check(tokens, shown(index), vocabulary: vocabulary, of: model)
    }

    /// Refuses tokens beyond the vocabulary.
    static func check(_ tokens: [Int32], _ sample: String, vocabulary: Int, of model: String) throws(LanguageModelError) {
        guard let token = tokens.first(where: { $0 < 0 || Int($0) >= vocabulary }) else { return }
        throw LanguageModelError(
            .mismatch, "\(sample): token \(token), and \(model) has a vocabulary of \(vocabulary)", hint: "the tokens are not this model's")
    }
}
