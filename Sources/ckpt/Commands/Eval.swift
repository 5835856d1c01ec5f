import ArgumentParser
import CheckpointReports
import CheckpointStore
import LanguageModel

/// `ckpt eval`
struct Eval: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure models: answers that are right, loss and calibration.",
        discussion: """
            DATA is a file as "ckpt probe add" reads it, made into tokens by each model's own tokenizer, or a probe.

            ACCURACY: each prompt is continued with the likeliest tokens; the answer in it must be that of the reference
            completion. The answer is what follows the last "####" (--answer), or the first group, else the whole, of the last
            match of --pattern; where a reference has no "####", the whole text. White space around it and commas between
            thousands do not count. The interval is Wilson's, 95 %. PASS@K is the share of samples of which any of K drawn
            texts is right.

            Over supervised tokens: NLL and the ENTROPY of the distribution in nats, the BRIER score (sum over the vocabulary
            of (p - [is the token])^2), ECE, the calibration error of the likeliest token's probability in 15 bins of equally
            many tokens, and MEAN P of the token. With --calibrate again after one temperature, the one at which the loss on
            that data is least.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The models: snapshots or paths.", completion: .snapshotOrPath)
    var refs: [String]
    @Option(help: ArgumentHelp("The samples.", valueName: "file|probe"), completion: .probeOrPath)
    var data: String
    @Option(help: ArgumentHelp("The member of a file's lines that holds the prompt.", valueName: "key"))
    var promptKey: String?
    @Option(help: ArgumentHelp("The member that holds the completion.", valueName: "key"))
    var completionKey: String?
    @Option(help: ArgumentHelp("What stands before an answer.", valueName: "text"))
    var answer = "####"
    @Option(help: ArgumentHelp("What an answer looks like.", valueName: "regex"))
    var pattern: String?
    @Option(help: ArgumentHelp("New tokens of a text at most.", valueName: "n"))
    var maxNew = 256
    @Option(help: ArgumentHelp("Draw so many texts of each sample too.", valueName: "k"))
    var passAt: Int?
    @Option(help: ArgumentHelp("At which they are drawn (default: 0.7).", valueName: "t"))
    var temperature: Double?
    @Option(help: ArgumentHelp("What is drawn depends on it.", valueName: "n"))
    var seed: UInt64 = 0
    @Option(help: ArgumentHelp("Samples that a temperature is fitted on.", valueName: "file|probe"), completion: .probeOrPath)
    var calibrate: String?
    @Flag(help: "Generate nothing: loss and calibration only.")
    var noGenerate = false
    @Flag(help: "Show each sample's answer too.")
    var perSample = false
    @Option(help: ArgumentHelp("Take only the first samples of the data.", valueName: "n"))
    var limit: Int?
    @OptionGroup var limits: ScoringLimits
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard maxNew > 0 else { throw ValidationError("--max-new is at least 1") }
        guard limit ?? 1 > 0 else { throw ValidationError("--limit is at least 1") }
        guard passAt ?? 1 > 0, passAt ?? 1 <= 1 << 16 else { throw ValidationError("--pass-at is from 1 to 65536") }
        guard !answer.isEmpty else { throw ValidationError("--answer is not empty") }
        if let temperature, !(temperature > 0 && temperature.isFinite) { throw ValidationError("--temperature is above zero") }
        if temperature != nil, passAt == nil { throw ValidationError("--temperature goes with --pass-at") }
        if noGenerate, passAt != nil || pattern != nil || perSample {
            throw ValidationError("--no-generate makes no answers: --pass-at, --pattern and --per-sample do not go with it")
        }
    }

    func run() throws {
        let rule: AnswerRule
        do throws(LanguageModelError) {
            rule = try AnswerRule(marker: answer, pattern: pattern)
        } catch {
            throw StoreError(.badInput, "--pattern: \(error.reason)")
        }
        let keys = ProbeFile.TextKeys(prompt: promptKey, completion: completionKey)
        let evaluator = Evaluator(
            data: try EvaluationData(data, limit: limit, keys: keys, options),
            calibration: try calibrate.map { name throws(StoreError) in try EvaluationData(name, limit: nil, keys: keys, options) },
            rule: noGenerate ? nil : rule, maximumNew: maxNew, attempts: passAt.map { ($0, temperature ?? 0.7, seed) }, limits: limits)
        var results: [ModelEvaluation] = []
        for ref in refs { results.append(try evaluator.evaluate(ref, options)) }
        let format = EvaluationFormat(results: results, attempts: passAt, perSample: perSample)
        Console.print(options.json ? format.json.text : format.text)
    }
}
