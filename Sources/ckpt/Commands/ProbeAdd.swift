import ArgumentParser
import CheckpointReports
import CheckpointStore

struct ProbeAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Keep the samples of a file as a probe.",
        discussion: """
            FILE has one JSON object a line, in one of these forms:

              {"id": "7", "prompt": "2 + 2", "completion": " = 4"}
              {"id": "7", "messages": [{"role": "user", "content": "2 + 2?"},
                                       {"role": "assistant", "content": "4"}]}
              {"id": "7", "input_ids": [1, 15, 16, 2], "completion_start": 2}

            Text needs --tokenizer. Prompt and completion are tokenised apart; the completion is supervised, with the end of
            sequence that is put after it. Conversations are written by the model's chat template, if it is a known one; what
            the assistant says is supervised, with the token that ends its turn.

            Ids are texts or integers; a line without one has its number. A name stands for its content for good: the same
            again changes nothing, other content is refused.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "What the probe is to be called.")
    var name: String
    @Argument(help: "The file, JSON lines; - is standard input.", completion: .file(extensions: ["jsonl", "json"]))
    var file: String
    @Option(help: ArgumentHelp("The member that holds the prompt.", valueName: "key"))
    var promptKey: String?
    @Option(help: ArgumentHelp("The member that holds the completion.", valueName: "key"))
    var completionKey: String?
    @Option(help: ArgumentHelp("A directory with a tokenizer.json, or a snapshot that has one.", valueName: "dir|ref"), completion: .snapshotOrPath)
    var tokenizer: String?
    @Flag(name: .customLong("no-eos"), help: "Put no end of sequence after completions that lack one.")
    var noEnd = false
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        let tokenizer = try ProbeTokenizer(tokenizer, appendsEnd: !noEnd, file: file, store)
        let keys = ProbeFile.TextKeys(prompt: promptKey, completion: completionKey)
        let lines = try ProbeFile.read(file, keys: keys)
        let probe = try Probe(lines: lines, tokenizer: tokenizer.id, piece: tokenizer.piece, tokenize: tokenizer.sample)
        tokenizer.noteLosses(lines)
        let id = try store.addProbe(probe, name: name)
        guard let added = try store.probes().first(where: { $0.name == name && $0.id == id }) else {
            throw StoreError(.conflict, "\(name): removed meanwhile")
        }
        if options.json {
            Console.print(added.json.text)
        } else {
            Console.print(
                "\(name)  \(id.short)  \(Format.count(added.samples, "sample")), \(Format.count(added.tokens, "token")), \(added.supervisedTokens) supervised; kept in \(Format.bytes(added.bytes))")
        }
    }
}
