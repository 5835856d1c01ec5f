import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Pin: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep a snapshot and its image for good; prints the image's directory.", discussion: ExitStatus.table)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        let path = try options.open().pin(ref)
        Console.print(options.json ? JSONOutput.object([("path", .string(path))]).text : path)
    }
}

struct Unpin: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take a pin off; the image goes unless the snapshot is a run's head.", discussion: ExitStatus.table)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        try options.open().unpin(ref)
        if options.json { Console.print(JSONOutput.object([("unpinned", .string(ref))]).text) }
    }
}
