internal import Dispatch
internal import LMDB

/// What a compaction has done.
public struct CompactResult: Sendable {
    /// Bytes of the data file before and after.
    public var beforeBytes: UInt64
    /// Bytes of the data file after.
    public var afterBytes: UInt64
    /// The number of the generation that holds the store now.
    public var generation: Int
    /// The old generation is still open somewhere: its space returns with the next writer after that.
    public var isOldInUse: Bool
}

extension Store {
    /// Writes the store's data file anew, without the pages that removed snapshots have left.
    ///
    /// Holds the store lock, and keeps tags and other short writes waiting, until the new file is checked and in place.
    /// Readers go on in the old one. Killed or failed at any moment, the store is as it was.
    ///
    /// - Throws: `.damaged` naming what is damaged, `.diskFull`, `.locked`, `.interrupted`.
    /// - Complexity: O(bytes kept), and as much space on the disk meanwhile; memory: 12 bytes for each block, 28 for each tensor.
    @discardableResult
    public func compact(
        monitor: Monitor = Monitor(), progress: @escaping (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> CompactResult {
        try throwingStoreErrors {
            try withLock(isCancelled: monitor.isCancelled) {
                var result = try Compaction(store: self, monitor: monitor, progress: progress).perform()
                // This store lets go of the old generation too.
                _ = try currentGeneration()
                result.isOldInUse = try !removeOldGenerations()
                return result
            }
        }
    }

    /// Removes generations that `current` does not name and nobody has open: old ones, and what a killed compaction
    /// has left. Under the store lock only. Returns whether none is left.
    @discardableResult
    func removeOldGenerations() throws -> Bool {
        let current = "gen-\(try Generation.current(path))"
        let removed = ".gone"
        var isAllRemoved = true
        for name in try FileSystem.list(path) where name.hasPrefix("gen-") && name != current {
            let directory = path + "/" + name
            if name.hasSuffix(removed) {
                try FileSystem.removeTree(directory)
            } else if Environment.isOpen(path: directory) {
                isAllRemoved = false
            } else {
                // Renamed first: who is about to open it finds all of it or nothing.
                try FileSystem.rename(directory, to: directory + removed)
                try FileSystem.removeTree(directory + removed)
            }
        }
        return isAllRemoved
    }
}

/// One compaction, under the store lock.
private struct Compaction {
    let store: Store
    let monitor: Monitor
    let progress: (ByteProgress) -> Void

    func perform() throws -> CompactResult {
        let old = try store.currentGeneration()
        // Held to the end: whoever waits to write then finds that `current` has changed, and goes to the new generation.
        let transaction = try old.environment.beginWrite()
        let superblock = try Superblock.read(transaction, old.tables)
        try superblock.checkWritable()
        guard superblock.features == old.tables.features else {
            // Another process has made tables since this one opened the store.
            transaction.abort()
            _ = try store.learnTables(old)
            return try perform()
        }
        let bytes = try walk(old.number)
        let number = old.number + 1
        do {
            try makeCopy(of: old, as: number, bytes)
            try check(number, bytes, against: transaction, old.tables)
            try FileSystem.replaceFile(store.path + "/current", with: "gen-\(number)\n")
        } catch {
            // When all has come to pass but the last fsync, the copy is the store.
            if (try? Generation.current(store.path)) == old.number {
                try? FileSystem.removeTree(Generation.path(store.path, number))
            }
            throw error
        }
        transaction.abort()
        return CompactResult(
            beforeBytes: dataBytes(old.number), afterBytes: dataBytes(number), generation: number, isOldInUse: false)
    }

    private func dataBytes(_ number: Int) -> UInt64 {
        FileSystem.status(Generation.path(store.path, number) + "/data.mdb")?.size ?? 0
    }

    /// Checks the pages of a generation, which LMDB would trust. Returns the bytes of those in use.
    private func walk(_ number: Int) throws -> UInt64 {
        var report = VerifyReport()
        _ = try Store.walkPages(store.path, number, &report)
        try refuse(report.problems)
        return report.pages * UInt64(report.pageSize)
    }

    private func refuse(_ problems: [StoreProblem]) throws {
        guard let problem = problems.first else { return }
        throw StoreError(
            .damaged, "\(store.path): damaged, and so not compacted: \(problem)", hint: "ckpt verify lists all there is")
    }

    private func makeCopy(of old: Generation, as number: Int, _ bytes: UInt64) throws {
        let path = Generation.path(store.path, number)
        try FileSystem.makeDirectory(path)
        try copy(old.environment, to: OpenFile(creating: path + "/data.mdb"), bytes)
        // Opened and closed, for its lock file.
        _ = try Environment.open(path: path)
        try Generation.reserveLockFile(path + "/lock.mdb")
        try FileSystem.syncDirectory(path)
        try FileSystem.syncDirectory(store.path)
    }

    /// LMDB writes on a thread of its own, so that this one can tell how far it is and stop it.
    private func copy(_ environment: Environment, to file: OpenFile, _ bytes: UInt64) throws {
        let failure = Locked<LMDBError?>(nil)
        let ended = DispatchSemaphore(value: 0)
        let copying = OwnThread {
            do throws(LMDBError) {
                try environment.copyCompacted(to: file.descriptor)
            } catch {
                failure.withLock { $0 = error }
            }
            ended.signal()
        }
        guard let copying else { throw StoreError(.failed, "\(file.path): no thread to write it") }
        defer { copying.join() }
        var isStopped = false
        repeat {
            if monitor.isCancelled(), !isStopped {
                isStopped = true
                try? file.refuseWrites()
            }
            if !isStopped, let written = try? file.status().size { tell(min(written, bytes), of: bytes) }
        } while ended.wait(timeout: .now() + .milliseconds(50)) == .timedOut
        try monitor.checkCancelled()
        if let failure = failure.withLock({ $0 }) {
            guard failure.isDiskFull else { throw failure }
            throw StoreError(
                .diskFull, "\(file.path): No space left on device", hint: "what is kept takes \(bytes) bytes once more meanwhile")
        }
        try file.sync()
    }

    /// Each byte is written, then checked.
    private func tell(_ done: UInt64, of bytes: UInt64) {
        progress(ByteProgress(doneBytes: done, totalBytes: 2 * bytes))
    }

    /// Checks the copy as `verify --quick` does, and that it holds as many records as the original.
    private func check(
        _ number: Int, _ bytes: UInt64, against transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws {
        _ = try walk(number)
        let generation = try Generation.open(store.path, number)
        var report = VerifyReport()
        let verifier = Verifier(store: store, generation: generation, depth: .quick, monitor: monitor) { part in
            tell(bytes + min(part.doneBytes, bytes), of: bytes)
        }
        try verifier.run(&report)
        try refuse(report.problems)
        let copy = try generation.environment.beginRead()
        for kind in Kind.allCases {
            guard let table = tables.find(kind) else { continue }
            let (copied, expected) = (try copy.count(generation.tables[kind]), try transaction.count(table))
            guard copied == expected else {
                throw StoreError(.failed, "\(store.path): the copy holds \(copied) of \(expected) \(kind) records; not compacted")
            }
        }
    }
}
