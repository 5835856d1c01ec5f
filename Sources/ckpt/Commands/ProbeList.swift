import ArgumentParser
import CheckpointReports
import CheckpointStore

struct ProbeList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the probes.", discussion: ExitStatus.table)

    @OptionGroup var options: StoreOptions

    func run() throws {
        let probes = try options.open().probes()
        if options.json {
            Console.print(JSONOutput.array(probes.map(\.json)).text)
            return
        }
        guard !probes.isEmpty else {
            Console.error("the store has no probes (hint: ckpt probe add NAME FILE)")
            return
        }
        var table = TextTable([
            .init(title: "PROBE", shrinks: true), .init(title: "ID"), .init(title: "SAMPLES", isNumber: true),
            .init(title: "TOKENS", isNumber: true), .init(title: "SUPERVISED", isNumber: true),
            .init(title: "RECORDS", isNumber: true), .init(title: "SIZE", isNumber: true),
        ])
        for probe in probes {
            table.add([
                probe.name, probe.id.short, "\(probe.samples)", "\(probe.tokens)", "\(probe.supervisedTokens)", "\(probe.records)",
                Format.bytes(probe.bytes),
            ])
        }
        Console.print(table.text(width: Console.width))
    }
}
