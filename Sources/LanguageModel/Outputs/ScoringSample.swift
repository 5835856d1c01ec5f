/// A sequence, and which of its tokens are scored.
public struct ScoringSample: Sendable {
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
}
