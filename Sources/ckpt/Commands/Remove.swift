import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a snapshot from its run, or (by tag or id) from all runs.",
        discussion: """
            What no other snapshot uses is freed inside the store's file, to be used again by later ingests; ckpt compact
            makes the file itself smaller. The entropy records of a snapshot that no run has any more go with it.

            A snapshot that is pinned or tagged is refused while it stands at no other step: first ckpt unpin REF, or
            ckpt tag -d TAG.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        let id = try store.snapshot(ref).id
        let records = try store.entropyRecords(snapshot: id).count
        let removed = try store.remove(ref)
        // Another run may have it still.
        let isGone = try !store.history().contains { $0.id == id }
        if records > 0, isGone { Console.error("ckpt: note: its \(Format.count(records, "entropy record")) went with it") }
        if options.json {
            Console.print(JSONOutput.array(removed.map(\.json)).text)
        } else {
            for entry in removed { Console.print("removed \(entry.run)@\(entry.step)  \(entry.id.short)") }
        }
    }
}
