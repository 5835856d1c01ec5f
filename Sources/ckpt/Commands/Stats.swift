import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what the store holds and takes, in all and by run.",
        discussion: """
            By run, PACKED is what no other run uses and SHARED what others use too.

            \(ExitStatus.table)
            """.flowing)

    @OptionGroup var options: StoreOptions

    func run() throws {
        let stats = try options.open().stats()
        if options.json {
            Console.print(stats.json.text)
            return
        }
        var table = TextTable([.init(title: ""), .init(title: "", isNumber: true), .init(title: "")])
        table.add(["snapshots", "\(stats.snapshots)", "in \(Format.count(stats.runs, "run"))"])
        table.add(["as ingested", Format.bytes(stats.rawBytes), "what their files would take"])
        table.add(["distinct", Format.bytes(stats.uniqueBytes), "in \(Format.count(stats.blocks, "block")) of \(Format.count(stats.tensors, "tensor"))"])
        table.add(["packed", Format.bytes(stats.packedBytes), "\(Format.percent(stats.packedBytes, of: stats.rawBytes)) of what was ingested"])
        for (codec, share) in stats.codecs.sorted(by: { $0.key < $1.key }) {
            table.add(["  \(StoreStats.name(ofCodec: codec))", Format.bytes(share.packedBytes), "\(Format.count(share.blocks, "block")), from \(Format.bytes(share.rawBytes))"])
        }
        if stats.hiddenBlocks > 0 {
            table.add(["of it hidden", Format.bytes(stats.hiddenBytes), "\(Format.count(stats.hiddenBlocks, "block")) kept for others packed against them"])
        }
        if stats.probes > 0 {
            table.add(["probes", Format.bytes(stats.probeBytes), Format.count(stats.probes, "probe")])
            table.add(["entropies", Format.bytes(stats.entropyBytes), Format.count(stats.entropyRecords, "entropy record")])
        }
        table.add(["images", Format.bytes(stats.imageBytes), "plain files of heads and pins"])
        if stats.trainingBytes > 0 {
            table.add(["training", Format.bytes(stats.trainingBytes), "what trainings go on from; goes with the last snapshot of their run"])
        }
        table.add(["on disk", Format.bytes(stats.storeBytes), "all of the store directory"])
        Console.print(String(table.text(width: Console.width).drop { $0 == "\n" }))
        if !stats.byRun.isEmpty { Console.print("\n" + runs(stats)) }
    }

    /// What each run takes: alone, and together with others.
    private func runs(_ stats: StoreStats) -> String {
        var table = TextTable([
            .init(title: "RUN", shrinks: true), .init(title: "SNAPSHOTS", isNumber: true),
            .init(title: "AS INGESTED", isNumber: true), .init(title: "PACKED", isNumber: true),
            .init(title: "SHARED", isNumber: true), .init(title: "IMAGES", isNumber: true),
        ])
        for run in stats.byRun {
            table.add([
                run.run, "\(run.snapshots)", Format.bytes(run.rawBytes), Format.bytes(run.packedBytes),
                Format.bytes(run.sharedBytes), Format.bytes(run.imageBytes),
            ])
        }
        return table.text(width: Console.width)
    }
}
