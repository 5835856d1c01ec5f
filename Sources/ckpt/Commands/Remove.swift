import ArgumentParser
import CheckpointStore

struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a snapshot from its run, or (by tag or id) from all runs.",
        discussion: """
            What no other snapshot uses is freed inside the store's file, to be used again by later ingests; ckpt compact
            makes the file itself smaller.

            A snapshot that is pinned or tagged is refused while it stands at no other step: first ckpt unpin REF, or
            ckpt tag -d TAG.

            \(ExitStatus.table)
            """)

    @Argument(help: "The snapshot.")
    var ref: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        let removed = try options.open().remove(ref)
        if options.json {
            Console.print(JSONOutput.array(removed.map(HistoryFormat.json)).text)
        } else {
            for entry in removed { Console.print("removed \(entry.run)@\(entry.step)  \(entry.id.short)") }
        }
    }
}
