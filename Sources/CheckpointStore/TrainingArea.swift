internal import CKernels

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// What a training that writes a run keeps in the store beside its snapshots, to go on after a stop: the directory
/// `training/RUN` of the store. One process has it at a time.
///
/// Nothing in it is needed to read the store: it may be deleted, and its run can then no longer be gone on with.
public final class TrainingArea: Sendable {
    /// The directory.
    public let path: String
    private let lock: OpenFile

    /// Takes the area of `run`, made when it is missing.
    ///
    /// - Throws: `.badInput` for a name no run can have, `.locked` when another process has it.
    public init(_ store: Store, run: String) throws(StoreError) {
        let path = "\(store.path)/training/\(run)"
        self.path = path
        try TrainingArea.check(run: run)
        lock = try throwingStoreErrors {
            while true {
                try FileSystem.makeDirectories(path)
                let lock = try OpenFile(locking: path + "/lock")
                let code = ck_lock_file(lock.descriptor)
                guard code != EAGAIN else {
                    throw StoreError(.locked, "run \(run) is being trained by another process", hint: "wait for it, or another --run")
                }
                guard code == 0 else { throw FileSystem.failure("lock", lock.path, code) }
                var isKept = false
                defer { if !isKept { ck_unlock_file(lock.descriptor) } }
                // Another process may have removed the area meanwhile: a lock on what is gone keeps nobody out.
                isKept = try lock.status().inode == FileSystem.status(lock.path)?.inode
                if isKept { return lock }
            }
        }
    }

    deinit { ck_unlock_file(lock.descriptor) }

    /// Refuses names that no run can have.
    public static func check(run: String) throws(StoreError) {
        try throwingStoreErrors {
            try Name.check(run, "run")
            guard run != ".", run != ".." else { throw StoreError(.badInput, "run name \"\(run)\"", hint: "another name") }
        }
    }

    /// Whether training of `run` has left something to go on from.
    public static func exists(_ store: Store, run: String) -> Bool {
        FileSystem.status(statePath(store, run: run)) != nil
    }

    /// The runs that have an area.
    package static func runs(_ store: Store) -> [String] { (try? FileSystem.list("\(store.path)/training")) ?? [] }

    package static func statePath(_ store: Store, run: String) -> String { "\(store.path)/training/\(run)/\(stateName)" }

    /// The name of the file with the state to go on from.
    static let stateName = "state"

    /// The file with the state to go on from.
    public var statePath: String { path + "/" + TrainingArea.stateName }
    /// One line of JSON for each step.
    public var logPath: String { path + "/log.jsonl" }

    /// An empty directory for a checkpoint before it is taken in.
    public func makeStaging() throws(StoreError) -> String {
        let staging = path + "/staging"
        try throwingStoreErrors {
            try FileSystem.removeTree(staging)
            try FileSystem.makeDirectory(staging)
        }
        return staging
    }

    /// Removes the directory that `makeStaging` made.
    public func removeStaging() throws(StoreError) {
        try throwingStoreErrors { try FileSystem.removeTree(path + "/staging") }
    }

    /// Removes all of it.
    public func remove() throws(StoreError) {
        try throwingStoreErrors { try FileSystem.removeTree(path) }
    }

    /// Removes the area of a run that has no snapshots any more, unless a process is training it.
    static func remove(_ store: Store, run: String) throws(StoreError) {
        guard FileSystem.status("\(store.path)/training/\(run)") != nil, let area = try? TrainingArea(store, run: run) else { return }
        try area.remove()
    }
}
