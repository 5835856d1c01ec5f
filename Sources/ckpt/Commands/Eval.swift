import ArgumentParser
import CheckpointStore
import LanguageModel

/// `ckpt eval`
struct Eval: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure snapshots on samples: how often they are right, and how well they know it.",
        discussion: """
            Each prompt is gone on with, the most likely token each time, and the answer compared with that of the reference
            completion: what follows the last #### (--answer), or the last match of a regular expression (--pattern; its first
            group); all of the text where the reference has no mark. Intervals are Wilson's, 95 %.

            NLL, Brier score, entropy and ECE (expected calibration error, 15 bins of equally many tokens) are over the supervised tokens
            of the references. --calibrate fits one temperature on other samples, and shows them at that one too: training with
            mixed logits sharpens what is deployed, so the raw figures alone mislead.

            --pass-at K draws K answers a sample and counts samples with a right one among them.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "Snapshots or model directories.")
    var models: [String]
    @Option(help: ArgumentHelp("The samples: a file or a probe.", valueName: "file|probe"), completion: .file(extensions: ["jsonl", "json"]))
    var data: String
    @Option(help: ArgumentHelp("What stands before an answer.", valueName: "text"))
    var answer = "####"
    @Option(help: ArgumentHelp("A regular expression for the answer.", valueName: "regex"))
    var pattern: String?
    @Option(help: ArgumentHelp("Draw so many answers a sample, at --temperature (default: .7).", valueName: "k"))
    var passAt: Int?
    @Option(help: ArgumentHelp("Fit a temperature on these samples.", valueName: "file|probe"), completion: .file(extensions: ["jsonl", "json"]))
    var calibrate: String?
    @Flag(help: "Generate nothing: only figures of the references' tokens.")
    var noGenerate = false
    @Option(help: ArgumentHelp("Only the first n samples.", valueName: "n"))
    var limit: Int?
    @Flag(help: "With --json: what became of each sample.")
    var perSample = false
    @OptionGroup var generation: GenerationArguments
    @OptionGroup var limits: ScoringLimits
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard !models.isEmpty else { throw ValidationError("no snapshot is named") }
        guard passAt ?? 1 > 0 else { throw ValidationError("--pass-at is at least 1") }
        guard passAt != nil || generation.temperature == nil else {
            throw ValidationError("--temperature goes with --pass-at; accuracy is that of the most likely tokens")
        }
        guard limit ?? 1 > 0 else { throw ValidationError("--limit is at least 1") }
        guard !noGenerate || passAt == nil else { throw ValidationError("--no-generate draws no answers: --pass-at does not go with it") }
    }

    func run() throws {
        let pattern = try AnswerPattern(marker: answer, pattern: pattern)
        var rows: [EvalRow] = []
        for name in models {
            do {
                let source = try ModelSource(name, options)
                rows.append(try evaluate(source, pattern))
            } catch {
                Console.endProgress()
                throw StoreError(running: error, name)
            }
        }
        if options.json {
            Console.print(JSONOutput.array(rows.map { $0.json(perSample: perSample) }).text)
        } else {
            Console.print(EvalRow.table(rows).text(width: Console.width))
        }
    }

    private func samples(_ source: String, _ model: ModelSource, limit: Int?) throws -> [EvalSample] {
        let all = try EvalSample.read(source, model, options)
        return Array(all.prefix(limit ?? all.count)).map { $0.cut(limits.maximumLength) }
    }

    private func evaluate(_ source: ModelSource, _ pattern: AnswerPattern) throws -> EvalRow {
        let samples = try samples(data, source, limit: limit)
        let others = try calibrate.map { try self.samples($0, source, limit: nil) } ?? []
        let ends = source.tokenizer?.ends ?? []
        var settings = generation.options(ends: ends, threads: limits.threads)
        settings.temperature = 0
        let promptLength = samples.map(\.prompt.count).max() ?? 1
        let scoredLength = (samples + others).map(\.scoring.tokens.count).max() ?? 1
        let model = try source.model(longest: max(scoredLength, noGenerate ? 1 : promptLength + settings.maximumTokens))
        var row = EvalRow(name: source.name, samples: samples.count)
        if !noGenerate {
            let tokenizer = try source.neededTokenizer()
            let references = try samples.map { sample in
                guard let reference = pattern.reference(sample.completion(tokenizer)) else {
                    throw StoreError(.badInput, "sample \(sample.id): its completion has no answer that --pattern finds")
                }
                return reference
            }
            row.outcomes = try generate(model, tokenizer, samples, references, pattern, settings, "answers")
            if let passAt {
                settings.temperature = generation.temperature ?? 0.7
                var right = [Bool](repeating: false, count: samples.count)
                for attempt in 0..<passAt {
                    settings.attempt = UInt32(attempt)
                    let drawn = try generate(model, tokenizer, samples, references, pattern, settings, "draw \(attempt + 1) of \(passAt)")
                    for (index, outcome) in drawn.enumerated() where outcome.isRight { right[index] = true }
                }
                row.passAt = (passAt, Share(count: right.count { $0 }, total: samples.count))
            }
        }
        let scoring = samples.map(\.scoring)
        row.calibration = try model.calibration(scoring, limits.options, isStopped: { Interrupt.isRequested })[0]
        if !others.isEmpty {
            let temperature = try model.fittedTemperature(others.map(\.scoring), limits.options, isStopped: { Interrupt.isRequested })
            row.calibrated = try model.calibration(
                scoring, temperatures: [temperature], limits.options, isStopped: { Interrupt.isRequested })[0]
        }
        return row
    }

    private func generate(
        _ model: LanguageModel, _ tokenizer: SampleTokenizer, _ samples: [EvalSample], _ references: [String], _ pattern: AnswerPattern,
        _ settings: GenerationOptions, _ what: String
    ) throws -> [EvalOutcome] {
        let meter = Meter()
        var done = 0
        let made = try model.generate(samples.map(\.prompt), settings, isStopped: { Interrupt.isRequested }) { _, _ in
            done += 1
            Console.progress { "\(what): \(done) tokens of at most \(samples.count * settings.maximumTokens)  \(Int(Double(done) / meter.seconds))/s" }
        }
        Console.endProgress()
        return zip(zip(samples, references), made).map { pair, made in
            let (sample, reference) = pair
            let text = tokenizer.text(made.tokens)
            let answer = pattern.generated(text, reference: sample.completion(tokenizer))
            return EvalOutcome(id: sample.id, answer: answer, expected: reference, text: text, tokens: made.tokens.count)
        }
    }
}
