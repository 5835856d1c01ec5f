import CheckpointStore
import LanguageModel

/// A model that a command is to run: a snapshot of the store, or a directory.
struct ModelSource {
    let name: String
    let contents: CheckpointContents
    let tokenizer: SampleTokenizer?

    /// - Throws: `StoreError`; a model without a tokenizer.json is none.
    init(_ name: String, _ options: StoreOptions) throws(StoreError) {
        self.name = name
        contents = try options.isOutsideTheStore(name) ? CheckpointContents(path: name) : options.open().contents(name)
        guard try contents.sidecars.contents("tokenizer.json") != nil else {
            tokenizer = nil
            return
        }
        do throws(LanguageModelError) {
            tokenizer = try SampleTokenizer(contents.sidecars)
        } catch {
            throw StoreError(running: error, name)
        }
    }

    /// The tokenizer, for what needs one.
    func neededTokenizer() throws(StoreError) -> SampleTokenizer {
        guard let tokenizer else {
            throw StoreError(
                .badInput, "\(name): no tokenizer.json", hint: "transformers writes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
        }
        return tokenizer
    }

    /// The model, its weights decoded where it has no image.
    func model(longest: Int) throws -> LanguageModel {
        let meter = Meter()
        let name = name
        defer { Console.endProgress() }
        let decoded = try contents.decodedAhead(isCancelled: { Interrupt.isRequested }) { done, total in
            Console.progress { meter.line("\(name): decoding its weights", done, total) }
        }
        return try LanguageModel(decoded, longest: longest)
    }
}
