import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Log: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the snapshots of a run, or of all runs.", discussion: ExitStatus.table)

    @Argument(help: "The run.", completion: .run)
    var runName: String?
    @OptionGroup var options: StoreOptions

    func run() throws {
        let history = try options.open().history(of: runName)
        if options.json {
            Console.print(JSONOutput.array(history.map(\.json)).text)
            return
        }
        guard !history.isEmpty else {
            Console.error("the store is empty (hint: ckpt ingest PATH)")
            return
        }
        var table = TextTable([
            .init(title: "SNAPSHOT", shrinks: true), .init(title: "ID"), .init(title: "INGESTED"),
            .init(title: "SIZE", isNumber: true), .init(title: "TENSORS", isNumber: true), .init(title: "NOTES"),
        ])
        for entry in history {
            table.add([
                "\(entry.run)@\(entry.step)", entry.id.short, Format.time(entry.ingested),
                Format.bytes(entry.rawBytes), "\(entry.tensors)", HistoryFormat.notes(entry).joined(separator: ", "),
            ])
        }
        Console.print(table.text(width: Console.width))
    }
}

/// Entries of a history, as text.
enum HistoryFormat {
    static func notes(_ entry: HistoryEntry) -> [String] {
        var notes: [String] = []
        if entry.isHead { notes.append("head") }
        if entry.hasImage { notes.append("image") }
        if entry.isPinned { notes.append("pinned") }
        notes += entry.tags.map { "tag \($0)" }
        if entry.leftOutFiles > 0 { notes.append("optimizer left out") }
        notes += entry.dropped.map { "\($0) dropped" }
        return notes
    }
}
