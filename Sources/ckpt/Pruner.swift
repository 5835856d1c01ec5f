import CheckpointReports
import CheckpointStore
import LanguageModel
import WeakTraining

/// Applies a policy and tells what came of it.
struct Pruner {
    let store: Store
    let limits: ScoringLimits
    var rebases = true
    var isDryRun = false
    let isJSON: Bool

    /// - Parameters:
    ///   - runs: nil: all.
    ///   - spared: snapshots that are left whole, and why.
    func prune(_ policy: RetentionPolicy, _ runs: [String]?, sparing spared: [ContentID: String] = [:]) throws -> PruneReport {
        let names = try runs ?? Array(Set(store.history().map(\.run))).sorted()
        let worths = try worths(policy, names)
        let plan = try store.plan(policy, runs: runs, worths: worths, needed: NeededSnapshots.all(store).merging(spared) { $1 }, rebases: rebases)
        defer { Console.endProgress() }
        let (removing, rebasing) = (Meter(), Meter())
        if isDryRun {
            let forecast = rebases && !(plan.dropped.isEmpty && plan.optimizers.isEmpty)
                ? try store.forecastRebasing(plan, monitor: interruptible) { bytes in
                    Console.progress { rebasing.line("looking at what would be re-based", bytes.doneBytes, bytes.totalBytes) }
                } : nil
            return PruneReport(plan: plan, forecast: forecast)
        }
        let result = try store.prune(plan, rebases: rebases, monitor: interruptible) { progress in
            Console.progress {
                switch progress.phase {
                case .removing: removing.line("freeing", progress.bytes.doneBytes, progress.bytes.totalBytes)
                case .rebasing: rebasing.line("re-basing", progress.bytes.doneBytes, progress.bytes.totalBytes)
                }
            }
        }
        return PruneReport(plan: plan, result: result)
    }

    private func worths(_ policy: RetentionPolicy, _ runs: [String]) throws(StoreError) -> [String: SnapshotWorth] {
        if case .gap(let probe, _) = policy.worth { EntropyRunner.noteCuts(try ScoredProbe(store, probe, maximumLength: limits.maximumLength), limits) }
        let meter = Meter()
        defer { Console.endProgress() }
        return try WorthOfRuns(store: store, policy: policy, maximumLength: limits.maximumLength, monitor: interruptible) { run, done, pairs in
            Console.progress { meter.tokens("\(run): distances", UInt64(done), UInt64(pairs), unit: "pairs") }
        }.worths(runs)
    }

    func print(_ outcome: PruneReport) {
        for warning in outcome.warnings { Console.error(Console.printable("ckpt: note: \(warning)")) }
        Console.print(isJSON ? outcome.json.text : table(outcome) + "\n" + Pruner.summary(outcome))
    }

    private func table(_ outcome: PruneReport) -> String {
        let plan = outcome.plan
        let hasWorth = plan.policy.worth != nil
        var columns: [TextTable.Column] = [.init(title: "SNAPSHOT", shrinks: true), .init(title: "ID"), .init(title: ""), .init(title: "WHY", shrinks: true)]
        if hasWorth { columns += [.init(title: plan.policy.worth == .distance ? "WORTH" : "GAP VALUE", isNumber: true), .init(title: "ADDS", isNumber: true)] }
        columns.append(.init(title: "FREES", isNumber: true))
        var table = TextTable(columns)
        for row in plan.rows {
            var notes = row.reasons
            if let note = row.note, !notes.contains(note) { notes.append(note) }
            var cells = [row.ref, row.entry.id.short, row.isKept ? "kept" : isDryRun ? "would go" : "dropped", notes.joined(separator: ", ")]
            if hasWorth { cells += [row.value.map { Format.fixed($0, 4) } ?? "", row.marginal.map { Format.fixed($0, 4) } ?? ""] }
            table.add(cells + [row.isKept ? "" : Format.bytes(row.freedBytes)])
        }
        for optimizer in plan.optimizers {
            var cells = [optimizer.ref, optimizer.id.short, isDryRun ? "would lose its optimizer" : "lost its optimizer", ""]
            if hasWorth { cells += ["", ""] }
            table.add(cells + [Format.bytes(optimizer.freedBytes)])
        }
        return table.text(width: Console.width)
    }

    /// What went, in a line or two.
    static func summary(_ outcome: PruneReport) -> String {
        let plan = outcome.plan
        let count = plan.dropped.count
        let what = "\(count) of \(Format.count(plan.rows.count, "snapshot"))"
        guard let result = outcome.result else {
            var lines = ["would drop \(what) and free \(Format.bytes(plan.freedBytes + (outcome.forecast?.savedBytes ?? 0)))"]
            if let forecast = outcome.forecast { lines += rebasing(forecast, "would be re-based", "would stay: others are packed against them") }
            return lines.joined(separator: "\n")
        }
        guard count > 0 || !result.optimizers.isEmpty else { return "nothing to drop: \(plan.rows.count == 1 ? "the snapshot is kept" : plan.rows.isEmpty ? "there is no snapshot" : "all \(plan.rows.count) snapshots are kept")" }
        var lines = ["dropped \(what) and freed \(Format.bytes(result.freedBytes)) in \(Format.count(result.freedBlocks, "block"))"]
        lines += rebasing(result.rebasing, "re-based", "kept: others are packed against them")
        lines.append("\(Format.bytes(result.returnedBytes)) went back to the file system, \(Format.bytes(result.reusableBytes)) are free in the data file for later snapshots")
        return lines.joined(separator: "\n")
    }

    private static func rebasing(_ result: RebasingResult, _ moved: String, _ stayed: String) -> [String] {
        var lines: [String] = []
        if result.blocks > 0 {
            lines.append(
                "\(Format.count(result.blocks, "block")) \(moved), \(Format.bytes(UInt64(max(0, result.grownBytes)))) more, for \(Format.bytes(result.freedBytes)) of bases less")
        }
        if result.hiddenBlocks > 0 { lines.append("\(Format.count(result.hiddenBlocks, "block")) of \(Format.bytes(result.hiddenBytes)) \(stayed)") }
        return lines
    }
}
