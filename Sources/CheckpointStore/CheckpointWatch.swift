/// Follows a trainer's output directory: takes each checkpoint in when it is complete.
///
/// Complete is one that has its weights, all shards that its index or their names promise, and what its older siblings have, and whose files
/// have kept their sizes and times for `settleSeconds`; one without a `trainer_state.json`, which trainers write last, for
/// `patience` times as long. What was taken in before is known again by sizes, times and inodes, after a restart too.
/// For one thread.
public final class CheckpointWatch {
    /// How checkpoints are taken in, and when.
    public struct Options: Sendable {
        /// As `Store.ingest` takes them.
        public var ingest = IngestOptions()
        /// How long files must have stayed as they are.
        public var settleSeconds = 5.0

        public init() {}
    }

    /// What a look has found.
    public struct Look: Sendable {
        /// Why there is no checkpoint to look at: no directory, or none in it.
        public var absence: String?
        /// Checkpoints that are not taken in yet, and why.
        public var waiting: [(path: String, reason: String)] = []
        /// Checkpoints that were refused; each is told once as long as it stays as it is.
        public var refused: [(path: String, error: StoreError)] = []
        /// Checkpoints that this look took in.
        public var taken: [IngestResult] = []
        /// Of checkpoints that are in the store, and whose originals are there: oldest first.
        public var originals: [(path: String, ref: String, id: ContentID)] = []
        /// How long nothing below the directory has changed.
        public var quietSeconds = 0.0
        /// The first of those that wait, when it has been quiet for longer than any checkpoint waits.
        public var stuck: (path: String, reason: String)?
    }

    /// Times longer that one waits for a trainer's state.
    private static let patience = 6.0

    private let store: Store
    /// As it was given.
    public let directory: String
    private let options: Options
    /// What each checkpoint looked like, and since when.
    private var seen: [String: (files: [SourceRecord.File], since: Double)] = [:]
    private var refused: [String: [SourceRecord.File]] = [:]
    /// What was below the directory, and since when.
    private var stamp: (hash: Int, since: Double)?

    public init(_ store: Store, _ directory: String, _ options: Options = Options()) {
        self.store = store
        self.directory = directory
        self.options = options
    }

    /// Whether there is a directory to follow.
    public var isThere: Bool { FileSystem.status(directory)?.isDirectory == true }

    /// Looks once, and takes in what is complete.
    ///
    /// - Parameters:
    ///   - now: seconds of a clock that only goes forward.
    ///   - taken: called after each checkpoint that was taken in.
    /// - Throws: `.locked`, `.diskFull`, `.interrupted`: look again later. What is wrong with one checkpoint is in the result.
    public func look(
        now: Double, monitor: Monitor = Monitor(), taken: (IngestResult) throws -> Void = { _ in }
    ) throws(StoreError) -> Look {
        try throwingStoreErrors {
            var look = Look()
            var present: Set<String> = []
            for source in try sources(&look) {
                present.insert(source.path)
                try visit(source, now, monitor, &look, taken)
            }
            seen = seen.filter { present.contains($0.key) }
            refused = refused.filter { present.contains($0.key) }
            let hash = CheckpointWatch.hash(directory)
            if stamp?.hash != hash { stamp = (hash, now) }
            look.quietSeconds = now - stamp!.since
            if look.quietSeconds >= CheckpointWatch.patience * options.settleSeconds { look.stuck = look.waiting.first }
            return look
        }
    }

    /// Of the names, sizes and times below a directory, or of a file.
    private static func hash(_ directory: String) -> Int {
        var hasher = Hasher()
        if let status = FileSystem.status(directory), status.isRegular {
            hasher.combine(status.size)
            hasher.combine(status.modified)
            return hasher.finalize()
        }
        func add(_ path: String, _ depth: Int) {
            for name in (try? FileSystem.list(path)) ?? [] {
                guard let status = FileSystem.status(path + "/" + name) else { continue }
                hasher.combine(name)
                hasher.combine(status.size)
                hasher.combine(status.modified)
                if status.isDirectory, depth < 8 { add(path + "/" + name, depth + 1) }
            }
        }
        add(directory, 0)
        return hasher.finalize()
    }

    private func sources(_ look: inout Look) throws -> [CheckpointSource] {
        guard FileSystem.status(directory) != nil else {
            look.absence = "not there yet"
            return []
        }
        do {
            let scan = try CheckpointScan.checkpoints(at: directory, asOne: false, leavingOut: store.path)
            if let refusal = scan.refusal { look.waiting.append((directory, "\(StoreError(refusal).reason)")) }
            return scan.finished
        } catch let error as StoreError where error.code == .badInput {
            look.absence = error.reason
            return []
        } catch let error as StoreError where error.code == .incomplete {
            look.waiting.append((directory, error.reason))
            return []
        }
    }

    private func visit(
        _ source: CheckpointSource, _ now: Double, _ monitor: Monitor, _ look: inout Look, _ taken: (IngestResult) throws -> Void
    ) throws {
        let files = SourceRecord.files(of: source)
        if refused[source.path] == files { return }
        if seen[source.path]?.files != files { seen[source.path] = (files, now) }
        let hasState = source.files.contains { FileSystem.name($0.path) == "trainer_state.json" }
        let isDirectory = source.files.first?.path != FileSystem.name(source.path)
        let needed = options.settleSeconds * (hasState || !isDirectory ? 1 : CheckpointWatch.patience)
        var ingest = options.ingest
        ingest.leavesOutPruned = true
        let isKnown = try store.isUnchanged(source, ingest)
        guard isKnown || now - seen[source.path]!.since >= needed else {
            look.waiting.append((source.path, hasState ? "its files may still change" : "no trainer_state.json yet, and its files may still change"))
            return
        }
        do {
            let results = try store.ingest(source.path, options: ingest, monitor: monitor)
            for result in results where result.outcome != .pruned {
                look.originals.append((source.path, "\(result.run)@\(result.step)", result.id))
                guard result.outcome != .unchanged else { continue }
                look.taken.append(result)
                try taken(result)
            }
        } catch let error as StoreError where [.badInput, .conflict, .incomplete].contains(error.code) {
            if error.code != .incomplete { refused[source.path] = files }
            look.refused.append((source.path, error))
        }
    }

    /// Removes the original of a snapshot, once every file of it has been read back from the store and compared.
    ///
    /// - Throws: `.conflict` when anything differs or changes meanwhile, `.badInput` for what is no directory of a checkpoint: nothing is removed
    ///   then. `.failed` when it cannot be removed: it may be left under a hidden name, for `removeLeftovers`.
    public func removeOriginal(
        _ path: String, of ref: String, monitor: Monitor = Monitor(), progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        try throwingStoreErrors {
            guard let status = FileSystem.status(path), !FileSystem.isLink(path) else { throw StoreError(.badInput, "\(path): not there") }
            let isFile = status.isRegular
            let before = CheckpointWatch.hash(path)
            if isFile {
                try store.compare(ref, file: path, monitor: monitor)
            } else {
                try store.compare(ref, with: path, monitor: monitor, progress: progress)
            }
            // Gone at once under its own name: half a checkpoint would be taken for one that is being written.
            let going = (FileSystem.parent(path) ?? ".") + "/" + CheckpointWatch.goingPrefix + FileSystem.name(path)
            try FileSystem.removeTree(going)
            try FileSystem.rename(path, to: going)
            // What was written to it between the comparison and now is in no store.
            guard CheckpointWatch.hash(going) == before else {
                try FileSystem.rename(going, to: path)
                throw StoreError(.conflict, "\(path): has changed while it was compared")
            }
            try FileSystem.removeTree(going)
        }
    }

    private static let goingPrefix = ".ckpt-going-"

    /// Removes what a kill has left of originals that were being removed.
    public func removeLeftovers() throws(StoreError) {
        try throwingStoreErrors {
            guard FileSystem.status(directory)?.isDirectory == true else { return }
            for name in try FileSystem.list(directory) where name.hasPrefix(CheckpointWatch.goingPrefix) {
                try FileSystem.removeTree(directory + "/" + name)
            }
        }
    }
}

extension Store {
    /// As `compare(_:with:)`, of a checkpoint that is a single file.
    func compare(_ ref: String, file path: String, monitor: Monitor) throws {
        let snapshot = try loadSnapshot(resolve(ref))
        guard snapshot.files.count == 1, snapshot.files[0].path == FileSystem.name(path), snapshot.dropped.isEmpty else {
            throw StoreError(.conflict, "\(path): not the file that \(ref) is made of")
        }
        try compareFiles(snapshot, ref, in: FileSystem.parent(path) ?? ".", monitor: monitor) { _ in }
    }
}
