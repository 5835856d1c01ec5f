import ArgumentParser
import CheckpointDiff
import CheckpointReports
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
    case name, relative, delta, changed, cosine, max, flips, ulps

    /// Whether `a` comes before `b`: the greatest difference first.
    func precedes(_ a: WeightDelta, _ b: WeightDelta) -> Bool {
        // What became NaN did not move less than all else.
        if self != .name, (a.nonfinite > 0) != (b.nonfinite > 0) { return a.nonfinite > 0 }
        return switch self {
        case .name: false
        case .relative: a.relativeL2 > b.relativeL2
        case .delta: a.deltaL2 > b.deltaL2
        case .changed: Double(a.changed) * Double(b.words) > Double(b.changed) * Double(a.words)
        case .cosine: (a.cosine ?? 2) < (b.cosine ?? 2)
        case .max: a.maxAbs > b.maxAbs
        case .flips: Double(a.signFlips) * Double(b.words) > Double(b.signFlips) * Double(a.words)
        case .ulps: (a.movement?.meanUlps ?? 0) > (b.movement?.meanUlps ?? 0)
        }
    }
}

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two checkpoints: what moved, where and how far, or what their outputs became sure of.",
        usage: """
            ckpt diff A B [--by tensor|layer|kind] [--full] [--spectrum K] [--html FILE]
            ckpt diff --along RUN [--by layer|kind|tensor] [--html FILE]
            ckpt diff A B --probe NAME
            """,
        discussion: """
            A and B are snapshots, or paths of checkpoints outside the store. Tensors that the store knows to be equal are
            skipped without reading. CHANGED is the share of words whose bits differ; DELTA L2 the norm of B - A; RELATIVE
            that norm over the norm of A; FLIPS words whose sign changed. Sums leave out pairs with a NaN or infinity, which
            are counted and come first. Rows of layers and kinds, and the last row, are of the tensors that were compared: identical ones are in none.

            --full also measures ULPS, the mean distance in units in the last place: how many representable numbers lie between a word of A and
            that of B; and which rows and columns moved (of a linear layer, outputs and inputs; of an embedding, tokens). They are shown for
            up to three tensors: choose with --only. --spectrum K finds the K leading singular values of B - A, right to 1 %, for each matrix of
            floating-point numbers: RANK is the stable rank, the sum of all squared over the largest squared; TOP K the share of the squares
            that the K have.

            --html writes the weights as a page, without an optimizer's state.

            --along RUN follows the weights of a run through all its snapshots. PATH is the sum of the steps' lengths, DISTANCE that from the first
            to the last, COSINE the mean one between an update and the one before; SETTLED the step behind which less than a twentieth of the
            path lies; PACE the step at which the speed changed most, and by what factor.

            \(OutputDiff.help)

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The first checkpoint: a snapshot or a path.", completion: .snapshotOrPath)
    var first: String?
    @Argument(help: "The second.", completion: .snapshotOrPath)
    var second: String?
    @Option(help: ArgumentHelp("Follow the weights through the snapshots of a run.", valueName: "run"), completion: .run)
    var along: String?
    @Option(help: "One row for each tensor, layer or kind (default: tensor; with --along layer).")
    var by: GroupingChoice?
    @Option(help: "Sort by name, relative, delta, changed, cosine, max, flips or ulps; greatest difference first (default: relative).")
    var sort: DiffSort?
    @Option(help: "Show at most so many rows; 0: all (default: 20; with --probe 5 samples each way, with --tokens all).")
    var limit: Int?
    @Option(help: ArgumentHelp("Compare only tensors whose name matches.", valueName: "glob"))
    var only: String?
    @Flag(help: "Measure distances in units in the last place and norms by row and column too (always with --json, --html and --plot).")
    var full = false
    @Option(help: ArgumentHelp("Find so many singular values of each matrix's difference.", valueName: "k"))
    var spectrum: Int?
    @Flag(help: "With --json: the norms of all rows and columns.")
    var norms = false
    @Flag(help: "Draw bars and histograms in the terminal.")
    var plot = false
    @Option(help: ArgumentHelp("Write a page to look at, which needs nothing but itself.", valueName: "file"), completion: .file(extensions: ["html"]))
    var html: String?
    @Flag(help: "Exit with 2 when anything differs.")
    var exitCode = false
    @OptionGroup(title: "Outputs") var outputs: OutputDiffArguments
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard limit ?? 0 >= 0 else { throw ValidationError("--limit is not negative") }
        if let spectrum, !(1...64).contains(spectrum) { throw ValidationError("--spectrum is 1 to 64") }
        if along != nil {
            guard first == nil else { throw ValidationError("--along compares the snapshots of its run: there is no A and no B") }
            guard outputs.probe == nil, sort == nil, !full, spectrum == nil, !norms, !exitCode else {
                throw ValidationError("--along does not go with --probe, --sort, --full, --spectrum, --norms and --exit-code")
            }
        } else if first == nil || second == nil {
            throw ValidationError("two checkpoints are compared: ckpt diff A B, or --along RUN")
        }
        if norms, !options.json { throw ValidationError("--norms needs --json") }
        if norms || spectrum != nil, by ?? .tensor != .tensor { throw ValidationError("--spectrum and --norms are of single tensors: they do not go with --by") }
        if outputs.probe != nil, by != nil || sort != nil || exitCode || only != nil || full || spectrum != nil || norms || plot || html != nil {
            throw ValidationError(
                "--probe compares outputs, not weights: --by, --sort, --only, --full, --spectrum, --plot, --html and --exit-code do not go with it")
        }
    }

    func run() throws {
        if let html { try DiffPage.check(html, besides: [first, second].compactMap { $0 }) }
        if let along {
            try compareAlong(along)
        } else if let probe = outputs.probe {
            try compareOutputs(first!, second!, probe)
        } else {
            try compareWeights(first!, second!)
        }
    }

    private func compareOutputs(_ first: String, _ second: String, _ probe: String) throws {
        for path in [first, second] where try options.isOutsideTheStore(path) {
            throw StoreError(
                .badInput, "\(path): outputs are compared of snapshots, and this is a path",
                hint: "ckpt ingest \(path) takes it in; then name it by run@step")
        }
        let comparison = try OutputDiff(options.open(), weak: first, strong: second, probe: probe, outputs)
        Console.print(try comparison.answer(limit: limit, json: options.json))
    }

    private func isWanted(_ name: String) -> Bool { only == nil || fnmatch(only!, name, 0) == 0 }

    private func compareWeights(_ firstName: String, _ secondName: String) throws {
        let first = try options.contents(firstName).keeping { isWanted($0.name) }
        let second = try options.contents(secondName).keeping { isWanted($0.name) }
        if let only, first.tensors.isEmpty, second.tensors.isEmpty {
            throw StoreError(.noSuchRef, "no tensor matches \"\(only)\"", hint: "ckpt show \(firstName) lists them")
        }
        let detail: DiffDetail = full || options.json || html != nil || plot || sort == .ulps ? .full : .basic
        let delta = try Diff.compare(first, second, detail, spectrum)
        let by = by ?? .tensor
        let rows = Diff.sorted(delta.groups(by: by.grouping), by, sort ?? .relative)
        let names = RowNames(second, first)
        let format = DiffFormat(delta, rows, by.grouping, limit: limit ?? 20, spectrum: spectrum, names: names)
        if let html {
            try DiffPage(title: "\(firstName) → \(secondName)", comparison: DiffReport.everything(delta, names)).write(to: html)
        }
        Console.print(options.json ? DiffReport(delta, rows, by.grouping, limit: limit ?? 20, norms: norms, names: names).json.text : plot ? format.text + "\n\n" + DiffPlot(delta, rows).text : format.text)
        if exitCode, delta.isDifferent { throw ExitCode(ExitStatus.found.rawValue) }
    }

    private static func compare(
        _ first: CheckpointContents, _ second: CheckpointContents, _ detail: DiffDetail, _ spectrum: Int?
    ) throws -> CheckpointDelta {
        let meter = Meter()
        var delta = try CheckpointDiff.compare(first, second, detail: detail, monitor: interruptible) { progress in
            Console.progress { meter.line("diff", progress.doneBytes, progress.totalBytes) }
        }
        if let spectrum {
            let meter = Meter()
            try delta.addSpectra(first, second, count: spectrum, monitor: interruptible) { progress in
                Console.progress { meter.line("spectrum", progress.doneBytes, progress.totalBytes) }
            }
        }
        Console.endProgress()
        return delta
    }

    private func compareAlong(_ run: String) throws {
        let store = try options.open()
        let stops = try store.history(of: run).map { Trajectory.Stop(ref: "\($0.run)@\($0.step)", step: $0.step) }
        let meter = Meter()
        let trajectory = try Trajectory(of: run, snapshots: stops, in: store, only: isWanted, monitor: interruptible) { progress in
            Console.progress { meter.line("diff", progress.doneBytes, progress.totalBytes) }
        }
        Console.endProgress()
        guard !trajectory.tracks.isEmpty else {
            let matching = only.map { " matches \"\($0)\"" } ?? ""
            throw StoreError(
                .noSuchRef, "\(run): no tensor of weights in floating point that all \(stops.count) snapshots have in one shape and type\(matching)",
                hint: "ckpt diff \(stops[0].ref) \(stops[stops.count - 1].ref) says how they differ")
        }
        let format = TrajectoryFormat(trajectory, by: (by ?? .layer).grouping, limit: limit ?? 20)
        if let html {
            let (first, last) = (stops[0].ref, stops[stops.count - 1].ref)
            func weights(_ ref: String) throws -> CheckpointContents {
                try store.contents(ref).keeping { $0.part == .weights && isWanted($0.name) }
            }
            let contents = try (weights(first), weights(last))
            let delta = try Diff.compare(contents.0, contents.1, .full, nil)
            let page = DiffPage(
                title: "\(run): \(first) → \(last)", comparison: DiffReport.everything(delta, RowNames(contents.1, contents.0)),
                trajectory: TrajectoryFormat(trajectory, by: .layer, limit: 0).json)
            try page.write(to: html)
        }
        Console.print(options.json ? format.json.text : plot ? format.text + "\n\n" + format.plot : format.text)
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
