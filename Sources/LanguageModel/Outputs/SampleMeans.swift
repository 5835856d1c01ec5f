/// One sample's outputs, averaged over its scored tokens, in nats.
public struct SampleMeans: Sendable, Equatable {
    /// The sample's, in its probe.
    public var id: String
    /// Supervised tokens that were scored.
    public var tokens: Int
    /// Mean entropy of the distributions that predict them.
    public var entropy: Double
    /// Mean loss.
    public var nll: Double
    /// Tokens that were the likeliest.
    public var right: Int

    public init(id: String, tokens: Int, entropy: Double, nll: Double, right: Int) {
        self.id = id
        self.tokens = tokens
        self.entropy = entropy
        self.nll = nll
        self.right = right
    }

    /// The share of its tokens that were the likeliest.
    public var top1: Double { Double(right) / Double(max(1, tokens)) }

    static func mean(_ values: [Float]) -> Double { values.reduce(0) { $0 + Double($1) } / Double(max(1, values.count)) }
}
