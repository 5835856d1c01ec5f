import CheckpointReports
import CheckpointStore
import Synchronization

/// Tells the user what an ingest does and has done.
final class IngestReport: Sendable {
    private struct Totals {
        var results: [IngestResult] = []
        var meter = Meter()
        var source = ""
    }

    private let isJSON: Bool
    private let totals = Mutex(Totals())

    init(isJSON: Bool) { self.isJSON = isJSON }

    func show(_ progress: IngestProgress) {
        let meter = totals.withLock { totals in
            if totals.source != progress.source {
                totals.source = progress.source
                totals.meter = Meter()
            }
            return totals.meter
        }
        Console.progress {
            let name = progress.source.split(separator: "/").last.map(String.init) ?? progress.source
            let place = progress.count > 1 ? " (\(progress.index + 1) of \(progress.count))" : ""
            return meter.line("\(Console.printable(name))\(place)", progress.doneBytes, progress.totalBytes)
                + "  new \(Format.percent(progress.newBytes, of: max(progress.doneBytes, 1)))"
        }
    }

    func add(_ result: IngestResult) {
        totals.withLock { $0.results.append(result) }
        Console.endProgress()
        for note in result.notes { Console.error("ckpt: note: \(Console.printable(note))") }
        Console.print(isJSON ? result.json.text : line(result))
        guard !isJSON, !result.droppedOptimizers.isEmpty else { return }
        Console.print("optimizer dropped: \(result.droppedOptimizers.joined(separator: ", "))")
    }

    /// What an interrupted ingest has kept.
    var committed: String {
        let stored = totals.withLock { $0.results }
        guard let last = stored.last else { return "no snapshot was committed" }
        return "\(stored.count) committed, up to \(last.run)@\(last.step)"
    }

    func finish() {
        let results = totals.withLock { $0.results }
        let raw = results.reduce(0) { $0 + $1.rawBytes }
        let new = results.reduce(0) { $0 + $1.newBytes }
        let packed = results.reduce(0) { $0 + $1.packedBytes }
        if isJSON {
            let summary: JSONOutput = [
                "message_type": "summary", "snapshots": .int(results.count), "raw_bytes": .unsigned(raw),
                "new_bytes": .unsigned(new), "packed_bytes": .unsigned(packed),
            ]
            Console.print(summary.text)
        } else if results.count > 1 {
            Console.print(
                "\(results.count) snapshots, \(Format.bytes(raw)); \(Format.bytes(new)) new, kept in \(Format.bytes(packed))")
        }
    }

    private func line(_ result: IngestResult) -> String {
        let name = "\(result.run)@\(result.step)  \(result.id.short)"
        switch result.outcome {
        case .unchanged: return "\(name)  unchanged"
        case .pruned: return "\(name)  dropped by a policy before; named by itself, it is taken again"
        case .known: return "\(name)  \(Format.bytes(result.rawBytes)), all of it known"
        case .stored:
            let share = result.newBytes == 0 ? "" : " (\(Format.fixed(Double(result.packedBytes) / Double(result.newBytes), 3)))"
            return "\(name)  \(Format.bytes(result.rawBytes)); \(Format.bytes(result.newBytes)) new, kept in \(Format.bytes(result.packedBytes))\(share)"
        }
    }
}
