import ArgumentParser
import CheckpointStore

struct ProbeRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a probe's name; with the last one the probe goes, and all entropy records on it.",
        discussion: """
            With --record the probe stays, and one entropy record on it goes: figures that were imported by mistake, say.

            \(ExitStatus.table)
            """)

    @Argument(help: "The name.")
    var name: String
    @Option(help: ArgumentHelp("Remove only this record: the beginning of its id, as ckpt probe show has it.", valueName: "id"))
    var record: String?
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        if let record {
            let found = try store.entropyRecords(probe: store.probe(name).id).filter { "\($0.key.id)".hasPrefix(record) }
            guard found.count == 1, let key = found.first?.key, record.count >= 4 else {
                throw StoreError(
                    .noSuchRef, "\(record): the id of \(found.isEmpty ? "no entropy record" : "more than one entropy record") on \(name) begins so",
                    hint: "ckpt probe show \(name) lists them; four digits or more")
            }
            try store.removeEntropyRecord(key)
            if options.json { Console.print(JSONOutput.object([("removed", .string("\(key.id)"))]).text) }
            return
        }
        try store.removeProbe(name)
        if options.json { Console.print(JSONOutput.object([("removed", .string(name))]).text) }
    }
}
