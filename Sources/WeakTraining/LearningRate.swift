#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The learning rate of each step: up from zero in a straight line, then down half a cosine to a tenth of the peak, or constant.
///
/// The corresponding functions of transformers are `get_cosine_with_min_lr_schedule_with_warmup`, with a `min_lr_rate` of .1, and
/// `get_constant_schedule_with_warmup`. So the first step of a warm-up has rate zero, and the step after the last would be the
/// first at the tenth.
public struct LearningRate: Sendable, Equatable {
    /// How long the rate rises.
    public enum WarmUp: Sendable, Equatable {
        /// Of all steps, rounded up to a whole one; from 0 to 1.
        case share(Double)
        /// So many, whatever the length.
        case steps(Int)
    }

    /// What the rate does after the warm-up.
    public enum Decay: String, Sendable, CaseIterable {
        case cosine, constant
    }

    /// Of the peak, what a cosine ends at.
    public static let floor = 0.1

    /// The greatest rate.
    public let peak: Double
    public let warmUp: WarmUp
    public let decay: Decay

    public static let defaultPeak = 1e-5

    /// - Throws: `.usage` unless the peak is above zero and finite and the warm-up is a share from 0 to 1 or a number of steps.
    public init(
        peak: Double = defaultPeak, warmUp: WarmUp = .share(0.1), decay: Decay = .cosine
    ) throws(WeakTrainingError) {
        guard peak > 0, peak.isFinite else {
            throw WeakTrainingError(
                .usage, "--learning-rate: \(peak) is not above zero", hint: "the default is \(LearningRate.defaultPeak)")
        }
        switch warmUp {
        case .share(let share):
            guard share >= 0, share <= 1 else {
                throw WeakTrainingError(
                    .usage, "--warm-up: a share of \(share) is not within 0 and 1", hint: "the default is .1")
            }
        case .steps(let steps):
            guard steps >= 0 else { throw WeakTrainingError(.usage, "--warm-up: \(steps) is no number of steps") }
        }
        self.peak = peak
        self.warmUp = warmUp
        self.decay = decay
    }

    /// Steps of the warm-up, of `steps` in all.
    public func warmUpSteps(of steps: Int) -> Int {
        switch warmUp {
        case .share(let share): Int((Double(steps) * share).rounded(.up))
        case .steps(let count): count
        }
    }

    /// The rate of step `step`, counted from 0, of `steps` in all.
    public func rate(at step: Int, of steps: Int) -> Double {
        precondition(step >= 0 && step < steps)
        let warmUpSteps = warmUpSteps(of: steps)
        if step < warmUpSteps { return peak * (Double(step) / Double(warmUpSteps)) }
        switch decay {
        case .constant: return peak
        case .cosine:
            let progress = Double(step - warmUpSteps) / Double(steps - warmUpSteps)
            let factor = 0.5 * (1 + cos(Double.pi * progress))
            return peak * (factor * (1 - LearningRate.floor) + LearningRate.floor)
        }
    }
}
