import CheckpointStore
import LanguageModel

/// Has figures computed where the store lacks them, with a word beforehand and progress meanwhile.
enum EntropyRunner {
    /// The probe as models are run on it; says which samples are cut.
    static func probe(_ store: Store, _ name: String, _ limits: ScoringLimits) throws(StoreError) -> ScoredProbe {
        let probe = try ScoredProbe(store, name, maximumLength: limits.maximumLength)
        noteCuts(probe, limits)
        return probe
    }

    static func noteCuts(_ probe: ScoredProbe, _ limits: ScoringLimits) {
        if !probe.cutSamples.isEmpty {
            let shown = probe.cutSamples.prefix(3).joined(separator: ", ") + (probe.cutSamples.count > 3 ? ", ..." : "")
            Console.error(
                Console.printable(
                    "ckpt: note: \(Format.count(probe.cutSamples.count, "sample")) cut to \(limits.maximumLength) tokens: \(shown)"))
        }
    }

    /// The entropies of one snapshot.
    static func evaluate(
        _ store: Store, _ ref: String, _ probe: ScoredProbe, _ limits: ScoringLimits
    ) throws(StoreError) -> EntropyEvaluation {
        let evaluation = try EntropyEvaluation(store, ref, probe, limits.options)
        try complete(evaluation)
        return evaluation
    }

    static func complete(_ evaluation: EntropyEvaluation) throws(StoreError) {
        guard try !evaluation.isKept() else { return }
        let ref = evaluation.ref
        try evaluation.checkMaker()
        try running(ref) {
            let model = try evaluation.openModel(isStopped: { Interrupt.isRequested }, decoding: decoding(ref))
            Console.endProgress()
            try ModelNotes.print(evaluation, model)
            announce("\(ref) (\(model.modelType)): up to \(Format.bytes(UInt64(model.scoringMemory(evaluation.options)))) of memory beside its mapped weights")
            let meter = Meter()
            try evaluation.run(model, isStopped: { Interrupt.isRequested }) { progress in
                Console.progress { meter.tokens(ref, progress.doneTokens, progress.totalTokens) }
            }
        }
    }

    /// The figures of a pair, of one sample or of all, and of both models by themselves.
    static func complete(_ pair: PairEvaluation, sample: Int?) throws(StoreError) {
        let missing = try pair.missing(sample)
        let name = "\(pair.weak.ref) and \(pair.strong.ref)"
        if !missing.isEmpty {
            try pair.checkMakers()
            try running(name) {
                let models = try pair.openModels(isStopped: { Interrupt.isRequested }, decoding: decoding(name))
                Console.endProgress()
                try ModelNotes.print(pair.weak, models.weak)
                try ModelNotes.print(pair.strong, models.strong)
                announce("\(name) (\(models.strong.modelType)): up to \(Format.bytes(UInt64(pair.scoringMemory(models)))) of memory beside their mapped weights")
                let meter = Meter()
                try pair.run(models, missing: missing, isStopped: { Interrupt.isRequested }) { progress in
                    Console.progress { meter.tokens(name, progress.doneTokens, progress.totalTokens) }
                }
            }
        }
        // A record of the pair that came from elsewhere, or outlived one of theirs.
        for model in [pair.weak, pair.strong] {
            if let sample, try model.record()?.contains(sample) == true { continue }
            try complete(model)
        }
    }

    /// Shows how far the weights of a snapshot without an image are decoded.
    private static func decoding(_ name: String) -> @Sendable (UInt64, UInt64) -> Void {
        let meter = Meter()
        return { done, total in Console.progress { meter.line("\(name): decoding its weights", done, total) } }
    }

    private static func announce(_ what: String) { Console.error(Console.printable("ckpt: running \(what)")) }

    private static func running(_ what: String, _ body: () throws -> Void) throws(StoreError) {
        defer { Console.endProgress() }
        do {
            try body()
        } catch {
            throw StoreError(running: error, what)
        }
    }
}

extension StoreError {
    /// An error of a forward pass, as commands report it.
    init(running error: any Error, _ ref: String) {
        switch error {
        case let error as StoreError: self = error
        case let error as LanguageModelError where error.code == .interrupted:
            self.init(.interrupted, "\(ref): interrupted; what was computed is kept", hint: "the same command goes on from there")
        case let error as LanguageModelError:
            self.init(error.code == .failed ? .failed : .badInput, error.reason, hint: error.hint)
        default: self.init(.failed, "\(error)")
        }
    }
}
