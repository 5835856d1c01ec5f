/// Results of a batch, to be cut into those of its samples.
protocol SampleOutputsSlicing: Sendable {
    func sliced(_ range: Range<Int>) -> Self
    /// False where a logit was NaN or infinite.
    var isFinite: Bool { get }
}

extension TokenOutputs: SampleOutputsSlicing {
    var isFinite: Bool { entropy.allSatisfy(\.isFinite) && nll.allSatisfy(\.isFinite) }

    func sliced(_ range: Range<Int>) -> TokenOutputs {
        var slice = TokenOutputs()
        slice.entropy = Array(entropy[range])
        slice.nll = Array(nll[range])
        slice.top = Array(top[range])
        return slice
    }
}

extension PairOutputs: SampleOutputsSlicing {
    var isFinite: Bool {
        strong.isFinite && weak.isFinite
            && [strongToWeak, weakToStrong, logMixingConstant].allSatisfy { $0.allSatisfy(\.isFinite) }
    }

    func sliced(_ range: Range<Int>) -> PairOutputs {
        var slice = PairOutputs()
        slice.strong = strong.sliced(range)
        slice.weak = weak.sliced(range)
        slice.strongToWeak = Array(strongToWeak[range])
        slice.weakToStrong = Array(weakToStrong[range])
        slice.logMixingConstant = Array(logMixingConstant[range])
        slice.hardNegatives = Array(hardNegatives[range])
        return slice
    }
}
