internal import BlockCodec
internal import LMDB

extension Store {
    /// Takes the checkpoints at `path` into the store: a file, a model directory, or a trainer's output directory
    /// whose checkpoints are taken in step order, each in a transaction of its own.
    ///
    /// Waits for the store lock. Interrupted or failed, it leaves the snapshots it has reported as finished and
    /// nothing of the one under way. Unfinished checkpoints of a series do not keep the finished ones out: the first is
    /// named by the error, after the others have been taken.
    ///
    /// - Throws: `.incomplete` for a checkpoint that is still being written, `.conflict` when the run and step hold
    ///   other bytes already, `.badInput`, `.locked`, `.diskFull`, `.interrupted`.
    /// - Complexity: O(bytes) time to read and hash; memory bounded by some 200 MiB whatever the size.
    @discardableResult
    public func ingest(
        _ path: String, options: IngestOptions = IngestOptions(), monitor: Monitor = Monitor()
    ) throws(StoreError) -> [IngestResult] {
        try throwingStoreErrors {
            let found = try CheckpointScan.checkpoints(at: path, asOne: options.step != nil, leavingOut: self.path)
            let sources = found.finished
            try checkNames(options, sources)
            try checkOptimizerKeep(options)
            let unchanged = options.rehashes ? [:] : try unchangedSources(sources, options)
            let isDone = try unchanged.count == sources.count && !Set(unchanged.values.map(\.run)).contains { run in
                try options.optimizerKeep.map { keep in try hasUnwantedOptimizers(run, keep: keep) } ?? false
            }
            if isDone, options.tags.isEmpty, !options.pin {
                for source in sources { monitor.finished(unchanged[source.path]!) }
                if let refusal = found.refusal { throw refusal }
                return sources.map { unchanged[$0.path]! }
            }
            let results = try withLock(isCancelled: monitor.isCancelled) {
                try ingest(sources, unchanged: unchanged, options, monitor)
            }
            // What is finished has been taken; what is not is named.
            if let refusal = found.refusal { throw refusal }
            return results
        }
    }

    func checkNames(_ options: IngestOptions, _ sources: [CheckpointSource]) throws {
        let runs = Set(sources.map { options.run ?? $0.run })
        for run in runs { try Name.check(run, "run") }
        for tag in options.tags { try Name.check(tag, "tag") }
        for (name, value) in options.metrics { try Metric.check(name: name, value) }
        try read { transaction, tables in
            if let tag = options.tags.first(where: runs.contains) {
                throw StoreError(.conflict, "\"\(tag)\" cannot be both a run and a tag", hint: "choose another --tag")
            }
            for run in runs where try transaction.contains(tables[.tag], Array(run.utf8)) {
                throw StoreError(.conflict, "run name \"\(run)\" is a tag already", hint: "choose another --run")
            }
            for tag in options.tags { try checkTagName(tag, transaction, tables) }
            if let parent = options.parent { _ = try Ref.resolve(parent, transaction, tables) }
        }
    }

    func checkOptimizerKeep(_ options: IngestOptions) throws {
        guard let keep = options.optimizerKeep, keep < 1 else { return }
        throw StoreError(
            .badInput, "\(keep) optimizer states to keep: a run's head keeps its own", hint: "--no-optimizer takes none in")
    }

    /// Whether a source is in the store, or was, and looks as it did.
    func isUnchanged(_ source: CheckpointSource, _ options: IngestOptions) throws -> Bool {
        try unchangedSources([source], options)[source.path] != nil
    }

    /// The sources that stand in the store with the same sizes, times and inodes.
    private func unchangedSources(
        _ sources: [CheckpointSource], _ options: IngestOptions
    ) throws -> [String: IngestResult] {
        try read { transaction, tables in
            var unchanged: [String: IngestResult] = [:]
            for source in sources {
                guard let bytes = try transaction.record(tables, .source, SourceRecord.key(source.path)) else { continue }
                let record = try SourceRecord(bytes)
                let run = options.run ?? source.run
                guard record.path == source.path, record.run == run, record.step == options.step ?? source.step,
                    record.keepsOptimizer == options.keepsOptimizer,
                    record.files == SourceRecord.files(of: source)
                else { continue }
                let standing = try transaction.stepRecord(tables, run: run, step: record.step)?.snapshot
                let isPruned = standing == nil && (sources.count > 1 || options.leavesOutPruned)
                guard standing == record.snapshot || isPruned else { continue }
                unchanged[source.path] = IngestResult(
                    source: source.path, run: run, step: record.step, id: record.snapshot, outcome: isPruned ? .pruned : .unchanged,
                    rawBytes: source.files.reduce(0) { $0 + $1.status.size }, newBytes: 0, packedBytes: 0, image: nil,
                    notes: [])
            }
            return unchanged
        }
    }

    func ingest(
        _ sources: [CheckpointSource], unchanged: [String: IngestResult], _ options: IngestOptions, _ monitor: Monitor
    ) throws -> [IngestResult] {
        var results: [IngestResult] = []
        /// Runs without optimizer states to drop, until something new comes in.
        var thinned: Set<String> = []
        for (index, source) in sources.enumerated() {
            try monitor.checkCancelled()
            // Of many snapshots only the newest, the run's head to be, gets an image.
            let makesImage = options.makesImage && (index == sources.count - 1 || options.pin)
            var result: IngestResult
            if let known = unchanged[source.path] {
                result = known
            } else {
                var own = options
                // Of a series, the parent is the first one's; the others follow each other.
                if index > 0 { own.parent = nil }
                let ingestion = Ingestion(
                    store: self, source: source, options: own, makesImage: makesImage, monitor: monitor,
                    index: index, count: sources.count)
                do {
                    result = try ingestion.perform()
                } catch {
                    // Leave no trace of it, and no bytes behind the last page of a commit that failed.
                    try? recover()
                    try? currentGeneration().environment.trimTail()
                    throw error
                }
            }
            guard result.outcome != .pruned else {
                monitor.finished(result)
                results.append(result)
                continue
            }
            try label(result.id, options)
            let id = result.id
            let isPinned = try read { transaction, tables in try transaction.isPinned(tables, id) }
            if isPinned || makesImage && !options.joins.isEmpty, result.image == nil { result.image = try makeImage(of: id, whole: false) }
            if let keep = options.optimizerKeep, thinned.insert(result.run).inserted || result.outcome != .unchanged {
                result.droppedOptimizers = try dropOptimizers(result.run, keep: keep)
            }
            // What --replace took out, the image of the head before, and dropped optimizer states.
            try recover()
            monitor.finished(result)
            results.append(result)
        }
        // An optimizer state is most of a checkpoint: its room is the file system's again, and not only that of later snapshots.
        if results.contains(where: { !$0.droppedOptimizers.isEmpty }) { _ = try returnSpace() }
        return results
    }

    private func label(_ id: ContentID, _ options: IngestOptions) throws {
        guard !options.tags.isEmpty || options.pin || !options.metrics.isEmpty else { return }
        try write(making: options.metrics.isEmpty ? nil : .retention) { transaction, tables in
            for tag in options.tags { try transaction.putRecord(tables, .tag, Array(tag.utf8), id.bytes) }
            if options.pin { try transaction.putPin(tables, id) }
            for (name, value) in options.metrics { try transaction.putRecord(tables, .metric, Metric.key(id, name), Metric.encode(value)) }
        }
    }
}

/// One checkpoint's way into the store.
private struct Ingestion {
    let store: Store
    let source: CheckpointSource
    let options: IngestOptions
    let makesImage: Bool
    let monitor: Monitor
    let index: Int
    let count: Int

    private var run: String { options.run ?? source.run }
    private var step: UInt64 { options.step ?? source.step }

    func perform() throws -> IngestResult {
        let started = FileSystem.now()
        let leavesOut: Set<PartKind> = options.keepsOptimizer ? [] : [.optimizer]
        let reader = try CheckpointReader(source, leavingOut: leavesOut)
        let pieces = try Pieces(options.joins, in: store)
        if !options.joins.isEmpty {
            var whole = source
            whole.files += pieces.files
            try Completeness.check(whole, path: source.path)
        }
        // Of pieces it is made when they are joined.
        let image = makesImage && options.joins.isEmpty ? try ImageWriter(store: store.path) : nil
        for file in reader.files where (file.source.isDirectory || file.source.status.size == 0) && reader.isInImages(file.source) {
            // Files without blocks never come up in the pipeline.
            if file.source.isDirectory { try image?.makeDirectory(file.source.path) }
            else { _ = try image?.create(file.source.path, size: 0) }
        }
        let total = reader.byteCount
        let lineage = options.packing == .delta ? try lineage(of: reader) : nil
        let ingestor = Ingestor(
            store: store, reader: reader, packing: options.packing, lineage: lineage, image: image
        ) { done, new in
            try monitor.checkCancelled()
            monitor.progress(
                IngestProgress(
                    source: source.path, index: index, count: count, doneBytes: done, totalBytes: total, newBytes: new))
        }
        var snapshot: ContentID?
        var isKnown = false
        var imagePath: String?
        try ingestor.run { transaction, tables, own in
            let parts = try pieces.joined(own, transaction, tables)
            let manifest = SnapshotManifest(
                parts: parts.map { SnapshotManifest.Part(kind: $0.kind, id: ContentID.hash(of: $0.encoded())) })
            let id = ContentID.hash(of: manifest.encoded())
            let record = SnapshotRecord(manifest: manifest, parts: parts)
            isKnown = try transaction.isStored(tables, .snapshot, id)
            let parent = try commit(id, record, parts, transaction, tables)
            try dropImage(of: parent, transaction, tables)
            let isHead = try transaction.head(tables, of: run)?.record.snapshot == id
            // An image that is there may be in use, and has the same bytes.
            imagePath = try transaction.contains(tables[.image], id.bytes) ? store.imagePath(id) : nil
            if imagePath == nil, let image, isHead || options.pin {
                imagePath = try image.place(as: id)
                try transaction.putRecord(tables, .image, id.bytes, ImageRecord(made: FileSystem.now()).encoded)
            }
            if !pieces.entries.isEmpty { try transaction.removeSteps(tables, pieces.entries) }
            try recordSource(id, started: started, transaction, tables)
            snapshot = id
        }
        return IngestResult(
            source: source.path, run: run, step: step, id: snapshot!, outcome: isKnown ? .known : .stored,
            rawBytes: total, newBytes: ingestor.newBytes, packedBytes: ingestor.packedBytes, image: imagePath,
            notes: reader.notes)
    }

    /// What the checkpoint grew out of: its parent, else the run's step before, else whatever looks like it.
    private func lineage(of reader: CheckpointReader) throws -> Lineage? {
        // Optimizer states that will go soon are no bases: what hangs on them would keep them.
        let leavingOut: Set<PartKind> = options.optimizerKeep == nil ? [] : [.optimizer]
        let known = try store.read { transaction, tables -> Lineage? in
            guard let parent = try parent(transaction, tables) else { return nil }
            var grandparent: ContentID?
            try transaction.steps(tables) { _, _, record in
                if record.snapshot == parent { grandparent = record.parent ?? grandparent }
                return grandparent == nil
            }
            let ancestors = try [parent, grandparent].map { snapshot -> Ancestor? in
                guard let snapshot else { return nil }
                return try Ancestor(
                    reader, in: snapshot, copies: copies(of: snapshot, transaction, tables), leavingOut: leavingOut, transaction,
                    tables)
            }
            return Lineage(parent: ancestors[0]!, grandparent: ancestors[1])
        }
        return try known ?? Lineage.sketched(reader, store)
    }

    /// A directory with the snapshot's files: its image, or where it was ingested from when that looks as it did.
    private func copies(
        of snapshot: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> String? {
        if let image = try store.imagePath(snapshot) { return image }
        var directory: String?
        try transaction.steps(tables) { run, step, record in
            guard record.snapshot == snapshot,
                let bytes = try transaction.record(tables, .source, SourceRecord.key(record.source)),
                let source = try? SourceRecord(bytes), source.snapshot == snapshot,
                let status = FileSystem.status(source.path)
            else { return true }
            directory = status.isDirectory ? source.path : FileSystem.parent(source.path)
            return false
        }
        return directory
    }

    /// The snapshot named as parent, else the one at the run's step before this.
    private func parent<T: Transaction & ~Copyable>(_ transaction: borrowing T, _ tables: Tables) throws -> ContentID? {
        if let parent = options.parent { return try Ref.resolve(parent, transaction, tables) }
        var previous: ContentID?
        try transaction.steps(tables, of: run) { _, step, record in
            guard step < self.step else { return false }
            previous = record.snapshot
            return true
        }
        return previous
    }

    /// Makes the snapshot visible at its step. Returns the run's head before.
    private func commit(
        _ id: ContentID, _ record: SnapshotRecord, _ parts: [PartManifest],
        _ transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws -> ContentID? {
        let head = try transaction.head(tables, of: run)
        let standing = try transaction.stepRecord(tables, run: run, step: step)
        if let standing, standing.snapshot != id, !options.replaces {
            throw StoreError(
                .conflict,
                "\(source.path): \(run)@\(step) is snapshot \(standing.snapshot.short) already, and this is \(id.short)",
                hint: "give another --run or --step, or --replace")
        }
        if let standing, standing.snapshot != id {
            try transaction.checkRemovable(tables, standing.snapshot, "\(run)@\(step)")
        }
        try transaction.adopt(tables, id, record, parts)
        let parent = try parent(transaction, tables)
        let leftOut = options.keepsOptimizer ? [] : source.files.filter { $0.part == .optimizer }
        let step = StepRecord(
            snapshot: id, parent: parent, ingested: FileSystem.now(), source: options.origin ?? source.path,
            leftOutFiles: UInt32(leftOut.count), leftOutBytes: leftOut.reduce(0) { $0 + $1.status.size })
        try transaction.putRecord(tables, .step, StepKey.encode(run: run, step: self.step), step.encoded)
        // The snapshot that stood here loses the use that this step had of it.
        if let standing { try transaction.releaseSnapshot(tables, standing.snapshot) }
        return head?.record.snapshot
    }

    /// Drops the image of the run's head before, unless it is wanted elsewhere. Its files go with `recover`.
    private func dropImage(
        of previous: ContentID?, _ transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws {
        guard let previous, try !transaction.keepsImage(tables, previous) else { return }
        try transaction.delete(tables[.image], previous.bytes)
    }

    private func recordSource(
        _ id: ContentID, started: Int64, _ transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws {
        let key = SourceRecord.key(source.path)
        guard options.origin == nil, SourceRecord.isSettled(source, before: started) else {
            try transaction.delete(tables[.source], key)
            return
        }
        let record = SourceRecord(
            path: source.path, run: run, step: step, snapshot: id, keepsOptimizer: options.keepsOptimizer,
            files: SourceRecord.files(of: source))
        try transaction.putRecord(tables, .source, key, record.encoded)
    }
}

extension WriteTransaction {
    /// Stores a snapshot whose tensors each hold one use for each time its parts name them, and gives the snapshot
    /// one more use. What was stored before keeps its own uses; those held are then released.
    func adopt(_ tables: Tables, _ id: ContentID, _ record: SnapshotRecord, _ parts: [PartManifest]) throws {
        let dropped = try snapshotRecord(tables, id)?.dropped
        let isStored = dropped != nil
        for (part, entry) in zip(parts, record.manifest.parts) {
            let bytes = part.encoded()
            // What cannot be read back must not be committed.
            guard try PartManifest(bytes, what: "part \(entry.id)") == part else {
                throw StoreError(.failed, "part \(entry.id) is not read back as it was written")
            }
            if try self.isStored(tables, .part, entry.id) {
                if dropped?.contains(entry.kind) ?? true { try retain(tables, .part, entry.id) }
                for tensor in part.uses { _ = try release(tables, .tensor, tensor) }
            } else {
                try putRecord(tables, .part, entry.id.bytes, bytes)
                try putCount(tables, .part, entry.id, CountRecord(count: 1))
            }
        }
        // For a stored snapshot too: parts that had been dropped are back, and its image lacks their files.
        try putRecord(tables, .snapshot, id.bytes, record.encoded)
        if let dropped, !dropped.isEmpty { try delete(tables[.image], id.bytes) }
        if isStored {
            try retain(tables, .snapshot, id)
        } else {
            try putCount(tables, .snapshot, id, CountRecord(count: 1))
        }
    }

    /// Takes back one use of a snapshot. At the last one its record and image record go, and the entropy records that name it;
    /// what its parts used is left to a pending record, and the chunks of those to removals, to be released in slices.
    func releaseSnapshot(_ tables: Tables, _ id: ContentID) throws {
        guard try releaseUse(tables, of: id) else { return }
        try removeEntropyRecords(tables) { $0.key.names(id) }
    }

    /// As `releaseSnapshot`, leaving the entropy records to the caller. Returns whether that was the last use.
    func releaseUse(_ tables: Tables, of id: ContentID) throws -> Bool {
        guard let record = try snapshotRecord(tables, id) else {
            throw StoreError(.damaged, "store: snapshot \(id) is missing", hint: "run ckpt verify")
        }
        guard try release(tables, .snapshot, id) else { return false }
        try delete(tables[.image], id.bytes)
        try removeMetrics(tables, of: id)
        var pending = Pending()
        for part in record.here {
            guard let manifest = try partManifest(tables, part.id) else {
                throw StoreError(.damaged, "store: part \(part.id) is missing", hint: "run ckpt verify")
            }
            if try release(tables, .part, part.id) { pending.tensors += manifest.uses }
        }
        try pending.put(self, tables, key: Pending.newKey())
        return true
    }
}
