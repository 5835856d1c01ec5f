import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a snapshot's files to a new directory, byte for byte as they were ingested.",
        discussion: ExitStatus.table)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @Argument(help: "The directory to make; one that holds files is refused.", completion: .directory)
    var directory: String
    @Option(help: "Only the files whose path matches, such as '*.safetensors'.")
    var only: String?
    @OptionGroup var options: StoreOptions

    func run() throws {
        let meter = Meter()
        let result = try options.open().export(ref, to: directory, only: only, monitor: interruptible) { progress in
            Console.progress { meter.line("export", progress.doneBytes, progress.totalBytes) }
        }
        Console.endProgress()
        Console.noteDropped(result.dropped, of: ref)
        if options.json {
            let json: JSONOutput = [
                "id": .string("\(result.id)"), "directory": .string(result.directory), "files": .int(result.files),
                "raw_bytes": .unsigned(result.bytes), "dropped": .strings(result.dropped.map { "\($0)" }),
            ]
            Console.print(json.text)
        } else {
            Console.print("\(result.directory): \(Format.count(result.files, "file")), \(Format.bytes(result.bytes)), snapshot \(result.id.short)")
        }
    }
}
