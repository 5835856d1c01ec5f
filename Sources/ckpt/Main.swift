import ArgumentParser
import CKernels
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
            """,
        version: "0.1.0",
        groupedSubcommands: [
            CommandGroup(name: "Store", subcommands: [Init.self, Stats.self, Verify.self]),
            CommandGroup(name: "Snapshots", subcommands: [Ingest.self, Log.self, Show.self, Diff.self, Remove.self]),
            CommandGroup(name: "Names", subcommands: [Tag.self, Pin.self, Unpin.self]),
            CommandGroup(name: "Files", subcommands: [Export.self, ImagePath.self, Cat.self]),
        ])

    static func main() {
        // LMDB allocates each large value it is to write; by default glibc would map and unmap memory for each.
        ck_keep_freed_memory()
        suggestCommand()
        Interrupt.install()
        let isJSON = CommandLine.arguments.contains("--json")
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as StoreError {
            fail(error, isJSON: isJSON)
        } catch {
            exit(withError: error)
        }
    }

    /// One line on stderr; as JSON too when that was asked for.
    private static func fail(_ error: StoreError, isJSON: Bool) -> Never {
        Console.endProgress()
        let status = ExitStatus(error.code)
        if isJSON {
            let message: JSONOutput = [
                "message_type": "exit_error", "code": .int(Int(status.rawValue)), "message": .string(error.reason),
                "hint": error.hint.map { .string($0) } ?? .null,
            ]
            Console.error(message.text)
        } else {
            Console.error("ckpt: \(Console.printable(error.description))")
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
        let hint = EditDistance.between(closest, word) <= 2 ? " (hint: did you mean \"ckpt \(closest)\"?)" : " (hint: see \"ckpt help\")"
        Console.error("ckpt: no command \"\(Console.printable(word))\"\(hint)")
        endProcess(ExitStatus.usage.rawValue)
    }
}
