import ArgumentParser
import CheckpointStore
import LanguageModel

/// How far and how wide models are run.
struct ScoringLimits: ParsableArguments {
    @Option(help: ArgumentHelp("Read at most so many tokens of a sample, 4096 by default; the rest is cut at the right.", valueName: "tokens"))
    var maxLength: Int?
    @Option(help: ArgumentHelp("Threads, each with a batch of its own (default: one for each processor).", valueName: "n"))
    var threads: Int?

    var maximumLength: Int { maxLength ?? 4096 }
    var options: ScoringOptions { ScoringOptions(threads: threads) }

    func validate() throws {
        guard maxLength ?? 2 > 1 else { throw ValidationError("--max-length is at least 2") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
    }
}

/// What commands that run models take.
struct ScoringArguments: ParsableArguments {
    @Option(help: ArgumentHelp("The probe: its name, or a unique prefix of its id.", valueName: "name"))
    var probe: String
    @OptionGroup var limits: ScoringLimits
}

/// Has figures computed where the store lacks them, with a word beforehand and progress meanwhile.
enum EntropyRunner {
    /// The probe as models are run on it; says which samples are cut.
    static func probe(_ store: Store, _ name: String, _ limits: ScoringLimits) throws(StoreError) -> ScoredProbe {
        let probe = try ScoredProbe(store, name, maximumLength: limits.maximumLength)
        if !probe.cutSamples.isEmpty {
            let shown = probe.cutSamples.prefix(3).joined(separator: ", ") + (probe.cutSamples.count > 3 ? ", ..." : "")
            Console.error(
                Console.printable(
                    "ckpt: note: \(Format.count(probe.cutSamples.count, "sample")) cut to \(limits.maximumLength) tokens: \(shown)"))
        }
        return probe
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
        try running(ref) {
            let model = try evaluation.openModel(isStopped: { Interrupt.isRequested }, decoding: decoding(ref))
            announce("\(ref) (\(model.modelType))", model.scoringMemory(evaluation.options))
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
            try running(name) {
                let models = try pair.openModels(isStopped: { Interrupt.isRequested }, decoding: decoding(name))
                announce("\(name) (\(models.strong.modelType))", pair.scoringMemory(models))
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

    private static func announce(_ what: String, _ memory: Int) {
        Console.endProgress()
        Console.error(
            Console.printable("ckpt: running \(what): up to \(Format.bytes(UInt64(memory))) of memory beside its mapped weights"))
    }

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
