internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// What identifies the bytes of a file without reading them.
struct FileStatus: Equatable, Sendable {
    var size: UInt64
    var modified: Int64
    var changed: Int64
    var inode: UInt64
    var isDirectory: Bool
    var isRegular: Bool

    /// Of what is in memory.
    init(inMemory size: UInt64) {
        (self.size, modified, changed, inode, isDirectory, isRegular) = (size, 0, 0, 0, false, true)
    }

    fileprivate init(_ status: stat) {
        size = UInt64(max(0, status.st_size))
        #if os(Linux)
        modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        changed = Int64(status.st_ctim.tv_sec) * 1_000_000_000 + Int64(status.st_ctim.tv_nsec)
        #else
        modified = Int64(status.st_mtimespec.tv_sec) * 1_000_000_000 + Int64(status.st_mtimespec.tv_nsec)
        changed = Int64(status.st_ctimespec.tv_sec) * 1_000_000_000 + Int64(status.st_ctimespec.tv_nsec)
        #endif
        inode = UInt64(truncatingIfNeeded: status.st_ino)
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
        isRegular = status.st_mode & S_IFMT == S_IFREG
    }
}

/// An open file, closed when the last reference goes.
final class OpenFile: Sendable {
    let descriptor: Int32
    let path: String

    /// Opens an existing file for reading.
    init(reading path: String) throws {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        self.path = path
        guard descriptor >= 0 else { throw FileSystem.failure("open", path) }
    }

    /// Makes a new file; fails when there is one of that name.
    init(creating path: String) throws {
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        self.path = path
        guard descriptor >= 0 else { throw FileSystem.failure("create", path) }
    }

    /// Opens an existing file for reading and writing.
    init(changing path: String) throws {
        descriptor = open(path, O_RDWR | O_CLOEXEC)
        self.path = path
        guard descriptor >= 0 else { throw FileSystem.failure("open", path) }
    }

    /// Opens a file for locking, made when it is missing.
    init(locking path: String) throws {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        self.path = path
        guard descriptor >= 0 else { throw FileSystem.failure("open", path) }
    }

    /// Makes a file that has no name and is gone when it is closed.
    ///
    /// `O_TMPFILE` where the file system has it; else a name that is taken away at once.
    init(unnamedIn directory: String) throws {
        path = directory + "/(unnamed)"
        #if os(Linux)
        // Glibc's constant holds a cast, which Swift cannot import: its own bit and O_DIRECTORY.
        let unnamed = open(directory, O_RDWR | 0o20000000 | O_DIRECTORY | O_CLOEXEC, 0o600)
        if unnamed >= 0 {
            descriptor = unnamed
            return
        }
        guard errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL else {
            throw FileSystem.failure("create a file in", directory)
        }
        #endif
        var template = Array((directory + "/.unnamed-XXXXXX").utf8CString)
        descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw FileSystem.failure("create a file in", directory) }
        unlink(template)
    }

    deinit { close(descriptor) }

    /// The corresponding C function is `fchmod`.
    func makeReadOnly() throws {
        guard fchmod(descriptor, 0o444) == 0 else { throw FileSystem.failure("change the mode of", path) }
    }

    func status() throws -> FileStatus {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileSystem.failure("stat", path) }
        return FileStatus(status)
    }

    /// Fills `buffer` from `offset`. The corresponding C function is `pread`.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileSystem.failure("read", path) }
            guard count > 0 else {
                throw StoreError(
                    .incomplete, "\(path): byte \(offset + UInt64(done)): the file ends here; it was cut while being read",
                    hint: "ingest it again when its writer has finished")
            }
            done += count
        }
    }

    /// Fills `buffer` with the bytes of `ranges`, end to end; together they are as long.
    func read(_ ranges: [Range<UInt64>], into buffer: UnsafeMutableRawBufferPointer) throws {
        var filled = 0
        for range in ranges {
            try read(at: range.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<(filled + range.count)]))
            filled += range.count
        }
    }

    /// What comes until the end. The corresponding C function is `read`.
    func readToEnd(limit: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = chunk.withUnsafeMutableBytes(readSome)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileSystem.failure("read", path) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            guard bytes.count <= limit else { throw StoreError(.badInput, "\(path): over \(limit) bytes") }
        }
    }

    private func readSome(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        #if canImport(Glibc)
        Glibc.read(descriptor, buffer.baseAddress!, buffer.count)
        #elseif canImport(Musl)
        Musl.read(descriptor, buffer.baseAddress!, buffer.count)
        #else
        Darwin.read(descriptor, buffer.baseAddress!, buffer.count)
        #endif
    }

    /// Writes all of `buffer` at `offset`. The corresponding C function is `pwrite`.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = pwrite(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileSystem.failure("write", path) }
            done += count
        }
    }

    /// Makes every further write to the descriptor fail, whoever has it: the way to stop a library that writes to it.
    func refuseWrites() throws {
        let unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard unwritable >= 0 else { throw FileSystem.failure("open", "/dev/null") }
        defer { close(unwritable) }
        guard dup2(unwritable, descriptor) >= 0 else { throw FileSystem.failure("stop", path) }
    }

    func resize(to size: UInt64) throws {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw FileSystem.failure("resize", path) }
    }

    func sync() throws {
        let code = ck_sync_file(descriptor)
        guard code == 0 else { throw FileSystem.failure("fsync", path, code) }
    }
}

/// The calls the store makes on paths, each throwing a `StoreError` that names the path.
enum FileSystem {
    static func failure(_ operation: String, _ path: String, _ code: Int32 = errno) -> StoreError {
        let full = code == ENOSPC || code == EDQUOT
        return StoreError(full ? .diskFull : .failed, "\(path): \(operation): \(String(cString: strerror(code)))")
    }

    /// The status of what `path` names, links followed; nil when there is nothing.
    static func status(_ path: String) -> FileStatus? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return FileStatus(status)
    }

    /// Whether `path` itself is a symbolic link, wherever it leads.
    static func isLink(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
    }

    static func makeDirectory(_ path: String) throws {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw failure("make directory", path) }
    }

    /// Makes `path` and the directories above it.
    static func makeDirectories(_ path: String) throws {
        if let status = status(path), status.isDirectory { return }
        if let parent = parent(path), parent != path { try makeDirectories(parent) }
        try makeDirectory(path)
    }

    /// The names in a directory, in byte order, without `.` and `..`.
    static func list(_ path: String) throws -> [String] {
        guard let directory = opendir(path) else { throw failure("list", path) }
        defer { closedir(directory) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(directory) {
            let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            guard let name = String(validating: bytes, as: UTF8.self) else {
                throw StoreError(
                    .badInput, "\(path)/\(String(decoding: bytes, as: UTF8.self)): the name is not UTF-8",
                    hint: "rename the file")
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    static func rename(_ from: String, to target: String) throws {
        #if canImport(Glibc)
        let code = Glibc.rename(from, target)
        #elseif canImport(Musl)
        let code = Musl.rename(from, target)
        #else
        let code = Darwin.rename(from, target)
        #endif
        guard code == 0 else { throw failure("rename to \(target)", from) }
    }

    /// Removes a file; one that is not there is no error.
    /// Another name for a file; false when there is none. The corresponding C function is `link`.
    static func link(_ path: String, as other: String) -> Bool {
        #if canImport(Glibc)
        Glibc.link(path, other) == 0
        #elseif canImport(Musl)
        Musl.link(path, other) == 0
        #else
        Darwin.link(path, other) == 0
        #endif
    }

    static func removeFile(_ path: String) throws {
        guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
    }

    /// Removes a directory and all in it, links themselves, not what they lead to.
    static func removeTree(_ path: String) throws {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFDIR else { return try removeFile(path) }
        for name in try list(path) { try removeTree(path + "/" + name) }
        guard rmdir(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
    }

    /// Makes the names in a directory durable.
    static func syncDirectory(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        let code = ck_sync_file(descriptor)
        guard code == 0 || code == EINVAL else { throw failure("fsync", path, code) }
    }

    /// Writes a small file under a temporary name, syncs it and renames it into place.
    static func replaceFile(_ path: String, with text: String) throws {
        let temporary = "\(path).\(getpid()).tmp"
        try removeFile(temporary)
        let file = try OpenFile(creating: temporary)
        try Array(text.utf8).withUnsafeBytes { try file.write($0, at: 0) }
        try file.sync()
        try rename(temporary, to: path)
        try syncDirectory(parent(path) ?? ".")
    }

    /// The contents of a small file, or nil when it is missing.
    static func contents(_ path: String, limit: Int = 64 << 20) throws -> [UInt8]? {
        guard let status = status(path), status.isRegular else { return nil }
        guard status.size <= UInt64(limit) else {
            throw StoreError(.badInput, "\(path): \(status.size) bytes where \(limit) are the most expected")
        }
        let file = try OpenFile(reading: path)
        var bytes = [UInt8](repeating: 0, count: Int(status.size))
        try bytes.withUnsafeMutableBytes { try file.read(at: 0, into: $0) }
        return bytes
    }

    /// All bytes of a file or a pipe, read to its end.
    ///
    /// - Throws: `.badInput` when there is none, it is a directory, or has more than `limit` bytes.
    static func streamed(_ path: String, limit: Int) throws -> [UInt8] {
        guard let status = status(path) else { throw StoreError(.badInput, "\(path): no such file") }
        guard !status.isDirectory else { throw StoreError(.badInput, "\(path): a directory, not a file") }
        if status.isRegular { return try contents(path, limit: limit) ?? [] }
        return try OpenFile(reading: path).readToEnd(limit: limit)
    }

    /// The absolute path with links resolved, or nil when nothing is there.
    static func absolute(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The part before the last slash; nil for a plain name.
    static func parent(_ path: String) -> String? {
        var path = path[...]
        while path.count > 1, path.last == "/" { path.removeLast() }
        guard let slash = path.lastIndex(of: "/") else { return nil }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The part behind the last slash.
    static func name(_ path: String) -> String {
        var path = path[...]
        while path.count > 1, path.last == "/" { path.removeLast() }
        guard let slash = path.lastIndex(of: "/") else { return String(path) }
        return String(path[path.index(after: slash)...])
    }

    /// Nanoseconds since 1970.
    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
