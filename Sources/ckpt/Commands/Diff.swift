import ArgumentParser
import CheckpointDiff
import CheckpointStore

/// `--by`.
enum GroupingChoice: String, ExpressibleByArgument, CaseIterable {
    case tensor, layer, kind

    var grouping: DiffGrouping {
        switch self {
        case .tensor: .tensor
        case .layer: .layer
        case .kind: .kind
        }
    }
}

/// What the rows of a diff are sorted by.
enum DiffSort: String, ExpressibleByArgument, CaseIterable {
    case name, relative, delta, changed, cosine, max, flips

    /// Whether `a` comes before `b`: the greatest difference first.
    func precedes(_ a: WeightDelta, _ b: WeightDelta) -> Bool {
        switch self {
        case .name: false
        case .relative: a.relativeL2 > b.relativeL2
        case .delta: a.deltaL2 > b.deltaL2
        case .changed: Double(a.changed) * Double(b.words) > Double(b.changed) * Double(a.words)
        case .cosine: (a.cosine ?? 2) < (b.cosine ?? 2)
        case .max: a.maxAbs > b.maxAbs
        case .flips: Double(a.signFlips) * Double(b.words) > Double(b.signFlips) * Double(a.words)
        }
    }
}

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two checkpoints: what moved, where and how far, or what their outputs became sure of.",
        discussion: """
            A and B are snapshots, or paths of checkpoints outside the store. Tensors that the store knows to be equal are
            skipped without reading. CHANGED is the share of words whose bits differ; DELTA L2 the norm of B - A; RELATIVE
            that norm over the norm of A; FLIPS words whose sign changed. Sums leave out pairs with a NaN or infinity, which
            are counted.

            \(OutputDiff.help)

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The first checkpoint: a snapshot or a path.", completion: .snapshotOrPath)
    var first: String
    @Argument(help: "The second.", completion: .snapshotOrPath)
    var second: String
    @Option(help: "One row for each tensor, layer or kind (default: tensor).")
    var by: GroupingChoice?
    @Option(help: "Sort by name, relative, delta, changed, cosine, max or flips; greatest difference first (default: relative).")
    var sort: DiffSort?
    @Option(help: "Show at most so many rows; 0: all (default: 20; with --probe 5 samples each way, with --tokens all).")
    var limit: Int?
    @Flag(help: "Exit with 2 when anything differs.")
    var exitCode = false
    @OptionGroup(title: "Outputs") var outputs: OutputDiffArguments
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard limit ?? 0 >= 0 else { throw ValidationError("--limit is not negative") }
        if outputs.probe != nil, by != nil || sort != nil || exitCode {
            throw ValidationError("--probe compares outputs, not weights: --by, --sort and --exit-code do not go with it")
        }
    }

    func run() throws {
        if let probe = outputs.probe {
            for path in [first, second] where try options.isOutsideTheStore(path) {
                throw StoreError(
                    .badInput, "\(path): outputs are compared of snapshots, and this is a path",
                    hint: "ckpt ingest \(path) takes it in; then name it by run@step")
            }
            let comparison = try OutputDiff(options.open(), weak: first, strong: second, probe: probe, outputs)
            Console.print(try comparison.answer(limit: limit, json: options.json))
            return
        }
        try compareWeights(by: by ?? .tensor, sort: sort ?? .relative, limit: limit ?? 20)
    }

    private func compareWeights(by: GroupingChoice, sort: DiffSort, limit: Int) throws {
        let first = try options.contents(first)
        let second = try options.contents(second)
        let meter = Meter()
        let delta = try CheckpointDiff.compare(first, second, monitor: interruptible) { progress in
            Console.progress { meter.line("diff", progress.doneBytes, progress.totalBytes) }
        }
        Console.endProgress()
        let rows = Diff.sorted(delta.groups(by: by.grouping), by, sort)
        let format = DiffFormat(delta, rows, by.grouping, limit)
        Console.print(options.json ? format.json.text : format.text)
        if exitCode, delta.isDifferent { throw ExitCode(ExitStatus.found.rawValue) }
    }

    private static func sorted(_ groups: [DeltaGroup], _ by: GroupingChoice, _ sort: DiffSort) -> [DeltaGroup] {
        if sort == .name { return by == .tensor ? groups.sorted { $0.name < $1.name } : groups }
        // Stable, so that equal rows stay in the order of the file.
        return groups.enumerated().sorted { a, b in
            if sort.precedes(a.element.delta, b.element.delta) { return true }
            return !sort.precedes(b.element.delta, a.element.delta) && a.offset < b.offset
        }.map(\.element)
    }
}
