internal import CLMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A place in a table, in key order. Made by `Transaction.withCursor`, closed when that returns.
public struct Cursor: ~Copyable {
    private let handle: OpaquePointer
    private var currentKey = MDB_val()
    private var currentValue = MDB_val()

    init(transaction: OpaquePointer, table: Table) throws(LMDBError) {
        var cursor: OpaquePointer?
        try check(mdb_cursor_open(transaction, table.handle, &cursor), "mdb_cursor_open")
        guard let cursor else { throw LMDBError(code: ENOMEM, operation: "mdb_cursor_open") }
        handle = cursor
    }

    deinit { mdb_cursor_close(handle) }

    /// The key at the cursor. Valid until it moves; call only after a move that returned true.
    public var key: RawSpan {
        @_lifetime(borrow self) get { _overrideLifetime(RawSpan(currentKey), borrowing: self) }
    }

    /// The value at the cursor, in place. Valid until it moves; call only after a move that returned true.
    public var value: RawSpan {
        @_lifetime(borrow self) get { _overrideLifetime(RawSpan(currentValue), borrowing: self) }
    }

    private mutating func move(_ operation: MDB_cursor_op) throws(LMDBError) -> Bool {
        let code = mdb_cursor_get(handle, &currentKey, &currentValue, operation)
        if code == MDB_NOTFOUND { return false }
        try check(code, "mdb_cursor_get")
        return true
    }

    /// Moves to the first entry; false when the table is empty.
    public mutating func first() throws(LMDBError) -> Bool { try move(MDB_FIRST) }
    /// Moves to the last entry; false when the table is empty.
    public mutating func last() throws(LMDBError) -> Bool { try move(MDB_LAST) }
    /// Moves on; false at the end.
    public mutating func next() throws(LMDBError) -> Bool { try move(MDB_NEXT) }
    /// Moves back; false at the start.
    public mutating func previous() throws(LMDBError) -> Bool { try move(MDB_PREV) }

    /// Moves to the first entry whose key is `key` or later; false when there is none. O(log n).
    public mutating func seek(atLeast key: [UInt8]) throws(LMDBError) -> Bool {
        let code = key.withUnsafeBytes { bytes in
            currentKey = MDB_val(
                mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return mdb_cursor_get(handle, &currentKey, &currentValue, MDB_SET_RANGE)
        }
        if code == MDB_NOTFOUND { return false }
        try check(code, "mdb_cursor_get")
        return true
    }
}
