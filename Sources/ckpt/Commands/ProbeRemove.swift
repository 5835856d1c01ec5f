import ArgumentParser
import CheckpointStore

struct ProbeRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a probe's name; with the last one the probe goes, and all entropy records on it.",
        discussion: ExitStatus.table)

    @Argument(help: "The name.")
    var name: String
    @OptionGroup var options: StoreOptions

    func run() throws {
        try options.open().removeProbe(name)
        if options.json { Console.print(JSONOutput.object([("removed", .string(name))]).text) }
    }
}
