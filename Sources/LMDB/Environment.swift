internal import CKernels
internal import CLMDB
internal import Dispatch

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// One LMDB environment: a directory with `data.mdb` and `lock.mdb`.
///
/// What binds users of LMDB 0.9 and is enforced here:
/// - a process opens a data file once: `open` returns the same object for the same (device, inode);
/// - network and user-space file systems are refused (`FileSystemCheck`);
/// - a data file shorter than its own header says is refused before it is mapped (a read past its end
///   would be SIGBUS);
/// - after `fork` the child's calls throw; `open` in the child returns an environment of its own.
///
/// What cannot be enforced: never rename or copy another file over an open `data.mdb`; never open a store
/// from an untrusted party without `PageWalk` first, since LMDB trusts its pages; a read transaction
/// held for long keeps freed pages from reuse, so the file grows.
///
/// Values under 2 KiB are not aligned inside their pages; larger ones start 16 bytes into a page.
public final class Environment: Sendable {
    /// Identity of a data file, whatever it is called.
    private struct FileKey: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private struct WeakEnvironment {
        weak var value: Environment?
        /// The process that opened it.
        let processID: pid_t
    }

    private static let registry = Registry()

    /// The environments that are open. Its lock is one that a child of `fork` finds free: the parent's other threads may be opening some.
    private final class Registry: @unchecked Sendable {
        private var known: [FileKey: WeakEnvironment] = [:]

        func withLock<R>(_ body: (inout [FileKey: WeakEnvironment]) -> R) -> R {
            ck_shared_lock(ck_lock_environments)
            defer { ck_shared_unlock(ck_lock_environments) }
            return body(&known)
        }
    }

    /// Address space reserved for the map. Only pages of the file take memory.
    public static let mapSize = 1 << 40
    /// Concurrent read transactions over all processes.
    public static let maximumReaders: UInt32 = 1024

    public let path: String
    private let tableGate = DispatchSemaphore(value: 1)
    nonisolated(unsafe) let handle: OpaquePointer
    private let key: FileKey
    private let processID: pid_t

    private init(path: String, handle: OpaquePointer, key: FileKey) {
        self.path = path
        self.handle = handle
        self.key = key
        self.processID = getpid()
    }

    deinit {
        // A child of fork must not close its parent's environment: the lock file's slots are the parent's.
        guard isOfThisProcess else { return }
        Environment.registry.withLock { known in
            // `open` waits for this before it opens the file anew.
            known[key] = nil
            mdb_env_close(handle)
        }
    }

    /// Opens the environment in the directory `path`, making its files when they are missing.
    ///
    /// - Parameter maximumTables: named tables it may hold.
    /// - Throws: `LMDBError` with the code of `mdb_env_open`, or `MDB_CORRUPTED` for a file cut short.
    public static func open(path: String, maximumTables: UInt32 = 32) throws(LMDBError) -> Environment {
        if let name = FileSystemCheck.unfitFileSystem(at: path) {
            throw LMDBError(
                code: ENOTSUP, operation: "open",
                reason: "\(path) lies on \(name), where LMDB can lose data; use a local file system")
        }
        let dataPath = path + "/data.mdb"
        try DataFileHeader.checkLength(of: dataPath)
        while true {
            if let result = openOnce(path: path, dataPath, maximumTables) { return try result.get() }
            sched_yield()
        }
    }

    /// Nil while the last reference to an open environment of the same file is going: closing it would take the
    /// locks and reader slots of a second handle with it.
    private static func openOnce(
        path: String, _ dataPath: String, _ maximumTables: UInt32
    ) -> Result<Environment, LMDBError>? {
        registry.withLock { known -> Result<Environment, LMDBError>? in
            if let key = fileKey(dataPath), let entry = known[key], entry.processID == getpid() {
                return entry.value.map { .success($0) }
            }
            do throws(LMDBError) {
                let handle = try openHandle(path: path, maximumTables: maximumTables)
                guard let key = fileKey(dataPath) else {
                    let error = LMDBError.system("stat")
                    mdb_env_close(handle)
                    throw error
                }
                let environment = Environment(path: path, handle: handle, key: key)
                known[key] = WeakEnvironment(value: environment, processID: environment.processID)
                return .success(environment)
            } catch {
                return .failure(error)
            }
        }
    }

    private static func openHandle(path: String, maximumTables: UInt32) throws(LMDBError) -> OpaquePointer {
        var handle: OpaquePointer?
        try check(mdb_env_create(&handle), "mdb_env_create")
        guard let handle else { throw LMDBError(code: ENOMEM, operation: "mdb_env_create") }
        do throws(LMDBError) {
            try check(mdb_env_set_mapsize(handle, mapSize), "mdb_env_set_mapsize")
            try check(mdb_env_set_maxdbs(handle, maximumTables), "mdb_env_set_maxdbs")
            try check(mdb_env_set_maxreaders(handle, maximumReaders), "mdb_env_set_maxreaders")
            // NOTLS: read transactions belong to their object, not to a thread. NORDAHEAD: of a value that is scattered over
            // the file the kernel would read megabytes around it; large values are asked for whole, by `prefetch`.
            try check(mdb_env_open(handle, path, UInt32(MDB_NOTLS | MDB_NORDAHEAD), 0o644), "mdb_env_open")
            var dead: Int32 = 0
            try check(mdb_reader_check(handle, &dead), "mdb_reader_check")
        } catch {
            mdb_env_close(handle)
            throw error
        }
        return handle
    }

    private static func fileKey(_ path: String) -> FileKey? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return FileKey(
            device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(truncatingIfNeeded: status.st_ino))
    }

    /// Whether the environment in the directory `path` is open, in this process or another.
    public static func isOpen(path: String) -> Bool {
        // Under the registry's lock: nothing in this process opens it while its lock file is looked at.
        registry.withLock { known in
            if let key = fileKey(path + "/data.mdb"), let entry = known[key], entry.processID == getpid() { return true }
            return LockFile.isHeldElsewhere(path + "/lock.mdb")
        }
    }

    /// False in a child of `fork`.
    var isOfThisProcess: Bool { getpid() == processID }

    /// Throws in a child of `fork`, where LMDB's locks and reader slots are the parent's.
    func checkProcess() throws(LMDBError) {
        guard isOfThisProcess else {
            throw LMDBError(
                code: EINVAL, operation: "transaction", reason: "opened before fork; open the store again in the child")
        }
    }

    /// Called by whoever is to open or make tables, and `unlockTables` when that transaction has ended: LMDB lets one
    /// transaction of a process at a time do so. A writer calls it once its transaction has begun, so that nobody waits here
    /// for another process.
    public func lockTables() { tableGate.wait() }
    public func unlockTables() { tableGate.signal() }

    /// Forces what was committed to the disk. The corresponding C function is `mdb_env_sync`.
    public func sync() throws(LMDBError) {
        try check(mdb_env_sync(handle, 1), "mdb_env_sync")
    }

    /// Writes the last commit to the file open as `descriptor`, without free pages. Not synced.
    ///
    /// Reads in a transaction of its own, so a write transaction may be open meanwhile and keep all others out. The
    /// corresponding C function is `mdb_env_copyfd2` with `MDB_CP_COMPACT`.
    public func copyCompacted(to descriptor: Int32) throws(LMDBError) {
        try checkProcess()
        try check(mdb_env_copyfd2(handle, descriptor, UInt32(MDB_CP_COMPACT)), "mdb_env_copyfd2")
    }

    /// Clears the reader slots of dead processes; returns how many there were.
    @discardableResult
    public func clearDeadReaders() throws(LMDBError) -> Int {
        var dead: Int32 = 0
        try check(mdb_reader_check(handle, &dead), "mdb_reader_check")
        return Int(dead)
    }

    /// Bytes of the data file that pages have ever used: everything behind them is left over from a commit
    /// that failed for want of space.
    public var usedBytes: UInt64 {
        var info = MDB_envinfo()
        var status = MDB_stat()
        mdb_env_info(handle, &info)
        mdb_env_stat(handle, &status)
        return (UInt64(info.me_last_pgno) + 1) * UInt64(status.ms_psize)
    }

    /// Cuts the data file behind its last used page, so that a commit that failed on a full disk leaves no
    /// bytes behind. Takes the writer's lock while it does.
    public func trimTail() throws(LMDBError) {
        let transaction = try beginWrite()
        let used = usedBytes
        let descriptor = Int32(dataDescriptor)
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system("fstat") }
        if UInt64(status.st_size) > used {
            guard ftruncate(descriptor, off_t(used)) == 0 else { throw .system("ftruncate") }
        }
        transaction.abort()
    }

    /// Whether the file system has no room left for a commit of any size.
    var isFileSystemFull: Bool {
        var status = statvfs()
        guard fstatvfs(Int32(dataDescriptor), &status) == 0 else { return false }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize) < 1 << 20
    }

    var dataDescriptor: Int32 {
        var descriptor: mdb_filehandle_t = -1
        mdb_env_get_fd(handle, &descriptor)
        return descriptor
    }
}
