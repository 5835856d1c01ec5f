internal import LMDB

/// Which optimizer states of a run have had their time: training goes on from the newest, so those of old steps are the
/// first bytes that nobody misses.
struct OptimizerWindow {
    let run: String
    /// Last steps of the run that keep theirs.
    let keep: Int
    /// Steps that are about to go, as `run@step`: they count for nothing.
    var gone: Set<String> = []

    struct Entry {
        var ref: String
        var snapshot: ContentID
    }

    /// The run's snapshots, oldest first, whose optimizer state is there and not wanted: not among the last steps, not in
    /// another run too (which has not asked for it), not tagged, not pinned. One that consists of nothing else keeps it.
    ///
    /// - Complexity: O(steps of all runs).
    func unwanted<T: Transaction & ~Copyable>(_ transaction: borrowing T, _ tables: Tables) throws -> [Entry] {
        var runs: [String: [Entry]] = [:]
        try transaction.steps(tables) { run, step, record in
            let ref = "\(run)@\(step)"
            if !gone.contains(ref) { runs[run, default: []].append(Entry(ref: ref, snapshot: record.snapshot)) }
            return true
        }
        var seen = Set((runs[run] ?? []).suffix(keep).map(\.snapshot))
        for (other, entries) in runs where other != run { seen.formUnion(entries.map(\.snapshot)) }
        for tag in try transaction.tags(tables) { seen.insert(tag.snapshot) }
        var unwanted: [Entry] = []
        for entry in (runs[run] ?? []).dropLast(keep) where seen.insert(entry.snapshot).inserted {
            guard let record = try transaction.snapshotRecord(tables, entry.snapshot), record.here.count > 1,
                record.here.contains(where: { $0.kind == .optimizer }), try !transaction.isPinned(tables, entry.snapshot)
            else { continue }
            unwanted.append(entry)
        }
        return unwanted
    }
}

extension Store {
    /// Whether `run` has optimizer states past its last `keep` steps.
    func hasUnwantedOptimizers(_ run: String, keep: Int) throws -> Bool {
        try read { transaction, tables in
            try !OptimizerWindow(run: run, keep: keep).unwanted(transaction, tables).isEmpty
        }
    }

    /// Drops the optimizer states of `run` past its last `keep` steps; their space is released by `recover`. Under the
    /// store lock only. Returns the snapshots, as `run@step`.
    func dropOptimizers(_ run: String, keep: Int) throws -> [String] {
        // Most ingests find nothing: no empty commit for those.
        guard try hasUnwantedOptimizers(run, keep: keep) else { return [] }
        return try write { transaction, tables in
            let unwanted = try OptimizerWindow(run: run, keep: keep).unwanted(transaction, tables)
            for entry in unwanted { try transaction.dropPart(tables, .optimizer, of: entry.snapshot) }
            return unwanted.map(\.ref)
        }
    }
}

extension WriteTransaction {
    /// Takes back a snapshot's use of one of its parts. The part's id stays in the manifest; its bytes go with the last
    /// use. The image goes too: it holds files that the snapshot no longer has.
    func dropPart(_ tables: Tables, _ kind: PartKind, of id: ContentID) throws {
        guard var record = try snapshotRecord(tables, id), let entry = record.here.first(where: { $0.kind == kind }),
            let part = try partManifest(tables, entry.id)
        else { throw StoreError(.damaged, "store: snapshot \(id) has no \(kind)", hint: "run ckpt verify") }
        record.dropped.insert(kind)
        try putRecord(tables, .snapshot, id.bytes, record.encoded)
        try delete(tables[.image], id.bytes)
        guard try release(tables, .part, entry.id) else { return }
        var pending = Pending()
        pending.tensors = part.uses
        try pending.put(self, tables, key: Pending.newKey())
    }
}
