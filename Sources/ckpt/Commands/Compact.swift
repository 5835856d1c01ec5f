import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Compact: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the store's data file anew, without the space that removed snapshots have left.",
        discussion: """
            Needs room on the disk for what is kept, until the new file is checked and in place. Readers go on meanwhile;
            writers wait. Stopped or killed, it leaves the store as it was.

            \(ExitStatus.table)
            """.flowing)

    @OptionGroup var options: StoreOptions

    func run() throws {
        let meter = Meter()
        let result = try options.open().compact(monitor: interruptible) { progress in
            Console.progress { meter.line("compact", progress.doneBytes, progress.totalBytes) }
        }
        Console.endProgress()
        if result.isOldInUse {
            Console.error("ckpt: note: the old file is still open elsewhere; the next writer after that removes it")
        }
        if options.json {
            let json: JSONOutput = [
                "before_bytes": .unsigned(result.beforeBytes), "after_bytes": .unsigned(result.afterBytes),
                "generation": .int(result.generation),
            ]
            Console.print(json.text)
        } else {
            Console.print("gen-\(result.generation): \(Format.bytes(result.beforeBytes)) -> \(Format.bytes(result.afterBytes))")
        }
    }
}
