#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The bytes of a regular file, read by position with `pread`.
///
/// Reads copy: an I/O error is thrown as `.io`, where a mapping would raise a signal. The size is that at
/// opening time; a file that shrinks later gives `.truncated`. Reads do not move a file position, so threads
/// may share one instance.
public final class FileBytes: ByteSource, Sendable {
    public let count: UInt64
    public let path: String
    private let descriptor: CInt
    private let closes: Bool

    /// Opens `path` for reading; closed when the last reference goes.
    ///
    /// - Throws: `.io` when the file cannot be opened, `.unsupported` when it is not a regular file.
    public init(path: String) throws(FormatError) {
        // Without O_NONBLOCK, opening a FIFO waits for a writer that may never come.
        let descriptor = retryingInterrupts { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else { throw FileBytes.failure("cannot be opened", path: path) }
        do {
            count = try FileBytes.size(of: descriptor, path: path)
        } catch {
            close(descriptor)
            throw error
        }
        self.path = path
        self.descriptor = descriptor
        closes = true
    }

    /// Reads from a descriptor that the caller owns and keeps open for the life of this object.
    ///
    /// - Parameter path: the file, as errors name it.
    /// - Throws: `.io` when the descriptor is not valid, `.unsupported` when it is not a regular file.
    public init(descriptor: CInt, path: String) throws(FormatError) {
        count = try FileBytes.size(of: descriptor, path: path)
        self.path = path
        self.descriptor = descriptor
        closes = false
    }

    deinit {
        if closes { close(descriptor) }
    }

    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FormatError) {
        try checkRange(at: offset, count: buffer.count)
        var done = 0
        while done < buffer.count {
            // Linux moves at most 2^31 - 4096 bytes a call, and Darwin refuses more than 2^31 - 1.
            let wanted = min(buffer.count - done, 1 << 30)
            let start = buffer.baseAddress! + done
            let place = off_t(offset) + off_t(done)
            let moved = retryingInterrupts { pread(descriptor, start, wanted, place) }
            guard moved >= 0 else {
                throw FileBytes.failure("cannot be read", path: path, byte: offset + UInt64(done))
            }
            guard moved > 0 else {
                throw FormatError(
                    .truncated, path: path, byte: offset + UInt64(done), "the file became shorter while it was read")
            }
            done += moved
        }
    }

    private static func size(of descriptor: CInt, path: String) throws(FormatError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("cannot be examined", path: path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw FormatError(.unsupported, path: path, "not a regular file")
        }
        return UInt64(status.st_size)
    }

    /// Must come straight after the failed call, while `errno` is still its own.
    private static func failure(_ what: String, path: String, byte: UInt64? = nil) -> FormatError {
        let reason = String(cString: strerror(errno))
        return FormatError(.io, path: path, byte: byte, "\(what): \(reason)")
    }
}

private func retryingInterrupts<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}
