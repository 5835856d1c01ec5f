import CheckpointStore
import LanguageModel

/// What a user should know of a model before its figures are trusted: all of it can be meant so, and most often is a mistake.
enum ModelNotes {
    private static let shownNames = 3

    /// Says on stderr what does not fit together.
    static func print(_ evaluation: EntropyEvaluation, _ model: LanguageModel) throws(StoreError) {
        try print(evaluation.ref, model, evaluation.probe, evaluation.store.sidecars(evaluation.ref))
    }

    static func print(_ ref: String, _ model: LanguageModel, _ probe: ScoredProbe, _ files: Sidecars) throws(StoreError) {
        printUnused(ref, model.unusedTensors)
        try printSamples(ref, trainedLength: model.trainedLength, probe, files)
    }

    /// Says where samples are longer than a model was made for, or their tokens are not its own.
    static func printSamples(_ ref: String, trainedLength: Int?, _ probe: ScoredProbe, _ files: Sidecars) throws(StoreError) {
        if let length = trainedLength {
            let count = probe.count(longerThan: length)
            if count > 0 {
                note("\(Format.count(count, "sample")) longer than the \(length) positions that \(ref) was made for; --max-length \(length) cuts there")
            }
        }
        if let made = probe.probe.tokenizer, let own = try files.contents("tokenizer.json"), ContentID.hash(of: own) != made {
            note("the probe was made by another tokenizer.json than that of \(ref): its tokens may mean other things there")
        }
    }

    /// Says which weights count for nothing.
    ///
    /// - Parameter consequence: what becomes of them.
    static func printUnused(_ ref: String, _ unused: [String], _ consequence: String = "") {
        if !unused.isEmpty {
            let shown = unused.prefix(shownNames).joined(separator: ", ") + (unused.count > shownNames ? ", ..." : "")
            note("\(ref): its config.json has no use for \(Format.count(unused.count, "tensor")) of its weights: \(shown)\(consequence)")
        }
    }

    private static func note(_ text: String) { Console.error(Console.printable("ckpt: note: \(text)")) }
}
