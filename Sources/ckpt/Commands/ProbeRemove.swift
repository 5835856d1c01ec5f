import ArgumentParser
import CheckpointReports
import CheckpointStore

struct ProbeRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a probe's name; with the last one the probe goes, and all entropy records on it.",
        discussion: """
            With --record the probe stays, and one entropy record on it goes: figures that were imported by mistake, say.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The probe: its name, or the beginning of its id.", completion: .probe)
    var name: String
    @Option(help: ArgumentHelp("Remove only this record: the beginning of its id, as ckpt probe show has it.", valueName: "id"))
    var record: String?
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        let found = try store.probe(name)
        if let record {
            let hint = "ckpt probe show \(name) lists them; four digits or more"
            guard record.count >= 4 else { throw StoreError(.noSuchRef, "\"\(record)\" is too short for a record's id", hint: hint) }
            let records = try store.entropyRecords(probe: found.id).filter { "\($0.key.id)".hasPrefix(record) }
            guard records.count == 1, let key = records.first?.key else {
                throw StoreError(
                    .noSuchRef, "\(record): the id of \(records.isEmpty ? "no" : "more than one") entropy record on \(name) begins so", hint: hint)
            }
            try store.removeEntropyRecord(key)
            report("\(key.id)", "removed entropy record \(key.id.short)")
            return
        }
        let removed = found.name ?? name
        try store.removeProbe(removed)
        report(removed, "removed \(removed)  \(found.id.short)")
    }

    private func report(_ removed: String, _ words: String) {
        Console.print(options.json ? JSONOutput.object([("removed", .string(removed))]).text : Console.printable(words))
    }
}
