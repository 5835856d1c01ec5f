import CKernels

/// What the handles that callers hold stand for.
///
/// A handle is a number and no address: one that was closed, or made up, is not found here, where an address would be looked behind.
enum Handles {
    /// The objects by their handles, and the number of the next.
    nonisolated(unsafe) private static var objects: [UInt: AnyObject] = [:]
    nonisolated(unsafe) private static var next: UInt = 0x10000

    static func add(_ object: AnyObject) -> OpaquePointer {
        SharedLock.with {
            defer { next += 16 }
            objects[next] = object
            return OpaquePointer(bitPattern: next)!
        }
    }

    /// - Throws: `.badHandle`.
    static func find<Object: AnyObject>(_ handle: OpaquePointer?, _ what: String, as type: Object.Type = Object.self) throws(CallError) -> Object {
        guard let handle else { throw CallError(.badHandle, "no \(what): the handle is NULL") }
        guard let object = SharedLock.with({ objects[UInt(bitPattern: handle)] }) as? Object else {
            throw CallError(.badHandle, "no \(what): the handle was closed, or is none")
        }
        return object
    }

    /// Forgets a handle; its object goes when the last call that uses it ends.
    static func remove<Object: AnyObject>(_ handle: OpaquePointer?, _ what: String, as type: Object.Type) throws(CallError) {
        guard handle != nil else { return }
        let key = UInt(bitPattern: handle)
        // Looked at and taken out at once: of two threads that close a handle one is told so. The object goes outside of the lock.
        let object = SharedLock.with { () -> Object? in
            guard let object = objects[key] as? Object else { return nil }
            objects[key] = nil
            return object
        }
        guard object != nil else { throw CallError(.badHandle, "no \(what): the handle was closed, or is none") }
    }
}

/// One lock for all that threads share here. It is free in a child of `fork`, whatever the parent's other threads were doing.
enum SharedLock {
    static func with<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        ck_shared_lock(ck_lock_handles)
        defer { ck_shared_unlock(ck_lock_handles) }
        return try body()
    }
}
