import ArgumentParser
import CheckpointReports
import CheckpointStore
import LanguageModel

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// `ckpt generate`
struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue texts with a model.",
        discussion: """
            The prompt is --prompt, or each line of FILE: JSON with prompt, messages, or input_ids and completion_start, as
            "ckpt probe add" reads them; completions are not needed and not shown to the model. Its tokens are those that
            probes begin with.

            Without --temperature the likeliest token is taken, the first of equals. With it tokens are drawn: the same seed,
            sample and attempt draw the same, whatever else is generated and on however many threads. A text ends at an end of
            sequence that the model's files name, after --max-new tokens, or at the model's last position.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The model: a snapshot or a path.", completion: .snapshotOrPath)
    var ref: String
    @Argument(help: "Prompts, JSON lines; - is standard input.", completion: .file(extensions: ["jsonl", "json"]))
    var file: String?
    @Option(help: ArgumentHelp("One prompt.", valueName: "text"))
    var prompt: String?
    @Flag(help: "Take the prompt as what a user says, and write it by the model's chat template.")
    var chat = false
    @Option(help: ArgumentHelp("New tokens at most.", valueName: "n"))
    var maxNew = 256
    @OptionGroup var sampling: SamplingArguments
    @Option(help: ArgumentHelp("Texts made of each prompt.", valueName: "n"))
    var samples = 1
    @Option(help: ArgumentHelp("Threads (default: one for each processor).", valueName: "n"))
    var threads: Int?
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard (prompt == nil) != (file == nil) else { throw ValidationError("a prompt is needed: --prompt TEXT or a FILE, one of them") }
        guard maxNew > 0, samples > 0, samples <= 1 << 20 else { throw ValidationError("--max-new and --samples are at least 1") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
        if chat, file != nil { throw ValidationError("--chat goes with --prompt; lines of a file have messages") }
        if samples > 1, sampling.temperature == nil { throw ValidationError("--samples needs --temperature: the likeliest tokens are the same each time") }
    }

    func run() throws {
        let runner = try ModelRunner(ref, options)
        let tokenizer = try runner.tokenizer()
        let prompts = try runner.running { try self.prompts(tokenizer) }
        let requests = prompts.indices.flatMap { index in
            (0..<samples).map { GenerationRequest(tokens: prompts[index].tokens, sample: index, attempt: $0, name: prompts[index].id) }
        }
        let needed = prompts.map(\.tokens.count).max() ?? 1
        let model = try runner.model(longest: runner.positions(needed: needed, wanted: needed + maxNew))
        ModelNotes.printUnused(ref, model.unusedTensors)
        let generation = sampling.options(maximumNew: maxNew, ends: tokenizer.ends, threads: threads)
        if requests.count == 1, !options.json {
            try stream(requests[0], runner, model, generation, tokenizer)
            return
        }
        runner.announce(model, memory: model.generationMemory(requests, generation))
        let made = try runner.generate(requests, generation, model, "generating")
        if options.json {
            let rows = zip(requests, made).map { json($0, $1, tokenizer) }
            Console.print(JSONOutput.object([("ref", .string(ref)), ("generations", .array(rows))]).text)
            return
        }
        for (request, result) in zip(requests, made) {
            let attempt = samples > 1 ? " (\(request.attempt + 1) of \(samples))" : ""
            Console.print(Console.printable("== \(request.name)\(attempt)"))
            Console.print(Console.printable(tokenizer.tokenizer.decode(result.tokens, skipSpecialTokens: true), keeping: ["\n", "\t"]))
        }
    }

    private func prompts(_ tokenizer: SampleTokenizer) throws -> [(id: String, tokens: [Int32])] {
        let lines: [ProbeLine]
        if let prompt {
            let content: ProbeLine.Content = chat
                ? .messages([ProbeLine.Message(role: "user", content: prompt)]) : .text(prompt: prompt, completion: "")
            lines = [ProbeLine(place: "--prompt", id: "prompt", content: content)]
        } else {
            lines = try ProbeFile.read(file!, promptsOnly: true)
        }
        ProbeTokenizer.noteLosses(lines, tokenizer)
        return try lines.map { ($0.id, try tokenizer.prompt($0)) }
    }

    /// Writes the text as it comes, whole characters only.
    private func stream(
        _ request: GenerationRequest, _ runner: ModelRunner, _ model: LanguageModel, _ generation: GenerationOptions,
        _ tokenizer: SampleTokenizer
    ) throws {
        var tokens: [Int32] = []
        var written = 0
        try runner.running {
            try model.generate([request], generation, isStopped: { Interrupt.isRequested }) { event in
                var isLast = false
                switch event {
                case .token(_, let token): tokens.append(token)
                case .finished: isLast = true
                }
                let text = Array(tokenizer.tokenizer.decode(tokens, skipSpecialTokens: true).utf8)
                // A replacement character at the end may become a whole one.
                guard isLast || !text.suffix(3).elementsEqual([0xEF, 0xBF, 0xBD]), text.count > written else { return }
                Console.write(
                    Console.printable(String(decoding: text[written...], as: UTF8.self), keeping: ["\n", "\t"]), STDOUT_FILENO)
                written = text.count
            }
        }
        Console.print("")
    }

    private func json(_ request: GenerationRequest, _ made: Generation, _ tokenizer: SampleTokenizer) -> JSONOutput {
        [
            "id": .string(request.name), "attempt": .int(request.attempt), "prompt_tokens": .int(request.tokens.count),
            "text": .string(tokenizer.tokenizer.decode(made.tokens, skipSpecialTokens: true)), "stop": .string(made.stop.rawValue),
            "tokens": .array(made.tokens.map { .int(Int($0)) }),
            "log_probabilities": .array(made.logProbabilities.map { .double(Double($0)) }),
        ]
    }
}
