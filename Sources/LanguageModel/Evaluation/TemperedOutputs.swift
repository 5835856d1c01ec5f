/// What a model says about tokens when its logits are divided by a temperature, token by token.
public struct TemperedOutputs: Sendable, Equatable {
    /// -ln P(token), in nats.
    public var nll: [Double] = []
    /// Of the distribution that predicts the token, in nats.
    public var entropy: [Double] = []
    /// Sum over the vocabulary of (p - [is the token])^2: 0 to 2.
    public var brier: [Double] = []
    /// Probability of the likeliest token.
    public var confidence: [Double] = []
    /// Whether that is the token.
    public var isRight: [Bool] = []
    /// Derivative of the loss with respect to ln T: z is a logit over T, E its mean, y the token; z[y] - E.
    var slope: [Double] = []

    public init() {}

    mutating func append(contentsOf other: TemperedOutputs) {
        nll += other.nll
        entropy += other.entropy
        brier += other.brier
        confidence += other.confidence
        isRight += other.isRight
        slope += other.slope
    }
}

/// The same at several temperatures.
struct TemperatureSeries: SampleOutputsSlicing {
    var outputs: [TemperedOutputs]

    var isFinite: Bool { outputs.allSatisfy { $0.nll.allSatisfy(\.isFinite) && $0.entropy.allSatisfy(\.isFinite) } }

    func sliced(_ range: Range<Int>) -> TemperatureSeries {
        TemperatureSeries(outputs: outputs.map { all in
            var slice = TemperedOutputs()
            slice.nll = Array(all.nll[range])
            slice.entropy = Array(all.entropy[range])
            slice.brier = Array(all.brier[range])
            slice.confidence = Array(all.confidence[range])
            slice.isRight = Array(all.isRight[range])
            slice.slope = Array(all.slope[range])
            return slice
        })
    }
}
