#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// How good the probabilities are that a model gives to tokens: means over tokens.
public struct CalibrationSummary: Sendable, Equatable {
    /// Supervised tokens.
    public var tokens: Int
    /// -ln P(token), in nats.
    public var nll: Double
    /// The multi-class score: sum over the vocabulary of (p - [is the token])^2.
    public var brier: Double
    /// Expected calibration error of the likeliest token's probability.
    public var ece: Double
    /// In nats.
    public var entropy: Double
    /// P(token).
    public var meanP: Double

    public init(_ outputs: TemperedOutputs) {
        let count = Double(max(1, outputs.nll.count))
        tokens = outputs.nll.count
        nll = outputs.nll.reduce(0, +) / count
        brier = outputs.brier.reduce(0, +) / count
        entropy = outputs.entropy.reduce(0, +) / count
        meanP = outputs.nll.reduce(0) { $0 + exp(-$1) } / count
        ece = CalibrationSummary.error(outputs.confidence, outputs.isRight)
    }

    /// Tokens in the order of their confidence, equals as they come, in `bins` parts of nearly one size: mean over tokens of how far
    /// a part's share of right ones is from its mean confidence.
    static func error(_ confidence: [Double], _ isRight: [Bool], bins: Int = 15) -> Double {
        let order = confidence.indices.sorted { (confidence[$0], $0) < (confidence[$1], $1) }
        var error = 0.0
        for bin in 0..<bins {
            let part = order[order.count * bin / bins..<order.count * (bin + 1) / bins]
            error += abs(part.reduce(0) { $0 + (isRight[$1] ? 1 : 0) - confidence[$1] })
        }
        return error / Double(max(1, order.count))
    }
}
