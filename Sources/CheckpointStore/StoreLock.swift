internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The lock that one writer of the store holds from its first commit to its last.
///
/// It belongs to an open file, so it ends with its process however that ends, and two stores opened in one
/// process exclude each other too. A child of `fork` does not have it. Beside it stands who holds it, for people; only the
/// lock itself counts.
final class StoreLock {
    private let file: OpenFile

    /// Waits up to `timeout` seconds for the lock in the store directory `store`.
    ///
    /// - Throws: `.locked` naming the process that holds it.
    init(store: String, timeout: Double, isCancelled: () -> Bool = { false }) throws {
        file = try OpenFile(locking: store + "/lock")
        // Longer than anybody waits, and short of what 64 bits of nanoseconds can be.
        let deadline = FileSystem.now() + Int64(min(timeout, 1e9) * 1e9)
        while true {
            let code = ck_lock_file(file.descriptor)
            if code == 0 { break }
            guard code == EAGAIN else { throw FileSystem.failure("lock", file.path, code) }
            if isCancelled() { throw StoreError(.interrupted, "stopped while waiting for \(holder())") }
            guard FileSystem.now() < deadline else {
                throw StoreError(
                    .locked, "\(store): locked by \(holder())",
                    hint: "wait for it, or raise --lock-timeout")
            }
            usleep(20_000)
        }
        try writeHolder()
    }

    deinit { ck_unlock_file(file.descriptor) }

    private func writeHolder() throws {
        let command = CommandLine.arguments.prefix(2).map(FileSystem.name).joined(separator: " ")
        var host = [CChar](repeating: 0, count: 256)
        gethostname(&host, host.count - 1)
        let hostName = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let text = "pid \(getpid()) on \(hostName) (\(command))\n"
        try file.resize(to: 0)
        // Full disks and quotas must not stop a writer that is there to free space.
        try? Array(text.utf8).withUnsafeBytes { try file.write($0, at: 0) }
    }

    private func holder() -> String {
        guard let bytes = try? FileSystem.contents(file.path, limit: 4096), !bytes.isEmpty else {
            return "another process"
        }
        return String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self)
    }
}
