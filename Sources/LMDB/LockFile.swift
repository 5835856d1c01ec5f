#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// LMDB's `lock.mdb`, as seen from outside: every process that has the environment open holds a shared POSIX lock on
/// its first byte.
enum LockFile {
    /// Whether another process has the environment of the lock file at `path` open.
    ///
    /// Never while this process has it open: closing the file, as this does, would drop the process's own lock.
    static func isHeldElsewhere(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return errno != ENOENT }
        defer { close(descriptor) }
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        lock.l_whence = Int16(SEEK_SET)
        lock.l_start = 0
        lock.l_len = 1
        return fcntl(descriptor, F_GETLK, &lock) != 0 || lock.l_type != Int16(F_UNLCK)
    }
}
