internal import CLMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A failed LMDB call, with the code LMDB or the system returned.
public struct LMDBError: Error, Sendable, Equatable, CustomStringConvertible {
    /// LMDB's own codes are negative (`MDB_MAP_FULL`, ...), those of the system positive (`ENOSPC`, ...).
    public var code: Int32
    /// What was being done, as the C function's name, or the check of ours that failed.
    public var operation: String
    /// Set where there is more to say than the code's own text.
    public var reason: String?

    public init(code: Int32, operation: String, reason: String? = nil) {
        self.code = code
        self.operation = operation
        self.reason = reason
    }

    public var description: String {
        let text = reason ?? String(cString: mdb_strerror(code))
        return "\(operation): \(text)"
    }

    /// The file system has no room left (`ENOSPC`, `EDQUOT`).
    public var isDiskFull: Bool { code == ENOSPC || code == EDQUOT }
    /// The file's pages contradict each other: `MDB_CORRUPTED`, `MDB_PAGE_NOTFOUND`, `MDB_INVALID`,
    /// or a file shorter than its own header says.
    public var isDamage: Bool {
        code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND || code == MDB_INVALID
    }

    /// A data file that its header contradicts.
    static func damaged(_ operation: String, _ reason: String) -> LMDBError {
        LMDBError(code: MDB_CORRUPTED, operation: operation, reason: reason)
    }

    static func system(_ operation: String, _ code: Int32 = errno) -> LMDBError {
        LMDBError(code: code, operation: operation)
    }
}

/// Throws unless `code` is `MDB_SUCCESS`.
@inline(__always)
func check(_ code: Int32, _ operation: StaticString) throws(LMDBError) {
    guard code == 0 else { throw LMDBError(code: code, operation: "\(operation)") }
}
