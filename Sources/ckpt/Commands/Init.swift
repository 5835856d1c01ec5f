import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make an empty store.", discussion: ExitStatus.table)

    @Argument(help: "The directory to make it in; CKPT_STORE or .ckpt by default.", completion: .directory)
    var path: String?
    @Option(help: "How many deltas may hang one on the other: more take less space and longer to read. 0 for none, 5 by default.")
    var depthLimit: UInt8 = 5
    @OptionGroup var options: StoreOptions

    func run() throws {
        let path = path ?? options.named ?? ".ckpt"
        try Store.create(at: path, depthLimit: depthLimit)
        Console.print(options.json ? JSONOutput.object([("store", .string(path))]).text : "made an empty store in \(path)")
    }
}
