internal import CLMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A named table of keys and values, in byte order of the keys. Keys are 1 to 511 bytes.
public struct Table: Sendable, Hashable {
    let handle: UInt32
    public let name: String
}

/// What read and write transactions have in common: a consistent view of the tables.
public protocol Transaction: ~Copyable {
    /// The `MDB_txn`.
    var handle: OpaquePointer { get }
}

extension Transaction where Self: ~Copyable {
    /// The value of `key`, in place in the memory map (or, in a write transaction, in a dirty page).
    ///
    /// The span lives as long as the transaction is borrowed, and in a write transaction until the next
    /// change. No alignment is promised. The corresponding C function is `mdb_get`.
    ///
    /// - Complexity: O(log n).
    @_lifetime(borrow self)
    public func get(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> RawSpan? {
        var found = MDB_val()
        let code = key.withUnsafeBytes { bytes in
            var key = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return mdb_get(handle, table.handle, &key, &found)
        }
        if code == MDB_NOTFOUND { return nil }
        try check(code, "mdb_get")
        return _overrideLifetime(RawSpan(found), borrowing: self)
    }

    /// Whether `key` is there. O(log n).
    public func contains(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> Bool {
        try get(table, key) != nil
    }

    /// Entries of the table. O(1). The corresponding C function is `mdb_stat`.
    public func count(_ table: Table) throws(LMDBError) -> Int {
        var status = MDB_stat()
        try check(mdb_stat(handle, table.handle, &status), "mdb_stat")
        return status.ms_entries
    }

    /// Runs `body` with a cursor over `table`, closed afterwards.
    public func withCursor<R>(_ table: Table, _ body: (inout Cursor) throws -> R) throws -> R {
        var cursor = try Cursor(transaction: handle, table: table)
        return try body(&cursor)
    }

    /// Visits the entries from the first key at or after `start` (nil: the first of all) in order, until
    /// `body` returns false.
    public func scan(
        _ table: Table, from start: [UInt8]? = nil, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws {
        try withCursor(table) { cursor in
            var more = try start.map { key in try cursor.seek(atLeast: key) } ?? cursor.first()
            while more, try body(cursor.key, cursor.value) {
                more = try cursor.next()
            }
        }
    }

    /// The table called `name`, or nil when there is none.
    func openTable(_ name: String, flags: UInt32) throws(LMDBError) -> Table? {
        var table: MDB_dbi = 0
        let code = mdb_dbi_open(handle, name, flags, &table)
        if code == MDB_NOTFOUND { return nil }
        try check(code, "mdb_dbi_open")
        return Table(handle: table, name: name)
    }

    /// The table called `name`, or nil when there is none. Open tables one at a time in a process.
    public func table(_ name: String) throws(LMDBError) -> Table? {
        try openTable(name, flags: 0)
    }
}

/// A consistent view of the last commit, whatever is written meanwhile. Ends when it goes out of scope.
///
/// Never blocks and is never blocked. While it lives, pages freed after it began are not reused.
/// May move between threads, but is used by one at a time.
public struct ReadTransaction: ~Copyable, Transaction {
    public let handle: OpaquePointer
    /// Retained: a transaction must end before its environment is closed.
    private let environment: Unmanaged<Environment>

    init(_ environment: Environment) throws(LMDBError) {
        try environment.checkProcess()
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(environment.handle, nil, UInt32(MDB_RDONLY), &transaction), "mdb_txn_begin")
        guard let transaction else { throw LMDBError(code: ENOMEM, operation: "mdb_txn_begin") }
        handle = transaction
        self.environment = .passRetained(environment)
    }

    deinit {
        // In a child of fork it is the parent's: ending it would take its reader's slot, or its writer's lock, from it.
        if environment.takeUnretainedValue().isOfThisProcess { mdb_txn_abort(handle) }
        environment.release()
    }

    /// Makes a table handle opened in this transaction usable in all others.
    public consuming func commit() throws(LMDBError) {
        let (transaction, environment) = (handle, environment)
        discard self
        defer { environment.release() }
        try check(mdb_txn_commit(transaction), "mdb_txn_commit")
    }
}

/// The one writer. Dropped without `commit`, it changes nothing.
///
/// Dirty pages are kept in anonymous memory until the commit, without a limit of LMDB's own: commit every
/// 64 to 256 MiB. A value over about 2 GiB cannot be written (`EIO`).
public struct WriteTransaction: ~Copyable, Transaction {
    public let handle: OpaquePointer
    /// Retained: a transaction must end before its environment is closed.
    private let environment: Unmanaged<Environment>

    init(_ environment: Environment) throws(LMDBError) {
        try environment.checkProcess()
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(environment.handle, nil, 0, &transaction), "mdb_txn_begin")
        guard let transaction else { throw LMDBError(code: ENOMEM, operation: "mdb_txn_begin") }
        handle = transaction
        self.environment = .passRetained(environment)
    }

    deinit {
        // In a child of fork it is the parent's: ending it would take its reader's slot, or its writer's lock, from it.
        if environment.takeUnretainedValue().isOfThisProcess { mdb_txn_abort(handle) }
        environment.release()
    }

    /// Makes every change durable and visible, all or none. The corresponding C function is `mdb_txn_commit`.
    public consuming func commit() throws(LMDBError) {
        let (transaction, environment) = (handle, environment)
        discard self
        defer { environment.release() }
        let code = mdb_txn_commit(transaction)
        // A write cut short by a full disk comes back as EIO.
        let isFull = code == EIO && environment.takeUnretainedValue().isFileSystemFull
        try check(isFull ? ENOSPC : code, "mdb_txn_commit")
    }

    /// Forgets every change.
    public consuming func abort() {
        let (transaction, environment) = (handle, environment)
        discard self
        mdb_txn_abort(transaction)
        environment.release()
    }

    /// The table called `name`, made when there is none.
    public func makeTable(_ name: String) throws(LMDBError) -> Table {
        guard let table = try openTable(name, flags: UInt32(MDB_CREATE)) else {
            throw LMDBError(code: MDB_NOTFOUND, operation: "mdb_dbi_open")
        }
        return table
    }

    /// Sets the value of `key`. The corresponding C function is `mdb_put`. O(log n).
    public func put(_ table: Table, _ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
        let code = key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                var key = MDB_val(mv_size: key.count, mv_data: UnsafeMutableRawPointer(mutating: key.baseAddress))
                var value = MDB_val(
                    mv_size: value.count, mv_data: UnsafeMutableRawPointer(mutating: value.baseAddress))
                return mdb_put(handle, table.handle, &key, &value, 0)
            }
        }
        try check(code, "mdb_put")
    }

    /// Sets the value of `key` to `count` bytes that `fill` writes straight into the page.
    ///
    /// The corresponding flag is `MDB_RESERVE`. `fill` must write every byte.
    public func put(
        _ table: Table, _ key: [UInt8], count: Int, fill: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(LMDBError) {
        var value = MDB_val(mv_size: count, mv_data: nil)
        let code = key.withUnsafeBytes { bytes in
            var key = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return mdb_put(handle, table.handle, &key, &value, UInt32(MDB_RESERVE))
        }
        try check(code, "mdb_put")
        fill(UnsafeMutableRawBufferPointer(start: value.mv_data, count: count))
    }

    /// Removes `key`; false when it was not there. The corresponding C function is `mdb_del`. O(log n).
    @discardableResult
    public func delete(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> Bool {
        let code = key.withUnsafeBytes { bytes in
            var key = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return mdb_del(handle, table.handle, &key, nil)
        }
        if code == MDB_NOTFOUND { return false }
        try check(code, "mdb_del")
        return true
    }
}

extension Environment {
    /// Begins a read transaction. O(1), never blocks.
    public func beginRead() throws(LMDBError) -> ReadTransaction {
        try ReadTransaction(self)
    }

    /// Begins the write transaction, waiting for the one of another thread or process to end.
    public func beginWrite() throws(LMDBError) -> WriteTransaction {
        try WriteTransaction(self)
    }
}

extension RawSpan {
    /// Asks the system to read the pages of a mapped value, all at once, before they are touched one by one. The
    /// corresponding C function is `posix_madvise`.
    public func prefetch() {
        withUnsafeBytes { bytes in
            let page = Int(sysconf(Int32(_SC_PAGESIZE)))
            guard bytes.count > page, let start = bytes.baseAddress else { return }
            let lead = Int(bitPattern: start) % page
            posix_madvise(UnsafeMutableRawPointer(mutating: start - lead), bytes.count + lead, POSIX_MADV_WILLNEED)
        }
    }

    @_lifetime(immortal)
    init(_ value: MDB_val) {
        self = _overrideLifetime(
            RawSpan(_unsafeStart: UnsafeRawPointer(value.mv_data), byteCount: value.mv_size), copying: ())
    }
}
