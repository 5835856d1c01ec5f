import ArgumentParser
import CheckpointDiff
import CheckpointStore

/// `ckpt merge`
struct Merge: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Add snapshots up into a new one: means, moving averages, task vectors.",
        discussion: """
            REF... with neither of the options below: their mean, or with --weights a weighted sum.

            --ema D takes one run and its moving average over all its steps, e(t) = D e(t-1) + (1 - D) x(t). A REF up to which the
            run is taken may be run@step.

            --add B --subtract C takes one REF A, and makes A + S (B - C): what a training taught, added to another model
            (arXiv 2212.04089). S is --scale.

            Sums are in double precision and rounded once to each tensor's own type. The new snapshot has the files of the
            first REF, its tokenizer too, but no optimizer. Tensors of whole numbers are the first one's.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "Snapshots.", completion: .snapshot)
    var refs: [String]
    @Option(name: .customLong("run"), help: "The run that the new snapshot joins.", completion: .run)
    var runName: String
    @Option(help: "Its step (default: one after the run's head, else 0).")
    var step: UInt64?
    @Option(name: .customLong("tag"), help: "Name the snapshot so; may be repeated.", completion: .tag)
    var tags: [String] = []
    @Option(help: ArgumentHelp("A weight for each REF, as they are.", valueName: "w,w,..."))
    var weights: WeightList?
    @Option(help: ArgumentHelp("The moving average of a run, by its decay.", valueName: "d"))
    var ema: Double?
    @Option(help: "What was taught: the snapshot after it.", completion: .snapshot)
    var add: String?
    @Option(help: "The snapshot before it.", completion: .snapshot)
    var subtract: String?
    @Option(help: "How much of it is added (default: 1).")
    var scale: Double?
    @Option(help: "How blocks are kept: packed against the snapshot before, packed by themselves, or raw.")
    var pack: PackingChoice = .delta
    @Flag(name: .customLong("no-image"), help: "Make no image of it.")
    var makesNoImage = false
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard !refs.isEmpty else { throw ValidationError("nothing to merge") }
        guard (add == nil) == (subtract == nil) else { throw ValidationError("--add and --subtract go together") }
        guard scale == nil || add != nil else { throw ValidationError("--scale goes with --add and --subtract") }
        guard [ema != nil, add != nil, weights != nil].count(where: { $0 }) < 2 else { throw ValidationError("--weights, --ema or --add, one of them") }
        guard ema == nil && add == nil || refs.count == 1 else { throw ValidationError("one REF with --ema and with --add") }
        if let ema, !(ema >= 0 && ema < 1) { throw ValidationError("--ema is a decay from 0 to below 1") }
        if let weights, weights.values.count != refs.count {
            throw ValidationError("\(Format.count(refs.count, "snapshot")), and \(Format.count(weights.values.count, "weight"))")
        }
    }

    private struct Named {
        var ref: String
        var weight: Double
    }

    func run() throws {
        let store = try options.open()
        let named = try terms(store)
        let sum = try WeightedSum(named.map { named throws(StoreError) in WeightedSum.Term(try store.contents(named.ref), weight: named.weight) })
        if !sum.copied.isEmpty {
            let shown = sum.copied.prefix(3).joined(separator: ", ") + (sum.copied.count > 3 ? ", ..." : "")
            Console.error(Console.printable("ckpt: note: as in \(named[0].ref), since they hold no floating-point numbers: \(shown)"))
        }
        var ingest = IngestOptions()
        (ingest.tags, ingest.packing, ingest.makesImage) = (tags, pack.packing, !makesNoImage)
        ingest.step = try step ?? store.history().last { $0.run == runName }.map { $0.step + 1 } ?? 0
        ingest.parent = named[0].ref
        let report = IngestReport(isJSON: options.json)
        let meter = Meter()
        let monitor = Monitor(progress: { report.show($0) }, isCancelled: { Interrupt.isRequested })
        let result = try store.merge(sum, into: named[0].ref, run: runName, origin: origin(named), options: ingest, monitor: monitor) { bytes in
            Console.progress { meter.line("merging", bytes.doneBytes, bytes.totalBytes) }
        }
        report.add(result)
        PolicyAfterIngest(store: store, isJSON: options.json).apply(to: result.run)
    }

    private func terms(_ store: Store) throws(StoreError) -> [Named] {
        if let add, let subtract {
            let scale = scale ?? 1
            return [Named(ref: refs[0], weight: 1), Named(ref: add, weight: scale), Named(ref: subtract, weight: -scale)]
        }
        if let ema {
            let last = try store.steps(of: refs[0])[0]
            let steps = try store.history(of: last.run).filter { $0.step <= last.step }
            // The newest first: the new snapshot has its files.
            let weights = WeightedSum.movingAverageWeights(steps.count, decay: ema)
            return zip(steps, weights).reversed().map { Named(ref: "\($0.run)@\($0.step)", weight: $1) }
        }
        let weights = weights?.values ?? refs.map { _ in 1 / Double(refs.count) }
        return zip(refs, weights).map { Named(ref: $0, weight: $1) }
    }

    private func origin(_ named: [Named]) -> String {
        if let ema { return "ckpt merge --ema \(ema) \(refs[0])" }
        if let add, let subtract { return "ckpt merge \(refs[0]) --add \(add) --subtract \(subtract) --scale \(scale ?? 1)" }
        let weights = weights.map { " --weights " + $0.values.map { "\($0)" }.joined(separator: ",") } ?? ""
        return "ckpt merge \(refs.joined(separator: " "))\(weights)"
    }
}

/// `0.5,0.25,0.25`
struct WeightList: ExpressibleByArgument {
    let values: [Double]

    init?(argument: String) {
        let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard values.allSatisfy({ $0?.isFinite == true }) else { return nil }
        self.values = values.compactMap(\.self)
    }
}
