import ArgumentParser
import BlockCodec
import CheckpointStore

/// `--pack`.
enum PackingChoice: String, ExpressibleByArgument, CaseIterable {
    case delta, dense, raw

    var packing: Packing {
        switch self {
        case .delta: .delta
        case .dense: .dense
        case .raw: .raw
        }
    }
}

struct Ingest: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take checkpoints into the store.",
        discussion: """
            PATH is a .safetensors, .bin, .pt or .pth file, a model directory (kept whole, optimizer and all), or a
            trainer's output directory, whose checkpoint-N directories are taken in step order, each in a transaction of
            its own. Unchanged ones are recognised without reading. The newest gets an image: a plain copy that any tool
            can open (ckpt path). Then the policy that the store keeps for the run is applied (ckpt prune --save).

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "Checkpoints, model directories or trainer output directories.", completion: .file())
    var paths: [String]
    @Option(name: .customLong("run"), help: "The run they join; by default named like their directory.", completion: .run)
    var runName: String?
    @Option(help: "The step, for a single checkpoint; by default told by its name or trainer state, else 0.")
    var step: UInt64?
    @Option(name: .customLong("tag"), help: "Name the snapshot so; may be repeated.", completion: .tag)
    var tags: [String] = []
    @Option(help: "The snapshot it (of a series the first) was trained from; by default the run's previous step.", completion: .snapshot)
    var parent: String?
    @Flag(help: "Pin the snapshots: they keep an image and are never removed.")
    var pin = false
    @Option(help: "How blocks are kept: packed against the snapshot before, packed by themselves, or raw to be read in place.")
    var pack: PackingChoice = .delta
    @Flag(name: .customLong("no-optimizer"), help: "Leave the optimizer's state out.")
    var leavesOptimizer = false
    @Option(help: ArgumentHelp("Drop the optimizer's state of all but the run's last N steps; tags and pins keep it.", valueName: "n"))
    var optimizerKeep: Int?
    @Flag(name: .customLong("no-image"), help: "Make no image of the newest snapshot.")
    var makesNoImage = false
    @Flag(help: "Take the place of a snapshot of the same run and step.")
    var replace = false
    @Flag(help: "Read sources even when they look unchanged.")
    var rehash = false
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard !paths.isEmpty else { throw ValidationError("nothing to ingest") }
        guard step == nil || paths.count == 1 else { throw ValidationError("--step goes with one PATH") }
        guard optimizerKeep ?? 1 >= 1 else {
            throw ValidationError("--optimizer-keep is 1 at least; --no-optimizer takes no optimizer state in")
        }
    }

    func run() throws {
        let store = try options.open()
        var ingest = IngestOptions()
        ingest.run = runName
        ingest.step = step
        ingest.tags = tags
        ingest.parent = parent
        ingest.pin = pin
        ingest.packing = pack.packing
        ingest.keepsOptimizer = !leavesOptimizer
        ingest.optimizerKeep = optimizerKeep
        ingest.makesImage = !makesNoImage
        ingest.replaces = replace
        ingest.rehashes = rehash

        let report = IngestReport(isJSON: options.json)
        let monitor = Monitor(
            progress: { report.show($0) }, finished: { report.add($0) }, isCancelled: { Interrupt.isRequested })
        for path in paths {
            do throws(StoreError) {
                let results = try store.ingest(path, options: ingest, monitor: monitor)
                let changed = Set(results.filter { $0.outcome == .stored || $0.outcome == .known }.map(\.run))
                for run in changed.sorted() { PolicyAfterIngest(store: store, isJSON: options.json).apply(to: run) }
            } catch {
                guard error.code == .interrupted else { throw error }
                throw StoreError(.interrupted, "interrupted; \(report.committed); nothing of the one under way is kept")
            }
        }
        report.finish()
    }
}
