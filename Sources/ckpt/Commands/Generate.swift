import ArgumentParser
import CheckpointStore
import LanguageModel

/// `ckpt generate`
struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let a snapshot go on with a prompt.",
        discussion: """
            MODEL is a snapshot or a directory. A single --prompt is written on as its tokens come; --data has many prompts, as
            "ckpt probe add" reads them, and gives a line of JSON for each: {"id", "text", "tokens", "stop"}. Prompts get the
            tokens that probes get: those of a conversation (--chat) by the model's chat template.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The snapshot or model directory.")
    var model: String
    @Option(help: ArgumentHelp("The text to go on with.", valueName: "text"))
    var prompt: String?
    @Option(help: ArgumentHelp("A file of JSON lines with a prompt or messages each.", valueName: "file"), completion: .file(extensions: ["jsonl", "json"]))
    var data: String?
    @Flag(help: "The prompt is what a user says.")
    var chat = false
    @Option(help: ArgumentHelp("Answers to each prompt, drawn anew.", valueName: "n"))
    var samples = 1
    @OptionGroup var generation: GenerationArguments
    @Option(help: ArgumentHelp("Threads (default: one for each processor).", valueName: "n"))
    var threads: Int?
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard (prompt == nil) != (data == nil) else { throw ValidationError("either --prompt TEXT or --data FILE") }
        guard samples > 0 else { throw ValidationError("--samples is at least 1") }
        guard samples == 1 || generation.temperature ?? 0 > 0 else {
            throw ValidationError("--samples \(samples) would all be the same: --temperature draws them")
        }
        guard !chat || prompt != nil else { throw ValidationError("--chat goes with --prompt; --data has messages of its own") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
    }

    func run() throws {
        let source = try ModelSource(model, options)
        let tokenizer = try source.neededTokenizer()
        do {
            let prompts = try prompts(tokenizer)
            let settings = generation.options(ends: tokenizer.ends, threads: threads)
            let longest = prompts.reduce(1) { max($0, $1.tokens.count) } + settings.maximumTokens
            let model = try source.model(longest: longest)
            for attempt in 0..<samples {
                var settings = settings
                settings.attempt = UInt32(attempt)
                try generate(model, tokenizer, prompts, settings, attempt)
            }
        } catch {
            Console.endProgress()
            throw StoreError(running: error, self.model)
        }
    }

    private func prompts(_ tokenizer: SampleTokenizer) throws -> [(id: String, tokens: [Int32])] {
        if let prompt {
            return [("", chat ? try tokenizer.prompt([ProbeLine.Message(role: "user", content: prompt)]) : tokenizer.prompt(prompt))]
        }
        return try ProbeFile.read(data!).map { line in
            if case .messages(let messages) = line.content {
                let turns = messages.last?.role == "assistant" ? messages.dropLast() : messages[...]
                return (line.id, try tokenizer.prompt(Array(turns)))
            }
            let sample = try tokenizer.sample(line)
            return (line.id, Array(sample.tokens[..<sample.supervised[0].lowerBound]))
        }
    }

    private func generate(
        _ model: LanguageModel, _ tokenizer: SampleTokenizer, _ prompts: [(id: String, tokens: [Int32])], _ settings: GenerationOptions,
        _ attempt: Int
    ) throws {
        let isStreaming = prompt != nil && !options.json
        let stream = TextStream(tokenizer)
        let meter = Meter()
        var done = 0
        let made = try model.generate(prompts.map(\.tokens), settings, isStopped: { Interrupt.isRequested }) { _, token in
            if isStreaming { return stream.add(token) }
            done += 1
            Console.progress { "\(self.model): \(done) tokens  \(Int(Double(done) / meter.seconds))/s" }
        }
        Console.endProgress()
        guard !isStreaming else {
            stream.finish()
            return
        }
        for (prompt, made) in zip(prompts, made) {
            let line: JSONOutput = [
                "id": .string(prompt.id), "attempt": .int(attempt), "text": .string(tokenizer.text(made.tokens)),
                "tokens": .array(made.tokens.map { .int(Int($0)) }), "stop": .string(made.stop.rawValue),
                "log_probability": .double(made.logProbabilities.reduce(0) { $0 + Double($1) }),
            ]
            Console.print(line.text)
        }
    }
}

/// Writes text as its tokens come: whole characters only.
private final class TextStream {
    private let tokenizer: SampleTokenizer
    private var bytes: [UInt8] = []

    init(_ tokenizer: SampleTokenizer) { self.tokenizer = tokenizer }

    func add(_ token: Int32) {
        bytes += tokenizer.bytes(token)
        // Bytes that begin a character which has not ended are left for the next token.
        let end = bytes.lastIndex { $0 & 0xC0 != 0x80 } ?? 0
        let isWhole = bytes.last.map { $0 < 0x80 } ?? true || String(validating: bytes[end...], as: UTF8.self) != nil
        write(isWhole ? bytes.count : end)
    }

    func finish() {
        write(bytes.count)
        Console.write("\n", 1)
    }

    private func write(_ count: Int) {
        guard count > 0 else { return }
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        Console.write(text.split(separator: "\n", omittingEmptySubsequences: false).map { Console.printable(String($0)) }.joined(separator: "\n"), 1)
        bytes.removeFirst(count)
    }
}
