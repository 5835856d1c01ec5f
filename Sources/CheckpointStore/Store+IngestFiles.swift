internal import LMDB

extension Store {
    /// Takes one checkpoint into the store from files at hand, in memory or on disk, as `run@step`.
    ///
    /// As `ingest(_:options:monitor:)`: one transaction under the store lock, which leaves nothing behind when it fails. `options.run` and
    /// `options.step` are not looked at.
    ///
    /// - Parameters:
    ///   - files: at least one of weights, no name twice. What they name must stay as it is until the call returns.
    ///   - joins: steps of other runs, as `run@step`, each a piece of this checkpoint: what other processes of a training have taken in, each
    ///     its own files. Their files join the snapshot, nothing of them is read, and the pieces leave the history in the same commit. A file
    ///     that several have must be the same in all.
    ///   - isPiece: it will be joined: it needs no weights and not all of its shards.
    /// - Throws: `.badInput` for names that are unsafe or twice there and for bytes that are not what their name says, `.incomplete` where
    ///   shards are missing, `.noSuchRef` for a piece that is not there, `.conflict`, `.locked`, `.diskFull`, `.interrupted`.
    /// - Complexity: O(bytes of `files`) time to hash; memory bounded by some 200 MiB besides theirs.
    public func ingest(
        _ files: [CheckpointFile], run: String, step: UInt64, joining joins: [String] = [], isPiece: Bool = false,
        options: IngestOptions = IngestOptions(), monitor: Monitor = Monitor()
    ) throws(StoreError) -> IngestResult {
        try throwingStoreErrors {
            let name = "\(run)@\(step)"
            let found = try files.map { try $0.source() }.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
            for (file, next) in zip(found, found.dropFirst()) where (next.path + "/").utf8.starts(with: (file.path + "/").utf8) {
                throw StoreError(.badInput, "\(name): two files called \(file.path)")
            }
            let source = CheckpointSource(
                path: name, run: run, step: step, files: found, indexes: found.filter { PartNaming.isShardIndex($0.path) })
            if joins.isEmpty, !isPiece { try Completeness.check(source, path: name) }
            var options = options
            (options.run, options.step, options.origin, options.joins) = (run, step, options.origin ?? "memory", joins)
            try checkNames(options, [source])
            try checkOptimizerKeep(options)
            return try withLock(isCancelled: monitor.isCancelled) {
                try ingest([source], unchanged: [:], options, monitor)[0]
            }
        }
    }
}

/// Snapshots whose files become part of another.
struct Pieces {
    /// Their steps.
    let entries: [HistoryEntry]
    private let parts: [PartManifest]

    /// Their files, as if they had been found on disk.
    var files: [SourceFile] {
        parts.flatMap { part in
            part.files.map {
                SourceFile(path: $0.path, location: $0.path, part: part.kind, isDirectory: $0.isDirectory, status: FileStatus(inMemory: $0.size))
            }
        }
    }

    /// - Throws: `.noSuchRef`, `.badInput` for a ref that is no `run@step`.
    init(_ refs: [String], in store: Store) throws {
        let history = refs.isEmpty ? [] : try store.history()
        entries = try refs.map { ref in
            guard let at = ref.lastIndex(of: "@"), let step = UInt64(ref[ref.index(after: at)...]) else {
                throw StoreError(.badInput, "\(ref): a piece is named by its run and step", hint: "say run@step")
            }
            guard let entry = history.first(where: { $0.run == ref[..<at] && $0.step == step }) else {
                throw StoreError(.noSuchRef, "\(ref): no such piece")
            }
            guard entry.dropped.isEmpty else { throw StoreError(.conflict, "\(ref): parts of it were dropped") }
            return entry
        }
        guard Set(entries.map(\.run)).count == entries.count else { throw StoreError(.badInput, "a piece is there twice") }
        parts = try entries.flatMap { try store.loadSnapshot($0.id).parts }
    }

    /// `own` with the files of the pieces; each tensor that the result names holds one use more for each of theirs.
    func joined(_ own: [PartManifest], _ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> [PartManifest] {
        guard !parts.isEmpty else { return own }
        var files: [PartKind: [String: PartManifest.File]] = [:]
        for part in own { for file in part.files { files[part.kind, default: [:]][file.path] = file } }
        for part in parts {
            for file in part.files {
                if let known = files[part.kind]?[file.path] {
                    guard known == file else {
                        throw StoreError(
                            .conflict, "\(file.path): not the same file in all pieces", hint: "name what differs by its rank")
                    }
                    continue
                }
                files[part.kind, default: [:]][file.path] = file
                for tensor in PartManifest(kind: part.kind, files: [file]).uses { try transaction.retain(tables, .tensor, tensor) }
            }
        }
        return PartKind.allCases.compactMap { kind in
            guard let files = files[kind]?.values.sorted(by: { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }) else { return nil }
            return PartManifest(kind: kind, files: files)
        }
    }
}
