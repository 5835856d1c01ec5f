import ArgumentParser
import CheckpointStore
import LanguageModel

/// What commands that run models take.
struct ScoringArguments: ParsableArguments {
    @Option(help: ArgumentHelp("The probe: its name, or a unique prefix of its id.", valueName: "name"))
    var probe: String
    @Option(help: ArgumentHelp("Read at most so many tokens of a sample; the rest is cut at the right.", valueName: "tokens"))
    var maxLength = 4096
    @Option(help: ArgumentHelp("Threads, each with a batch of its own (default: one for each processor).", valueName: "n"))
    var threads: Int?

    func validate() throws {
        guard maxLength > 1 else { throw ValidationError("--max-length is at least 2") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
    }
}

/// Has the entropies of a snapshot computed where the store lacks them, with a word beforehand and progress meanwhile.
enum EntropyRunner {
    static func evaluate(
        _ store: Store, _ ref: String, _ arguments: ScoringArguments
    ) throws(StoreError) -> EntropyEvaluation {
        let options = ScoringOptions(threads: arguments.threads)
        let evaluation = try EntropyEvaluation(
            store, ref, probe: arguments.probe, maximumLength: arguments.maxLength, options)
        if !evaluation.cutSamples.isEmpty {
            let shown = evaluation.cutSamples.prefix(3).joined(separator: ", ") + (evaluation.cutSamples.count > 3 ? ", ..." : "")
            Console.error(
                Console.printable(
                    "ckpt: note: \(Format.count(evaluation.cutSamples.count, "sample")) cut to \(arguments.maxLength) tokens: \(shown)"))
        }
        guard try !evaluation.isKept() else { return evaluation }
        do {
            let model = try evaluation.openModel()
            Console.error(
                Console.printable(
                    "ckpt: running \(ref) (\(model.modelType)): up to \(Format.bytes(UInt64(model.scoringMemory(options)))) of memory beside its mapped weights"))
            let meter = Meter()
            try evaluation.run(model, isStopped: { Interrupt.isRequested }) { progress in
                Console.progress { meter.tokens(ref, progress.doneTokens, progress.totalTokens) }
            }
        } catch {
            Console.endProgress()
            throw StoreError(running: error, ref)
        }
        Console.endProgress()
        return evaluation
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
