internal import LMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// One generation of a store: the LMDB environment in `gen-N/`, which the file `current` names.
///
/// Compaction writes generation N+1 and then renames `current`, because a data file must never be replaced
/// under a name that is open.
struct Generation: Sendable {
    let number: Int
    let environment: Environment
    private(set) var tables: Tables

    static func path(_ store: String, _ number: Int) -> String { "\(store)/gen-\(number)" }

    /// The number that `current` names.
    static func current(_ store: String) throws -> Int {
        guard let bytes = try FileSystem.contents(store + "/current") else {
            throw StoreError(.noStore, "\(store): no store here", hint: "make one with: ckpt init \(store)")
        }
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.hasPrefix("gen-"), text.hasSuffix("\n"), let number = Int(text.dropFirst(4).dropLast()), number > 0,
            text == "gen-\(number)\n"
        else { throw StoreError(.damaged, "\(store)/current: names no generation", hint: "run ckpt verify") }
        return number
    }

    /// Opens the generation that `current` names; the next one when it is compacted away in between.
    static func openCurrent(_ store: String) throws -> Generation {
        var number = try current(store)
        while true {
            do {
                return try open(store, number)
            } catch {
                let next = try current(store)
                guard next != number else { throw error }
                number = next
            }
        }
    }

    /// Opens generation `number` and checks that this version can read it.
    static func open(_ store: String, _ number: Int) throws -> Generation {
        let path = path(store, number)
        // LMDB would make an empty environment of an empty file.
        guard let status = FileSystem.status(path + "/data.mdb"), status.size > 0 else {
            throw StoreError(.damaged, "\(path)/data.mdb: missing or empty", hint: "restore the store directory")
        }
        let environment = try Environment.open(path: path)
        return Generation(number: number, environment: environment, tables: try openTables(environment, path))
    }

    private static func openTables(_ environment: Environment, _ path: String) throws -> Tables {
        environment.lockTables()
        defer { environment.unlockTables() }
        let transaction = try environment.beginRead()
        // The features first: a newer store may have other tables.
        let superblock = try features(transaction, path)
        guard let tables = try Tables(transaction, superblock.features) else {
            throw StoreError(.damaged, "\(path): a table is missing", hint: "run ckpt verify")
        }
        // The commit makes the table handles usable in later transactions.
        try transaction.commit()
        return tables
    }

    private static func features(_ transaction: borrowing ReadTransaction, _ path: String) throws -> Superblock {
        guard let table = try transaction.table(Kind.superblock.tableName),
            let record = try transaction.get(table, Superblock.key)
        else { throw StoreError(.damaged, "\(path): no superblock", hint: "run ckpt verify") }
        let bytes = try record.withUnsafeBytes { Array(try Checksum.open($0, .superblock, key: Superblock.key)) }
        let superblock = try Superblock(bytes)
        try superblock.checkReadable()
        return superblock
    }

    /// The same generation with all tables that the store has by now.
    func withAllTables() throws -> Generation {
        guard tables.features.count < Feature.allCases.count else { return self }
        let features = try Superblock.read(environment.beginRead(), tables).features
        guard features != tables.features else { return self }
        var generation = self
        generation.tables = try Generation.openTables(environment, environment.path)
        return generation
    }

    /// The same generation with tables that a transaction of this process has just made and committed.
    func with(_ tables: Tables) -> Generation {
        var generation = self
        generation.tables = tables
        return generation
    }

    /// Makes generation `number`, empty.
    static func create(_ store: String, _ number: Int, _ superblock: Superblock) throws {
        let path = path(store, number)
        try FileSystem.makeDirectory(path)
        do {
            let environment = try Environment.open(path: path)
            environment.lockTables()
            defer { environment.unlockTables() }
            let transaction = try environment.beginWrite()
            let tables = try Tables(transaction)
            try transaction.putRecord(tables, .superblock, Superblock.key, superblock.encoded)
            try transaction.commit()
        }
        try reserveLockFile(path + "/lock.mdb")
        try FileSystem.syncDirectory(path)
    }

    /// LMDB maps its lock file sparse and writable: on a full disk, taking a reader slot in a hole of it would
    /// be SIGBUS. Its blocks are taken now.
    ///
    /// Not while this process has the environment open: closing the file would drop its lock on it.
    static func reserveLockFile(_ path: String) throws {
        #if os(Linux)
        guard let size = FileSystem.status(path)?.size else { return }
        let file = try OpenFile(locking: path)
        let code = posix_fallocate(file.descriptor, 0, off_t(size))
        guard code == 0 || code == EOPNOTSUPP || code == EINVAL else { throw FileSystem.failure("allocate", path, code) }
        #endif
    }
}

extension Superblock {
    static func read<T: Transaction & ~Copyable>(_ transaction: borrowing T, _ tables: Tables) throws -> Superblock {
        guard let bytes = try transaction.record(tables, .superblock, key) else {
            throw StoreError(.damaged, "store: no superblock", hint: "run ckpt verify")
        }
        return try Superblock(bytes)
    }
}
