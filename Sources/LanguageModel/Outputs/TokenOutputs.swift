/// What a model says about the tokens it was scored on, in their order. Entropies and losses in nats.
public struct TokenOutputs: Sendable, Equatable {
    /// Of the distribution that predicts the token: the logits one position before it.
    public var entropy: [Float] = []
    /// -ln P(token)
    public var nll: [Float] = []
    /// The likeliest token; the smallest id of equals.
    public var top: [Int32] = []

    public init() {}
}

/// What a strong and a weak model say about the same tokens.
public struct PairOutputs: Sendable, Equatable {
    public var strong = TokenOutputs()
    public var weak = TokenOutputs()
    /// KL(strong || weak), in nats.
    public var strongToWeak: [Float] = []
    /// KL(weak || strong), in nats.
    public var weakToStrong: [Float] = []
    /// ln C, C = sum of P_weak^(1 - lambda) P_strong^lambda: at most zero.
    public var logMixingConstant: [Float] = []
    /// Of the tokens that are not the target, the share whose margin to it is smaller for the weak model.
    public var hardNegatives: [Float] = []

    public init() {}
}
