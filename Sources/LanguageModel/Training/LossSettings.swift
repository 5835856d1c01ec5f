/// What is trained on: -ln softmax(z)[y] of the logits z = share z_strong + weakShare z_weak, y the token that follows.
public struct LossSettings: Sendable, Equatable {
    /// Lambda of the mixed logits; without a weak model the scale of the logits (a temperature of 1 / share).
    public var share: Float
    /// 1 - lambda; 0 without a weak model.
    public var weakShare: Float
    /// Label smoothing: the target distribution is (1 - smoothing) e_y + smoothing / V.
    public var smoothing: Float

    public init(share: Float = 1, weakShare: Float = 0, smoothing: Float = 0) {
        self.share = share
        self.weakShare = weakShare
        self.smoothing = smoothing
    }
}

/// What was seen of the supervised tokens of a batch: sums over them, in nats.
public struct LossFigures: Sendable, Equatable {
    /// Supervised ones.
    public var tokens = 0
    /// Of the loss that is trained on.
    public var loss = 0.0
    /// -ln P(y) of the strong model by itself, and its entropy.
    public var nll = 0.0
    /// Of the strong model by itself.
    public var entropy = 0.0
    /// P(y) of the strong model by itself, and of the mixed logits.
    public var probability = 0.0
    /// P(y) of the mixed logits.
    public var mixedProbability = 0.0
    /// Of the weak model's entropy, and of ln C = ln sum_v P_weak^(1 - lambda) P_strong^lambda; 0 without one.
    public var weakEntropy = 0.0
    /// Of ln C; 0 without a weak model.
    public var logMixingConstant = 0.0

    public init() {}

    public static func += (a: inout LossFigures, b: LossFigures) {
        a.tokens += b.tokens
        a.loss += b.loss
        a.nll += b.nll
        a.entropy += b.entropy
        a.probability += b.probability
        a.mixedProbability += b.mixedProbability
        a.weakEntropy += b.weakEntropy
        a.logMixingConstant += b.logMixingConstant
    }
}
