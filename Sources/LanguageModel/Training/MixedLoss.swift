internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// -ln softmax(z)[y] of mixed logits, and its gradient by the logits of each model: with g = softmax(z) - e_y,
/// share g and weakShare g (method of weak-driven learning, arXiv 2602.08222).
struct MixedLoss {
    private let settings: LossSettings
    /// The weight of a token in the gradient; nil: there is none.
    private let weight: Float?
    private let trainsWeak: Bool
    private let kernels = ck_active_forward_kernels().pointee
    private let backwardKernels = ck_active_backward_kernels().pointee

    init(_ settings: LossSettings, weight: Float?, trainsWeak: Bool) {
        self.settings = settings
        self.weight = weight
        self.trainsWeak = trainsWeak
    }

    /// What one token's logits say; with a weight they become the gradient by them, the weak's where it is trained.
    ///
    /// - Parameters:
    ///   - z: (V), the strong model's.
    ///   - weak: (V); nil: nothing is mixed in.
    ///   - rotation: of the weak's logits.
    ///   - buffer: scratch of a thread.
    func turnIntoGradient(
        _ z: UnsafeMutablePointer<Float>, _ weak: UnsafeMutablePointer<Float>?, _ count: Int, target: Int, _ rotation: Rotation?,
        _ buffer: FloatBuffer
    ) -> LossFigures {
        var figures = LossFigures()
        figures.tokens = 1
        let own = distribution(z, count)
        figures.nll = own.nll(z[target])
        figures.entropy = own.entropy
        figures.probability = exp(-figures.nll)
        var mixed = own
        if let weak {
            rotation?.apply(to: weak, buffer)
            let other = distribution(weak, count)
            backwardKernels.mix(z, weak, count, settings.share, settings.weakShare)
            mixed = distribution(z, count)
            figures.weakEntropy = other.entropy
            figures.logMixingConstant =
                mixed.logSum - Double(settings.share) * own.logSum - Double(settings.weakShare) * other.logSum
        } else if settings.share != 1 {
            backwardKernels.mix(z, z, count, settings.share, 0)
            mixed = distribution(z, count)
        }
        let logSum = mixed.logSum
        figures.loss = logSum - Double(1 - settings.smoothing) * Double(z[target])
        figures.mixedProbability = exp(-mixed.nll(z[target]))
        if settings.smoothing > 0 {
            var sum = 0.0
            for token in 0..<count { sum += Double(z[token]) }
            figures.loss -= Double(settings.smoothing) * sum / Double(count)
        }
        guard let weight else { return figures }
        if let weak, trainsWeak {
            weak.update(from: z, count: count)
            turnIntoGradient(weak, count, target, logSum, weight * settings.weakShare)
            rotation?.inverse.apply(to: weak, buffer)
        }
        turnIntoGradient(z, count, target, logSum, weight * settings.share)
        return figures
    }

    /// z = weight (softmax(z) - q), q the smoothed target.
    private func turnIntoGradient(
        _ z: UnsafeMutablePointer<Float>, _ count: Int, _ target: Int, _ logSum: Double, _ weight: Float
    ) {
        backwardKernels.probability_gradient(z, count, Float(logSum), weight, weight * settings.smoothing / Float(count))
        z[target] -= weight * (1 - settings.smoothing)
    }

    private func distribution(_ z: UnsafeMutablePointer<Float>, _ count: Int) -> ck_distribution {
        var state = Scorer.empty
        kernels.observe(z, count, 0, &state)
        return state
    }
}

extension Rotation {
    /// In place.
    fileprivate func apply(to row: UnsafeMutablePointer<Float>, _ buffer: FloatBuffer) {
        let original = buffer.matrix(1, vocabulary).data
        original.update(from: row, count: vocabulary)
        var rotated = MutableSpan(_unsafeStart: row, count: vocabulary)
        apply(to: Span(_unsafeStart: original, count: vocabulary), 0..<vocabulary, into: &rotated)
    }
}
