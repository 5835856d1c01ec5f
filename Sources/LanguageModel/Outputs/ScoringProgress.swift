/// How far a computation is, in scored tokens.
public struct ScoringProgress: Sendable {
    /// Tokens whose figures are there.
    public var doneTokens: UInt64
    /// Tokens that were missing when it began.
    public var totalTokens: UInt64

    init(_ probe: ScoredProbe, _ missing: [Int]) {
        doneTokens = 0
        totalTokens = missing.reduce(0) { $0 + UInt64(probe.samples[$1].count) }
    }

    mutating func add(_ outputs: TokenOutputs) { doneTokens += UInt64(outputs.entropy.count) }
}
