import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check the whole store; exits 2 when something is damaged.",
        discussion: """
            Walks the pages of the data file before LMDB opens it, checks every record, count and name, decodes and hashes
            every block and compares every image. Damage is named with the snapshots and tensors it harms.

            --repair mends damaged blocks, tensors, parts and snapshots from images, from the checkpoints they were ingested from, and from those of
            --from: only bytes with the right SHA-256 are taken. Counts and images are made right. A block of which no copy is
            found is quarantined: the snapshots it harms stay named, all others are whole, and the same bytes, ingested
            again, mend it. Damaged pages of the data file are not repaired.

            \(ExitStatus.table)
            """.flowing)

    @Flag(help: "Check pages, checksums and counts only: decode no block.")
    var quick = false
    @Flag(help: "Mend what can be mended.")
    var repair = false
    @Option(
        name: .customLong("from"), help: ArgumentHelp("An original checkpoint to mend from, or a directory of them; may be repeated.", valueName: "path"),
        completion: .file())
    var originals: [String] = []
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard !(quick && repair) else { throw ValidationError("--repair reads everything: without --quick") }
        guard originals.isEmpty || repair else { throw ValidationError("--from goes with --repair") }
    }

    func run() throws {
        if repair { return try runRepair() }
        let meter = Meter()
        let report = try Store.verify(
            options.path(), depth: quick ? .quick : .full, monitor: interruptible,
            progress: { progress in
                Console.progress { meter.line("verify", progress.doneBytes, progress.totalBytes) }
            })
        Console.endProgress()
        Console.print(options.json ? report.json.text : text(report))
        if !report.problems.isEmpty { throw ExitCode(ExitStatus.found.rawValue) }
    }

    private func runRepair() throws {
        let result = try Store.repair(
            options.path(), from: originals, lockTimeout: options.lockTimeout, monitor: interruptible,
            progress: { [meter = Meter()] progress in
                Console.progress { meter.line("repair", progress.doneBytes, progress.totalBytes) }
            })
        Console.endProgress()
        if options.json {
            guard case .object(let members) = result.report.json else { return }
            let repaired: [(String, JSONOutput)] = [
                ("recovered", .array(result.recovered.map { ["what": .string($0.what), "source": .string($0.source)] })),
                ("counts_mended", .int(result.counts)), ("images_mended", .int(result.images)),
            ]
            Console.print(JSONOutput.object(members + repaired).text)
        } else {
            for block in result.recovered { Console.print(Console.printable("recovered: \(block.what) from \(block.source)")) }
            if result.counts > 0 { Console.print("mended: \(Format.count(result.counts, "count"))") }
            if result.images > 0 { Console.print("mended: \(Format.count(result.images, "image"))") }
            Console.print(text(result.report))
        }
        if !result.report.problems.isEmpty { throw ExitCode(ExitStatus.found.rawValue) }
    }

    private func text(_ report: VerifyReport) -> String {
        var lines = report.problems.map { "damaged: \(Console.printable($0.description))" }
        lines += report.notes.map { "note: \(Console.printable($0))" }
        var checked = "\(Format.count(report.snapshots, "snapshot")), \(Format.count(report.blocks, "block"))"
        if !quick { checked += " (\(Format.bytes(report.bytes)) decoded and hashed), \(Format.count(report.images, "image"))" }
        if report.probes > 0 {
            checked += ", \(Format.count(report.probes, "probe")), \(Format.count(report.entropyRecords, "entropy record"))"
        }
        checked += ", \(report.pages) pages"
        if report.pending > 0 { lines.append("\(Format.count(report.pending, "unfinished ingest")); the next writer releases what they staged") }
        lines.append(report.problems.isEmpty ? "whole: \(checked)" : "\(Format.count(report.problems.count, "problem")) in \(checked)")
        return lines.joined(separator: "\n")
    }
}
