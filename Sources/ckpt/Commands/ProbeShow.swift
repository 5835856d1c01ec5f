import ArgumentParser
import CheckpointReports
import CheckpointStore

struct ProbeShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show a probe, its samples, and the entropy records on it.", discussion: ExitStatus.table)

    /// Texts are of any length: so wide is a line where no terminal says how wide.
    private static let plainWidth = 160

    @Argument(help: "The probe: its name, or the beginning of its id.", completion: .probe)
    var name: String
    @Option(help: ArgumentHelp("Samples to show at most; 0 for all.", valueName: "number"))
    var limit = 10
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard limit >= 0 else { throw ValidationError("--limit is not negative") }
    }

    func run() throws {
        let store = try options.open()
        let (id, name, probe) = try store.probe(name)
        let records = try ProbeRecords(store, id)
        let shown = limit == 0 ? probe.samples[...] : probe.samples.prefix(limit)
        if options.json {
            Console.print(json(id, name, probe, shown, records).text)
            return
        }
        Console.print("probe      \(id)")
        if let name { Console.print("called     \(Console.printable(name))") }
        if let tokenizer = probe.tokenizer { Console.print("tokenizer  \(tokenizer)") }
        let tokens = probe.samples.reduce(0) { $0 + $1.tokens.count }
        let supervised = probe.samples.reduce(0) { $0 + $1.supervisedCount }
        Console.print("samples    \(probe.samples.count), \(Format.count(tokens, "token")), \(supervised) supervised\n")
        var table = TextTable([
            .init(title: "SAMPLE", shrinks: true), .init(title: "TOKENS", isNumber: true), .init(title: "SUPERVISED", isNumber: true),
            .init(title: "PROMPT", shrinks: true), .init(title: "COMPLETION", shrinks: true),
        ])
        for sample in shown {
            table.add([
                sample.id, "\(sample.tokens.count)", "\(sample.supervisedCount)", sample.prompt ?? "", sample.completion ?? "",
            ])
        }
        Console.print(table.text(width: Console.width ?? ProbeShow.plainWidth))
        let hidden = probe.samples.count - shown.count
        if hidden > 0 { Console.print("and \(hidden) more (--limit 0 shows all)") }
        if let text = records.text { Console.print("\n" + text) }
    }

    private func json(_ id: ContentID, _ name: String?, _ probe: Probe, _ shown: ArraySlice<ProbeSample>, _ records: ProbeRecords) -> JSONOutput {
        [
            "id": .string("\(id)"), "name": .optional(name), "tokenizer": .optional(probe.tokenizer.map { "\($0)" }),
            "samples": .int(probe.samples.count), "tokens": .int(probe.samples.reduce(0) { $0 + $1.tokens.count }),
            "supervised_tokens": .int(probe.samples.reduce(0) { $0 + $1.supervisedCount }),
            "rows": .array(shown.map(\.json)), "records": records.json,
        ]
    }
}
