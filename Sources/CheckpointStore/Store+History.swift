internal import LMDB

/// One line of a run's history.
public struct HistoryEntry: Sendable {
    public var run: String
    public var step: UInt64
    /// The snapshot's.
    public var id: ContentID
    /// What it was trained from; nil where that is not known.
    public var parent: ContentID?
    /// Nanoseconds since 1970.
    public var ingested: Int64
    /// The path it was ingested from.
    public var source: String
    public var tags: [String]
    public var isPinned: Bool
    /// Whether it has the highest step of its run.
    public var isHead: Bool
    public var hasImage: Bool
    public var files: Int
    /// Weights and optimizer state.
    public var tensors: Int
    /// Bytes of its files.
    public var rawBytes: UInt64
    /// Optimizer files that were left out, and their bytes.
    public var leftOutFiles: Int
    /// Bytes of those that were left out.
    public var leftOutBytes: UInt64
    /// Parts that were dropped later.
    public var dropped: [PartKind]
}

extension Store {
    /// The history of `run` (nil: of all runs), by run and step.
    ///
    /// - Throws: `.noSuchRef` when there is no such run.
    /// - Complexity: O(n log n) in its length, whatever the snapshots hold.
    public func history(of run: String? = nil) throws(StoreError) -> [HistoryEntry] {
        try throwingStoreErrors {
            try read { transaction, tables in
                var tags: [ContentID: [String]] = [:]
                for tag in try transaction.tags(tables) { tags[tag.snapshot, default: []].append(tag.name) }
                var entries: [HistoryEntry] = []
                try transaction.steps(tables, of: run) { run, step, record in
                    entries.append(try entry(run, step, record, tags[record.snapshot] ?? [], transaction, tables))
                    return true
                }
                if let run, entries.isEmpty {
                    throw StoreError(.noSuchRef, "\(run): no such run", hint: "ckpt log lists the runs")
                }
                for index in entries.indices {
                    entries[index].isHead = index + 1 == entries.count || entries[index + 1].run != entries[index].run
                }
                return entries
            }
        }
    }

    /// The steps at which the snapshot `ref` names stands: at least one.
    public func steps(of ref: String) throws(StoreError) -> [HistoryEntry] {
        let id = try throwingStoreErrors { try resolve(ref) }
        return try history().filter { $0.id == id }
    }

    /// A snapshot as people name it: `run@step` where it stands first, else its id.
    package func name(of id: ContentID) -> String {
        (try? steps(of: "\(id)"))?.first.map { "\($0.run)@\($0.step)" } ?? "\(id)"
    }

    private func entry(
        _ run: String, _ step: UInt64, _ record: StepRecord, _ tags: [String],
        _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> HistoryEntry {
        guard let snapshot = try transaction.snapshotRecord(tables, record.snapshot) else {
            throw StoreError(.damaged, "store: snapshot \(record.snapshot) is missing", hint: "run ckpt verify")
        }
        return HistoryEntry(
            run: run, step: step, id: record.snapshot, parent: record.parent, ingested: record.ingested,
            source: record.source, tags: tags, isPinned: try transaction.isPinned(tables, record.snapshot),
            isHead: false, hasImage: try transaction.contains(tables[.image], record.snapshot.bytes),
            files: Int(snapshot.files), tensors: Int(snapshot.tensors), rawBytes: snapshot.rawBytes,
            leftOutFiles: Int(record.leftOutFiles), leftOutBytes: record.leftOutBytes,
            dropped: snapshot.dropped.sorted { $0.rawValue < $1.rawValue })
    }

    /// Names the snapshot `ref` by `tag`, which moves when it stands elsewhere.
    public func tag(_ ref: String, as tag: String) throws(StoreError) {
        try throwingStoreErrors {
            try Name.check(tag, "tag")
            try write { transaction, tables in
                try checkTagName(tag, transaction, tables)
                let id = try Ref.resolve(ref, transaction, tables)
                try transaction.putRecord(tables, .tag, Array(tag.utf8), id.bytes)
            }
        }
    }

    func checkTagName<T: Transaction & ~Copyable>(_ tag: String, _ transaction: borrowing T, _ tables: Tables) throws {
        if try transaction.head(tables, of: tag) != nil {
            throw StoreError(.conflict, "tag \"\(tag)\" is the name of a run already", hint: "choose another")
        }
    }

    /// Removes a tag; the snapshot stays.
    public func removeTag(_ tag: String) throws(StoreError) {
        try throwingStoreErrors {
            try write { transaction, tables in
                guard !tag.isEmpty, tag.utf8.count < 500, try transaction.delete(tables[.tag], Array(tag.utf8)) else {
                    throw StoreError(.noSuchRef, "\(tag): no such tag")
                }
            }
        }
    }

    /// Pins the snapshot `ref`: it keeps an image, in which optimizer state may be left out, and is never removed.
    ///
    /// - Returns: the image's directory, made if needed.
    @discardableResult
    public func pin(_ ref: String) throws(StoreError) -> String {
        try throwingStoreErrors {
            try withLock {
                let id = try resolve(ref)
                let path = try makeImage(of: id, whole: false)
                try write { transaction, tables in try transaction.putPin(tables, id) }
                return path
            }
        }
    }

    /// Takes the pin off `ref`, and drops its image unless it is the head of a run.
    public func unpin(_ ref: String) throws(StoreError) {
        try throwingStoreErrors {
            try withLock {
                let id = try resolve(ref)
                try write { transaction, tables in
                    try transaction.delete(tables[.pin], id.bytes)
                    if try !transaction.keepsImage(tables, id) { try transaction.delete(tables[.image], id.bytes) }
                }
                try removeStrayImages()
            }
        }
    }

    /// Removes the snapshot `ref` from its run (`run@step`, `run`, `run~2`), or from all runs (a tag or an id).
    /// What no other snapshot uses is freed inside the store's file, to be used again.
    ///
    /// - Returns: the steps it was removed from.
    /// - Throws: `.conflict` when it is pinned or tagged.
    @discardableResult
    public func remove(_ ref: String) throws(StoreError) -> [HistoryEntry] {
        try throwingStoreErrors {
            try withLock {
                // Under the lock: what stands at a step can change while this waits.
                let steps = try stepsToRemove(ref)
                try write { transaction, tables in try transaction.removeSteps(tables, steps) }
                try recover()
                // The run's new head takes the image of the one that went.
                for step in steps where step.isHead && step.hasImage {
                    if let head = try read({ transaction, tables in try transaction.head(tables, of: step.run) }) {
                        _ = try makeImage(of: head.record.snapshot, whole: false)
                    }
                }
                for run in Set(steps.map(\.run)) where try read({ transaction, tables in try transaction.head(tables, of: run) }) == nil {
                    try TrainingArea.remove(self, run: run)
                }
                return steps
            }
        }
    }

    private func stepsToRemove(_ ref: String) throws -> [HistoryEntry] {
        let id = try resolve(ref)
        let history = try history()
        if let at = ref.lastIndex(of: "@") {
            let step = UInt64(ref[ref.index(after: at)...])
            return history.filter { $0.run == ref[..<at] && $0.step == step }
        }
        if let tilde = ref.lastIndex(of: "~") {
            let steps = history.filter { $0.run == ref[..<tilde] }
            let distance = ref[ref.index(after: tilde)...]
            let index = steps.count - 1 - (Int(distance.isEmpty ? "1" : distance) ?? 0)
            return steps.indices.contains(index) ? [steps[index]] : []
        }
        let heads = history.filter { $0.run == ref && $0.isHead }
        return heads.isEmpty ? history.filter { $0.id == id } : heads
    }
}

extension WriteTransaction {
    /// Refuses a snapshot whose last use may not go: pinned or tagged.
    func checkRemovable(_ tables: Tables, _ id: ContentID, _ name: String) throws {
        guard try count(tables, .snapshot, id)?.count == 1 else { return }
        if try isPinned(tables, id) {
            throw StoreError(.conflict, "\(name): snapshot \(id.short) is pinned", hint: "ckpt unpin \(name)")
        }
        if let tag = try tags(tables).first(where: { $0.snapshot == id }) {
            throw StoreError(.conflict, "\(name): snapshot \(id.short) is tagged \"\(tag.name)\"", hint: "ckpt tag -d \(tag.name)")
        }
    }

    /// Removes steps of runs; what their snapshots used is left to pending records.
    ///
    /// - Parameter keepsSources: remember which sources led to them, so that a series does not bring back what a policy has dropped.
    /// - Complexity: O(steps + sources + entropy records).
    func removeSteps(_ tables: Tables, _ entries: [HistoryEntry], keepsSources: Bool = false) throws {
        var gone: Set<ContentID> = []
        for entry in entries {
            let ref = "\(entry.run)@\(entry.step)"
            try checkRemovable(tables, entry.id, ref)
            guard try delete(tables[.step], StepKey.encode(run: entry.run, step: entry.step)) else {
                throw StoreError(.noSuchRef, "\(ref): removed meanwhile")
            }
            if try releaseUse(tables, of: entry.id) { gone.insert(entry.id) }
        }
        try removeSources(tables, of: Set(entries.map { StepKey.encode(run: $0.run, step: $0.step) })) { path in
            !keepsSources || FileSystem.status(path) == nil
        }
        try removeEntropyRecords(tables) { record in gone.contains { record.key.names($0) } }
    }

    /// Forgets which sources led to steps, where `isForgotten`: they are read again when they come back.
    private func removeSources(_ tables: Tables, of steps: Set<[UInt8]>, where isForgotten: (_ path: String) -> Bool) throws {
        var keys: [[UInt8]] = []
        try records(tables, .source) { key, value in
            let record = try SourceRecord(value)
            if steps.contains(StepKey.encode(run: record.run, step: record.step)), isForgotten(record.path) { keys.append(key) }
            return true
        }
        for key in keys { try delete(tables[.source], key) }
    }
}

extension Store {
    /// All tags, in byte order of their names.
    public func tags() throws(StoreError) -> [(name: String, id: ContentID)] {
        try throwingStoreErrors {
            try read { transaction, tables in try transaction.tags(tables).map { ($0.name, $0.snapshot) } }
        }
    }
}
