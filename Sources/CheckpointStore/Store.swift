internal import LMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A checkpoint store: one directory that keeps the history of training runs.
///
/// ```swift
/// let store = try Store.open("runs/.ckpt")
/// try store.ingest("runs/sft", options: IngestOptions())
/// let head = try store.snapshot("sft")
/// let view = try store.view(of: "model.norm.weight", in: head)
/// ```
///
/// Safe to use from many threads and processes at once: readers never wait, writers wait for the store lock.
/// After `fork`, open it again in the child.
public final class Store: Sendable {
    /// The store directory, absolute.
    public let path: String
    /// Seconds a writer waits for the store lock.
    public let lockTimeout: Double
    /// True when the caller wants to stop waiting for it.
    let isCancelled: @Sendable () -> Bool

    /// The generation opened last, and what `current` looked like before it was read.
    private struct Opened {
        var generation: Generation
        var current: FileStatus?
    }

    private let opened: Locked<Opened>
    let manifests = ManifestCache()
    let probeShapes = ProbeShapeCache()
    let maps = MappedFileCache()

    private init(path: String, lockTimeout: Double, isCancelled: @escaping @Sendable () -> Bool, opened: Opened) {
        self.path = path
        self.lockTimeout = lockTimeout
        self.isCancelled = isCancelled
        self.opened = Locked(opened)
    }

    /// Makes an empty store in the directory `path`, which may exist but holds no store yet.
    ///
    /// - Parameter depthLimit: how many deltas may hang one on the other; 0 for none. More take less space and longer to read.
    /// - Throws: `.conflict` when there is one; `.failed` on file systems LMDB does not work on.
    public static func create(at path: String, depthLimit: UInt8 = 5) throws(StoreError) {
        try throwingStoreErrors {
            guard FileSystem.status(path + "/current") == nil else {
                throw StoreError(.conflict, "\(path): there is a store already")
            }
            try FileSystem.makeDirectories(path)
            let lock = try StoreLock(store: path, timeout: 10)
            defer { withExtendedLifetime(lock) {} }
            try FileSystem.makeDirectory(path + "/images")
            try Generation.create(path, 1, Superblock.new(depthLimit: depthLimit))
            try Ballast.lay(path)
            // The store exists from this rename on.
            try FileSystem.replaceFile(path + "/current", with: "gen-1\n")
        }
    }

    /// Opens the store in the directory `path`.
    ///
    /// - Parameters:
    ///   - lockTimeout: seconds that writers wait for the store lock.
    ///   - isCancelled: asked while they wait; true ends the wait with `.interrupted`.
    /// - Throws: `.noStore`, `.incompatible` for a newer format, `.damaged`.
    public static func open(
        _ path: String, lockTimeout: Double = 30, isCancelled: @escaping @Sendable () -> Bool = { false }
    ) throws(StoreError) -> Store {
        try throwingStoreErrors {
            guard let absolute = FileSystem.absolute(path) else {
                throw StoreError(.noStore, "\(path): no store here", hint: "make one with: ckpt init \(path)")
            }
            let current = FileSystem.status(absolute + "/current")
            let opened = Opened(generation: try Generation.openCurrent(absolute), current: current)
            return Store(path: absolute, lockTimeout: lockTimeout, isCancelled: isCancelled, opened: opened)
        }
    }

    /// The generation `current` names, reopened when a compaction has replaced it.
    ///
    /// One `stat` when it has not: cheap enough for every read.
    func currentGeneration() throws -> Generation {
        // Before the file is read: one that replaces it meanwhile looks otherwise.
        let current = FileSystem.status(path + "/current")
        return try opened.withLock { known in
            if known.current != current || current == nil {
                known = Opened(generation: try Generation.openCurrent(path), current: current)
            }
            return known.generation
        }
    }

    /// The generation opened last, without a look at `current`: for what follows a read.
    var openGeneration: Generation { opened.withLock { $0.generation } }

    /// Runs `body` on a consistent view of the store.
    func read<R>(_ body: (borrowing ReadTransaction, Tables) throws -> R) throws -> R {
        let generation = try currentGeneration()
        let transaction = try generation.environment.beginRead()
        return try body(transaction, generation.tables)
    }

    /// As `read`, with all tables that the store has by now.
    func readAll<R>(_ body: (borrowing ReadTransaction, Tables) throws -> R) throws -> R {
        let generation = try learnTables(currentGeneration())
        let transaction = try generation.environment.beginRead()
        return try body(transaction, generation.tables)
    }

    /// Runs `body` in one write transaction and commits it. When `body` throws, nothing is changed.
    ///
    /// All tables that the store has are among its tables; those of `feature` are made in the same transaction where it has none.
    func write<R>(making feature: Feature? = nil, _ body: (borrowing WriteTransaction, Tables) throws -> R) throws -> R {
        let generation = try currentGeneration()
        let transaction = try generation.environment.beginWrite()
        guard try Generation.current(path) == generation.number else {
            // Compacted between the two lines above; the next try reads `current` anew.
            transaction.abort()
            opened.withLock { $0.current = nil }
            return try write(making: feature, body)
        }
        let superblock = try Superblock.read(transaction, generation.tables)
        try superblock.checkWritable()
        if superblock.features != generation.tables.features {
            // Another process has made them since this one opened the store.
            transaction.abort()
            _ = try learnTables(generation)
            return try write(making: feature, body)
        }
        if let feature, !superblock.features.contains(feature) {
            return try writeFirst(feature, transaction, generation, superblock, body)
        }
        let result = try body(transaction, generation.tables)
        try transaction.commit()
        return result
    }

    /// Makes the tables of `feature`, says so in the superblock, and runs `body`, all in one commit.
    private func writeFirst<R>(
        _ feature: Feature, _ transaction: consuming WriteTransaction, _ generation: Generation, _ superblock: Superblock,
        _ body: (borrowing WriteTransaction, Tables) throws -> R
    ) throws -> R {
        generation.environment.lockTables()
        defer { generation.environment.unlockTables() }
        let tables: Tables
        let result: R
        do {
            tables = try Tables(adding: feature, to: generation.tables, transaction)
            var superblock = superblock
            superblock.readCompatible |= feature.rawValue
            try transaction.putRecord(tables, .superblock, Superblock.key, superblock.encoded)
            result = try body(transaction, tables)
        } catch {
            // Here, before the gate is given up: the end of the transaction closes the tables it made.
            transaction.abort()
            throw error
        }
        try transaction.commit()
        remember(generation.with(tables))
        return result
    }

    /// `generation` with all tables that the store has by now.
    func learnTables(_ generation: Generation) throws -> Generation {
        let learned = try generation.withAllTables()
        if learned.tables.features != generation.tables.features { remember(learned) }
        return learned
    }

    private func remember(_ generation: Generation) {
        opened.withLock { if $0.generation.number == generation.number { $0.generation = generation } }
    }

    /// Runs `body` under the store lock, after releasing what killed writers left behind.
    func withLock<R>(isCancelled: () -> Bool = { false }, _ body: () throws -> R) throws -> R {
        let lock = try StoreLock(store: path, timeout: lockTimeout) { isCancelled() || self.isCancelled() }
        defer { withExtendedLifetime(lock) {} }
        try recover()
        return try body()
    }
}

/// A file of 1 MiB that is deleted first when the disk is full: freeing needs space too.
enum Ballast {
    private static let byteCount = 1 << 20

    static func lay(_ store: String) throws {
        let path = store + "/ballast"
        guard FileSystem.status(path)?.size != UInt64(byteCount) else { return }
        try FileSystem.removeFile(path)
        let file = try OpenFile(creating: path)
        // Written, not only sized: a sparse file holds no space.
        let block = [UInt8](repeating: 0xB5, count: byteCount)
        do {
            try block.withUnsafeBytes { try file.write($0, at: 0) }
        } catch {
            try FileSystem.removeFile(path)
            throw error
        }
    }

    static func drop(_ store: String) throws {
        try FileSystem.removeFile(store + "/ballast")
    }
}
