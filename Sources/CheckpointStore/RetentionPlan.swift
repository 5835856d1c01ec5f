internal import LMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// What a policy keeps and drops of a store, and why.
public struct RetentionPlan: Sendable {
    /// One step of a run.
    public struct Row: Sendable {
        public var entry: HistoryEntry
        /// The rules that keep it; empty for one that goes.
        public var reasons: [String]
        /// V of it alone, where worth was asked for and something is known of it.
        public var value: Double?
        /// What it is worth beside all that stays: what none of them teaches. Of one that goes, what is lost.
        public var marginal: Double?
        /// Why it is worth nothing, or why nothing is known.
        public var note: String?
        /// Packed bytes that go with it, when those in the rows behind it have gone.
        public var freedBytes: UInt64 = 0

        public var isKept: Bool { !reasons.isEmpty }
        /// As `run@step`.
        public var ref: String { "\(entry.run)@\(entry.step)" }
    }

    /// A snapshot that stays and loses its optimizer state.
    public struct DroppedOptimizer: Sendable {
        /// As `run@step`.
        public var ref: String
        public var id: ContentID
        /// Packed bytes that go with it.
        public var freedBytes: UInt64
    }

    /// What it was made by.
    public var policy: RetentionPolicy
    /// Of the runs in question, by run and step.
    public var rows: [Row]
    /// Snapshots that stay and lose their optimizer state.
    public var optimizers: [DroppedOptimizer]
    /// What the policy could not do.
    public var warnings: [String] = []

    /// The rows that no rule keeps.
    public var dropped: [Row] { rows.filter { !$0.isKept } }
    /// Packed bytes of the blocks that go: with what is packed anew against other bases, more do.
    public var freedBytes: UInt64 { rows.reduce(0) { $0 + $1.freedBytes } + optimizers.reduce(0) { $0 + $1.freedBytes } }
}

extension Store {
    /// What `policy` drops, without dropping it.
    ///
    /// - Parameters:
    ///   - runs: nil: all.
    ///   - worths: what snapshots are worth, by run; needed by `keepByWorth` and `budget`.
    ///   - needed: snapshots that something needs whole, and what it is.
    ///   - rebases: whether blocks will be packed anew: with a budget, what that is expected to free is counted.
    ///   - now: nanoseconds since 1970; nil: the present.
    /// - Throws: `.badInput` for an impossible policy, `.noSuchRef` for a run that is not there.
    /// - Complexity: O(snapshots + blocks that go); with a budget, that of `BudgetChoice`.
    public func plan(
        _ policy: RetentionPolicy, runs: [String]? = nil, worths: [String: SnapshotWorth] = [:], needed: [ContentID: String] = [:],
        rebases: Bool = true, now: Int64? = nil
    ) throws(StoreError) -> RetentionPlan {
        try policy.check()
        var entries: [HistoryEntry] = []
        if let runs {
            for run in Set(runs).sorted() { entries += try history(of: run) }
        } else {
            entries = try history()
        }
        var planner = RetentionPlanner(store: self, policy: policy, worths: worths, needed: needed, now: now ?? FileSystem.now(), entries)
        return try throwingStoreErrors {
            try planner.decide()
            guard let budget = policy.budget else { return try planner.plan() }
            var space = try planner.space()
            return try rebases ? plan(planner, &space, budget) : planner.plan(within: budget, &space)
        }
    }

    /// The choice counts blocks as they are packed now; where others are packed anew once it has come to pass, more has room. So what that
    /// leaves is given to the choice, until it is used up or too much.
    private func plan(_ planner: RetentionPlanner, _ space: inout SnapshotSpace, _ budget: UInt64) throws -> RetentionPlan {
        var fitting: RetentionPlan?
        var (room, fittingRoom, tooMuch) = (budget, UInt64(0), UInt64.max)
        for _ in 0..<Store.budgetRounds {
            var plan = try planner.plan(within: room, &space)
            let after = try space.storeBytes - min(space.storeBytes, plan.freedBytes + forecastRebasing(plan).savedBytes)
            if after <= budget {
                plan.warnings.removeAll { $0.contains(RetentionPlanner.overBudget) }
                (fitting, fittingRoom) = (plan, room)
                let (next, isHuge) = room.addingReportingOverflow(budget - after)
                // Nothing goes, or hardly anything more would fit.
                guard !plan.dropped.isEmpty, budget - after > budget / 50, !isHuge else { break }
                room = next < tooMuch ? next : room + (tooMuch - room) / 2
            } else {
                guard fitting != nil else { return plan }
                tooMuch = room
                room = fittingRoom + (room - fittingRoom) / 2
            }
            guard room - fittingRoom > budget / 100 else { break }
        }
        return fitting!
    }

    /// Each takes a look at all blocks that may be packed anew.
    private static let budgetRounds = 5
}

private struct RetentionPlanner {
    static let overBudget = "is over the budget"

    private let store: Store
    private let policy: RetentionPolicy
    private let worths: [String: SnapshotWorth]
    private let needed: [ContentID: String]
    private let now: Int64
    private var rows: [RetentionPlan.Row]
    private var warnings: [String] = []

    init(
        store: Store, policy: RetentionPolicy, worths: [String: SnapshotWorth], needed: [ContentID: String], now: Int64, _ entries: [HistoryEntry]
    ) {
        self.store = store
        self.policy = policy
        self.worths = worths
        self.needed = needed
        self.now = now
        rows = entries.map { RetentionPlan.Row(entry: $0, reasons: []) }
    }

    /// Applies all rules but the budget.
    mutating func decide() throws {
        keepProtected()
        if policy.keepsSnapshots {
            try forEachRun { planner, _, indices in try planner.keepByRules(indices) }
        } else {
            for index in rows.indices { rows[index].reasons.append("no rule drops it") }
        }
        if policy.worth != nil { try keepByWorth() }
    }

    /// What the snapshots take that no rule keeps.
    func space() throws -> SnapshotSpace {
        try store.readAll { transaction, tables in try SnapshotSpace(rows.filter { !$0.isKept }.map(\.entry.id), transaction, tables) }
    }

    /// - Parameters:
    ///   - room: packed bytes that all blocks of the store may take.
    ///   - space: what `space()` gave.
    func plan(within room: UInt64, _ space: inout SnapshotSpace) throws -> RetentionPlan {
        var planner = self
        planner.keepWithin(room, &space)
        return try planner.plan()
    }

    func plan() throws -> RetentionPlan {
        var planner = self
        planner.noteWorth()
        return try store.readAll { transaction, tables in try planner.forecast(transaction, tables) }
    }

    private mutating func forEachRun(_ body: (inout RetentionPlanner, String, [Int]) throws -> Void) rethrows {
        var start = 0
        while start < rows.count {
            let run = rows[start].entry.run
            var end = start
            while end < rows.count, rows[end].entry.run == run { end += 1 }
            try body(&self, run, Array(start..<end))
            start = end
        }
    }

    private mutating func keepProtected() {
        for index in rows.indices {
            let entry = rows[index].entry
            if entry.isHead { rows[index].reasons.append("head") }
            if entry.isPinned { rows[index].reasons.append("pinned") }
            if !policy.includesTagged { rows[index].reasons += entry.tags.map { "tag \($0)" } }
            if let what = needed[entry.id] { rows[index].reasons.append(what) }
        }
    }

    private mutating func keepByRules(_ indices: [Int]) throws {
        if let last = policy.keepLast {
            for index in indices.suffix(last) { rows[index].reasons.append("last \(last)") }
        }
        for index in indices {
            let entry = rows[index].entry
            if let every = policy.keepEvery, entry.step % every == 0 { rows[index].reasons.append("every \(every)") }
            if policy.includesTagged {
                let matched = entry.tags.filter { tag in policy.keepTags.contains { fnmatch($0, tag, 0) == 0 } }
                rows[index].reasons += matched.map { "tag \($0)" }
            }
            if let least = policy.leastAge, RetentionPlanner.isYounger(entry.ingested, than: least, now) {
                rows[index].reasons.append("young")
            }
        }
        for best in policy.keepBest { try keepBest(best, indices) }
    }

    /// - Parameter seconds: any number.
    private static func isYounger(_ ingested: Int64, than seconds: UInt64, _ now: Int64) -> Bool {
        let (nanoseconds, isLong) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (age, isFuture) = now.subtractingReportingOverflow(ingested)
        return isLong || isFuture || age < 0 || UInt64(age) < nanoseconds
    }

    private mutating func keepBest(_ best: RetentionPolicy.Best, _ indices: [Int]) throws {
        var known: [(index: Int, value: Double)] = []
        for index in indices {
            // What cannot be read is not known.
            let value = try Verifier.optional { try store.metrics(of: "\(rows[index].entry.id)") }?[best.metric]
            if let value { known.append((index, value)) } else { rows[index].reasons.append("no \(best.metric) known") }
        }
        if known.isEmpty {
            warnings.append("\(rows[indices[0]].entry.run): no snapshot has a metric \"\(best.metric)\": all are kept")
        }
        // Of equals the later one.
        known.sort { ($0.value, -$0.index) < ($1.value, -$1.index) }
        if !best.isLowest { known.sort { ($0.value, $0.index) > ($1.value, $1.index) } }
        for found in known.prefix(best.count) { rows[found.index].reasons.append("\(best.isLowest ? "lowest" : "highest") \(best.metric)") }
    }

    /// Those of which nothing is known stay: what they can teach is not guessed.
    private mutating func keepByWorth() throws {
        try forEachRun { planner, run, indices in
            guard let worth = planner.worths[run] else {
                throw StoreError(.badInput, "\(run): nothing says what its snapshots are worth")
            }
            let others = indices.filter { planner.rows[$0].entry.id != worth.strong }
            for index in others {
                let id = planner.rows[index].entry.id
                planner.rows[index].note = worth.notes[id]
                if worth.gains[id] == nil { planner.rows[index].reasons.append(worth.notes[id] ?? "nothing known of it") }
            }
            for index in indices where planner.rows[index].entry.id == worth.strong { planner.rows[index].reasons.append("strong") }
            guard let count = planner.policy.keepByWorth else { return }
            let picked = worth.best(count, of: others.map { planner.rows[$0].entry.id }.filter { worth.gains[$0] != nil })
            for index in others where picked.contains(planner.rows[index].entry.id) {
                planner.rows[index].reasons.append(planner.policy.worthName)
            }
        }
    }

    private mutating func keepWithin(_ budget: UInt64, _ space: inout SnapshotSpace) {
        let open = rows.indices.filter { !rows[$0].isKept }
        let fixed = space.storeBytes - space.totalBytes
        guard fixed <= budget else {
            warnings.append("what stays in any case \(RetentionPlanner.overBudget): it takes \(fixed) packed bytes, \(fixed - budget) more")
            return
        }
        var kept: [String: [ContentID]] = [:]
        for row in rows where row.isKept { kept[row.entry.run, default: []].append(row.entry.id) }
        var runs: [ContentID: Set<String>] = [:]
        for index in open { runs[rows[index].entry.id, default: []].insert(rows[index].entry.run) }
        var seen: Set<ContentID> = []
        let candidates = open.compactMap { index in
            let id = rows[index].entry.id
            return seen.insert(id).inserted ? BudgetChoice.Candidate(id: id, runs: runs[id]!) : nil
        }
        let chosen = Set(BudgetChoice(candidates: candidates, worths: worths, kept: kept).choose(&space, room: budget - fixed).map(\.id))
        for index in open where chosen.contains(rows[index].entry.id) { rows[index].reasons.append("\(policy.worthName), in budget") }
    }

    /// Says of each what only it teaches: beside all that stays.
    private mutating func noteWorth() {
        for (run, worth) in worths {
            let indices = rows.indices.filter { rows[$0].entry.run == run }
            let marginals = worth.marginals(
                of: indices.map { rows[$0].entry.id }, beside: Set(indices.filter { rows[$0].isKept }.map { rows[$0].entry.id }))
            for index in indices {
                rows[index].value = worth.value(of: rows[index].entry.id)
                rows[index].marginal = marginals[rows[index].entry.id]
            }
        }
    }

    private mutating func forecast(
        _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> RetentionPlan {
        var forecast = try forecastRows(transaction, tables)
        var optimizers: [RetentionPlan.DroppedOptimizer] = []
        if let keep = policy.optimizerKeep {
            let gone = Set(rows.filter { !$0.isKept }.map(\.ref))
            for run in Set(rows.map(\.entry.run)).sorted() {
                for entry in try OptimizerWindow(run: run, keep: keep, gone: gone).unwanted(transaction, tables) where needed[entry.snapshot] == nil {
                    let bytes = try forecast.dropPart(.optimizer, of: entry.snapshot, transaction, tables)
                    optimizers.append(.init(ref: entry.ref, id: entry.snapshot, freedBytes: bytes))
                }
            }
        }
        return RetentionPlan(policy: policy, rows: rows, optimizers: optimizers, warnings: warnings)
    }

    /// What those that go free. One whose records cannot be read stays: nobody can say what it used.
    private mutating func forecastRows(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> RemovalForecast {
        while true {
            var forecast = RemovalForecast()
            var damaged: Int?
            // The newest first: what is packed against others goes before them.
            for index in rows.indices.reversed() where !rows[index].isKept {
                do {
                    rows[index].freedBytes = try forecast.removeUse(of: rows[index].entry.id, transaction, tables)
                } catch let error as StoreError where error.code == .damaged {
                    warnings.append("\(rows[index].ref) is kept, since it is damaged: \(error.reason)")
                    damaged = index
                    break
                }
            }
            guard let damaged else { return forecast }
            for index in rows.indices where rows[index].entry.id == rows[damaged].entry.id { rows[index].reasons.append("damaged") }
        }
    }
}

extension RetentionPolicy {
    /// The rule that worth comes from, as rows name it.
    var worthName: String {
        switch worth {
        case .distance: "by distance"
        default: "gap value"
        }
    }
}
