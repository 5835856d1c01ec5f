import ArgumentParser
import CheckpointReports
import CheckpointStore

struct ImagePath: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "path", abstract: "Print the directory of a snapshot's image, made if needed.",
        discussion: """
            The image is a plain copy of the checkpoint: transformers, vLLM or any other tool can load it, and a trainer go on from it. Images that
            ckpt makes by itself leave optimizer state out; this adds it. It is a cache: ckpt pin keeps it. Treat it as read-only.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        let path = try store.imageDirectory(of: ref)
        Console.noteDropped(try store.snapshot(ref).dropped.map(\.kind), of: ref)
        Console.print(options.json ? JSONOutput.object([("path", .string(path))]).text : path)
    }
}
