import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// An open store, and the process it was opened in.
final class StoreHandle: @unchecked Sendable {
    private let path: String
    private let lockTimeout: Double
    /// Under the shared lock.
    private var opened: (store: Store, process: pid_t)

    init(_ path: String, lockTimeout: Double) throws(StoreError) {
        let store = try Store.open(path, lockTimeout: lockTimeout)
        // Absolute: the working directory may be another by the time a child opens it again.
        self.path = store.path
        self.lockTimeout = lockTimeout
        opened = (store, getpid())
    }

    /// The store as it is open in this process. In a child of `fork` it is opened again: what the parent opened is the parent's.
    var store: Store {
        get throws(StoreError) {
            let known = SharedLock.with { opened }
            if known.process == getpid() { return known.store }
            let store = try Store.open(path, lockTimeout: lockTimeout)
            return SharedLock.with {
                if opened.process != getpid() { opened = (store, getpid()) }
                return opened.store
            }
        }
    }

    static func find(_ handle: OpaquePointer?) throws -> Store { try (Handles.find(handle, "store") as StoreHandle).store }
}
