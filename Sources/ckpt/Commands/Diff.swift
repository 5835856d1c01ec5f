import ArgumentParser
import CheckpointDiff
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

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
        abstract: "Compare two checkpoints: what moved, where and how far.",
        discussion: """
            A and B are snapshots, or paths of checkpoints outside the store. Tensors that the store knows to be equal are
            skipped without reading. CHANGED is the share of words whose bits differ; DELTA L2 the norm of B - A; RELATIVE
            that norm over the norm of A; FLIPS words whose sign changed. Sums leave out pairs with a NaN or infinity, which
            are counted.

            \(ExitStatus.table)
            """)

    @Argument(help: "The first checkpoint: a snapshot or a path.")
    var first: String
    @Argument(help: "The second.")
    var second: String
    @Option(help: "One row for each tensor, layer or kind.")
    var by: GroupingChoice = .tensor
    @Option(help: "Sort by name, relative, delta, changed, cosine, max or flips; greatest difference first.")
    var sort: DiffSort = .relative
    @Option(help: "Show at most so many rows; 0: all.")
    var limit: Int = 20
    @Flag(help: "Exit with 2 when anything differs.")
    var exitCode = false
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard limit >= 0 else { throw ValidationError("--limit is not negative") }
    }

    func run() throws {
        let first = try contents(first)
        let second = try contents(second)
        let meter = Meter()
        let delta = try CheckpointDiff.compare(first, second, monitor: interruptible) { progress in
            Console.progress { meter.line("diff", progress.doneBytes, progress.totalBytes) }
        }
        Console.endProgress()
        let rows = sorted(delta.groups(by: by.grouping))
        let format = DiffFormat(delta, rows, by.grouping, limit)
        Console.print(options.json ? format.json.text : format.text)
        if exitCode, delta.isDifferent { throw ExitCode(ExitStatus.found.rawValue) }
    }

    /// A path when there is a file of that name and it looks like one, or no snapshot has the name.
    private func contents(_ name: String) throws(StoreError) -> CheckpointContents {
        let exists = access(name, F_OK) == 0
        if exists, name.contains("/") || name.hasSuffix(".safetensors") { return try CheckpointContents(path: name) }
        do throws(StoreError) {
            return try options.open().contents(name)
        } catch {
            guard exists, error.code == .noSuchRef || error.code == .noStore else { throw error }
            return try CheckpointContents(path: name)
        }
    }

    private func sorted(_ groups: [DeltaGroup]) -> [DeltaGroup] {
        if sort == .name { return by == .tensor ? groups.sorted { $0.name < $1.name } : groups }
        // Stable, so that equal rows stay in the order of the file.
        return groups.enumerated().sorted { a, b in
            if sort.precedes(a.element.delta, b.element.delta) { return true }
            return !sort.precedes(b.element.delta, a.element.delta) && a.offset < b.offset
        }.map(\.element)
    }
}
