internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension ck_distribution {
    /// ln of the sum of exp(z); `sum` is relative to the largest.
    var logSum: Double { log(sum) + Double(largest) }

    /// In nats: rounding makes it no less than zero. NaN stays NaN.
    var entropy: Double { atLeastZero(log(sum) - weighted / sum) }

    /// -ln P of a token with this logit.
    func nll(_ logit: Float) -> Double { atLeastZero(logSum - Double(logit)) }
}

/// What rounding made negative is zero; NaN stays NaN, which `max` would make zero.
func atLeastZero(_ x: Double) -> Double { x < 0 ? 0 : x }
