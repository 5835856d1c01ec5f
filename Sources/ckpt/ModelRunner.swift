import CheckpointStore
import LanguageModel

/// Opens models of snapshots and of paths, and runs them with progress on stderr.
struct ModelRunner {
    /// As the user named it.
    let ref: String
    let contents: CheckpointContents
    /// Positions its config.json says it was made for.
    let trainedLength: Int?

    init(_ ref: String, _ options: StoreOptions) throws(StoreError) {
        self.ref = ref
        contents = try options.contents(ref)
        do throws(LanguageModelError) {
            trainedLength = try LanguageModel.trainedLength(contents)
        } catch {
            throw StoreError(running: error, ref)
        }
    }

    /// Its own tokenizer, and what the files beside it say.
    func tokenizer(hint: String? = nil) throws(StoreError) -> SampleTokenizer {
        do throws(LanguageModelError) {
            var tokenizer = try SampleTokenizer(contents.sidecars)
            tokenizer.unknownTemplateHint = hint
            return tokenizer
        } catch {
            throw StoreError(running: error, ref)
        }
    }

    /// Positions for sequences that have `needed` tokens and may grow to `wanted`: not beyond what the model was made for, unless
    /// they are longer already.
    func positions(needed: Int, wanted: Int) -> Int { max(needed, min(wanted, trainedLength ?? wanted)) }

    /// The model, its weights decoded ahead where they are packed.
    func model(longest: Int) throws(StoreError) -> LanguageModel {
        let meter = Meter()
        let name = ref
        return try running { () throws in
            let model = try LanguageModel(contents, longest: longest)
            let decoded = try contents.decodedWhereNeeded(isCancelled: { Interrupt.isRequested }) { done, total in
                Console.progress { meter.line("\(name): decoding its weights", done, total) }
            }
            guard let decoded else { return model }
            return try LanguageModel(decoded, longest: longest)
        }
    }

    func announce(_ model: LanguageModel, memory: Int) {
        Console.error(
            Console.printable("ckpt: running \(ref) (\(model.modelType)): up to \(Format.bytes(UInt64(memory))) of memory beside its mapped weights"))
    }

    /// What becomes of each request, in their order.
    ///
    /// - Parameter what: is being done, for the progress.
    func generate(
        _ requests: [GenerationRequest], _ options: GenerationOptions, _ model: LanguageModel, _ what: String
    ) throws(StoreError) -> [Generation] {
        var made = [Generation](repeating: Generation(), count: requests.count)
        let meter = Meter()
        var done: UInt64 = 0
        try running {
            try model.generate(requests, options, isStopped: { Interrupt.isRequested }) { event in
                guard case .finished(let request, let result) = event else { return }
                made[request] = result
                done += 1
                Console.progress { meter.tokens("\(ref): \(what)", done, UInt64(requests.count), unit: "texts") }
            }
        }
        return made
    }

    /// Runs `body`, which fails as commands report it.
    func running<R>(_ body: () throws -> R) throws(StoreError) -> R {
        defer { Console.endProgress() }
        do {
            return try body()
        } catch let error as LanguageModelError where error.code == .interrupted {
            throw StoreError(.interrupted, "\(ref): interrupted")
        } catch {
            throw StoreError(running: error, ref)
        }
    }
}
