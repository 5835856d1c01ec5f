import ArgumentParser
import CKernels
import CheckpointReports
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@main
struct Ckpt: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ckpt",
        abstract: "Keeps, compares and gives back the checkpoints of training runs.",
        discussion: """
            A snapshot is named by run@step, run (its head), run~2 (two before the head), a tag, or an id prefix.
            The store is --store PATH, else $CKPT_STORE, else the nearest .ckpt directory upward from here.

            \(ExitStatus.table)
            """.flowing,
        version: CkptVersion.current,
        groupedSubcommands: [
            CommandGroup(name: "Store", subcommands: [Init.self, Stats.self, Verify.self, Compact.self]),
            CommandGroup(name: "Snapshots", subcommands: [Ingest.self, Watch.self, Log.self, Show.self, Diff.self, Merge.self, Remove.self, Prune.self]),
            CommandGroup(name: "Outputs", subcommands: [ProbeCommand.self, EntropyCommand.self, Gap.self, Eval.self, Generate.self]),
            CommandGroup(name: "Training", subcommands: [Train.self]),
            CommandGroup(name: "Names", subcommands: [Tag.self, Pin.self, Unpin.self]),
            CommandGroup(name: "Files", subcommands: [Export.self, ImagePath.self, Cat.self]),
        ])

    static func main() {
        Console.openClosedStreams()
        // LMDB allocates each large value it is to write; by default glibc would map and unmap memory for each.
        ck_keep_freed_memory()
        if let script = CompletionScript.requested(by: Array(CommandLine.arguments.dropFirst())) { return Console.print(script) }
        suggestCommand()
        Interrupt.install()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as StoreError {
            fail(ExitStatus(error.code), error.reason, hint: error.hint)
        } catch {
            let isUsage = exitCode(for: error).rawValue == ExitStatus.usage.rawValue
            if isUsage, CommandLine.arguments.contains("--json") { fail(.usage, message(for: error), hint: nil) }
            exit(withError: error)
        }
    }

    /// One line on stderr; as JSON when that was asked for.
    private static func fail(_ status: ExitStatus, _ reason: String, hint: String?) -> Never {
        Console.endProgress()
        if CommandLine.arguments.contains("--json") {
            let message: JSONOutput = [
                "message_type": "exit_error", "code": .int(Int(status.rawValue)), "message": .string(reason),
                "hint": .optional(hint),
            ]
            Console.error(message.text)
        } else {
            Console.error(Console.printable("ckpt: \(reason)" + (hint.map { " (hint: \($0))" } ?? "")))
        }
        endProcess(status.rawValue)
    }

    /// Names the closest command when the first word is none.
    private static func suggestCommand() {
        guard CommandLine.arguments.count > 1, let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-")
        else { return }
        let names = configuration.groupedSubcommands.flatMap(\.subcommands).map { $0._commandName } + ["help"]
        guard !names.contains(word) else { return }
        let closest = names.min { EditDistance.between($0, word) < EditDistance.between($1, word) }!
        let hint = EditDistance.between(closest, word) <= 2 ? "did you mean \"ckpt \(closest)\"?" : "see \"ckpt help\""
        fail(.usage, "no command \"\(word)\"", hint: hint)
    }
}
