internal import LMDB

/// What a prune has done.
public struct PruneResult: Sendable {
    /// The steps that went, in their order.
    public var removed: [HistoryEntry] = []
    /// Snapshots that lost their optimizer state, as `run@step`.
    public var optimizers: [String] = []
    /// Blocks that were deleted, and their packed bytes; those that were re-based away among them.
    public var freedBlocks = 0
    /// Packed bytes of those blocks.
    public var freedBytes: UInt64 = 0
    /// What became of blocks that were in use only as bases.
    public var rebasing = RebasingResult()
    /// Room in the data file that later snapshots fill, and what the file system has got back.
    public var reusableBytes: UInt64 = 0
    /// Bytes that the file system has got back.
    public var returnedBytes: UInt64 = 0
}

/// How far a prune has come.
public struct PruneProgress: Sendable {
    /// Snapshots go first; what stays is packed anew after that.
    public enum Phase: Sendable { case removing, rebasing }
    public var phase: Phase
    /// Packed bytes freed of those expected; raw bytes looked at, when blocks are re-based.
    public var bytes: ByteProgress
}

extension Store {
    /// Steps removed in one commit; one on a full disk.
    private static let pruneGroup = 64

    /// Drops what `plan` drops.
    ///
    /// Snapshots vanish in commits of up to 64 steps; their blocks are then freed slice by slice, on a full disk too. Blocks that stay only
    /// because others are packed against them are re-based where that takes less. Long free runs of the data file go back to the file
    /// system. Stopped anywhere, the store is as before or after a slice; the same policy goes on.
    ///
    /// - Throws: `.conflict` when a snapshot of the plan was removed, pinned or tagged meanwhile, or is the head of its run now; `.interrupted`, `.locked`.
    /// - Complexity: O(blocks that go), and with re-basing O(bytes of the snapshots that follow a gap).
    public func prune(
        _ plan: RetentionPlan, rebases: Bool = true, monitor: Monitor = Monitor(), progress: (PruneProgress) -> Void = { _ in }
    ) throws(StoreError) -> PruneResult {
        try throwingStoreErrors {
            try withLock(isCancelled: monitor.isCancelled) { try pruneLocked(plan, rebases: rebases, monitor: monitor, progress: progress) }
        }
    }

    /// As `prune`, under the store lock.
    func pruneLocked(
        _ plan: RetentionPlan, rebases: Bool, monitor: Monitor, progress: (PruneProgress) -> Void
    ) throws -> PruneResult {
        var result = PruneResult()
        let dropped = plan.dropped.map(\.entry)
        guard !dropped.isEmpty || !plan.optimizers.isEmpty else { return result }
        let history = rebases ? try history() : []
        let depthLimit = try read { transaction, tables in try Superblock.read(transaction, tables).depthLimit }
        var meter = ByteProgress(doneBytes: 0, totalBytes: plan.freedBytes)
        func release() throws {
            try releasePending { freed in
                result.freedBlocks += freed.blocks
                result.freedBytes += freed.packedBytes
                meter.doneBytes += freed.packedBytes
                progress(PruneProgress(phase: .removing, bytes: meter))
            }
            try monitor.checkCancelled()
        }
        var left = dropped[...]
        var group = Store.pruneGroup
        while !left.isEmpty {
            try monitor.checkCancelled()
            let next = Array(left.prefix(group))
            do {
                try removeSteps(next, plan.policy)
            } catch let error as LMDBError where error.isDiskFull && group > 1 {
                group = 1
                continue
            }
            result.removed += next
            left = left.dropFirst(next.count)
            try release()
        }
        for optimizer in plan.optimizers {
            try withRoom {
                try write { transaction, tables in try transaction.dropPart(tables, .optimizer, of: optimizer.id) }
            }
            result.optimizers.append(optimizer.ref)
            try release()
        }
        if rebases {
            let gone = Set(dropped.map { "\($0.run)@\($0.step)" })
            let windows = Rebasing.windows(history, gone: gone, trimmed: Set(plan.optimizers.map(\.id)), depthLimit: depthLimit)
            func rebase() throws {
                try Rebasing(store: self, monitor: monitor).perform(windows, into: &result.rebasing) { bytes in
                    progress(PruneProgress(phase: .rebasing, bytes: bytes))
                }
            }
            do {
                try rebase()
            } catch let error as LMDBError where error.isDiskFull {
                // It makes room in the end, but needs some first: that of what has gone so far.
                let space = try returnSpace()
                result.returnedBytes += space.returnedBytes
                (result.rebasing.hiddenBlocks, result.rebasing.hiddenBytes) = (0, 0)
                do {
                    try rebase()
                } catch let error as LMDBError where error.isDiskFull {
                    // What hangs on hidden blocks stays as it is.
                }
            }
            result.freedBlocks += result.rebasing.freedBlocks
            result.freedBytes += result.rebasing.savedBytes
        }
        try removeStrayImages()
        let space = try returnSpace()
        result.reusableBytes = space.reusableBytes
        result.returnedBytes += space.returnedBytes
        return result
    }

    /// One commit; on a full disk with the ballast given up.
    private func removeSteps(_ entries: [HistoryEntry], _ policy: RetentionPolicy) throws {
        try withRoom {
            try write { transaction, tables in
                if policy.includesTagged {
                    for entry in entries where !entry.tags.isEmpty {
                        // Its tags go with the last of its steps.
                        let steps = entries.count { $0.id == entry.id }
                        guard let uses = try transaction.count(tables, .snapshot, entry.id)?.count, uses <= UInt64(steps) else { continue }
                        for tag in try transaction.tags(tables) where tag.snapshot == entry.id && entry.tags.contains(tag.name) {
                            try transaction.delete(tables[.tag], Array(tag.name.utf8))
                        }
                    }
                }
                // The plan was made before the lock was taken.
                for entry in entries {
                    guard try transaction.stepRecord(tables, run: entry.run, step: entry.step)?.snapshot == entry.id,
                        try transaction.head(tables, of: entry.run)?.step != entry.step, try !transaction.isPinned(tables, entry.id),
                        try policy.includesTagged || !transaction.tags(tables).contains(where: { $0.snapshot == entry.id })
                    else { throw StoreError(.conflict, "\(entry.run)@\(entry.step): has changed meanwhile", hint: "prune again") }
                }
                try transaction.removeSteps(tables, entries, keepsSources: true)
            }
        }
    }

    /// What re-basing would do after `plan`, by samples.
    ///
    /// - Complexity: O(bytes of the snapshots that follow a gap).
    public func forecastRebasing(
        _ plan: RetentionPlan, monitor: Monitor = Monitor(), progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> RebasingResult {
        try throwingStoreErrors {
            let history = try history()
            let gone = Set(plan.dropped.map(\.ref))
            let (forecast, depthLimit) = try readAll { transaction, tables in
                var forecast = RemovalForecast()
                for row in plan.dropped.reversed() { _ = try forecast.removeUse(of: row.entry.id, transaction, tables) }
                for optimizer in plan.optimizers { _ = try forecast.dropPart(.optimizer, of: optimizer.id, transaction, tables) }
                return (forecast, try Superblock.read(transaction, tables).depthLimit)
            }
            let trimmed = Set(plan.optimizers.map(\.id))
            let windows = Rebasing.windows(history, gone: gone, trimmed: trimmed, depthLimit: depthLimit)
            return try Rebasing(store: self, monitor: monitor).forecast(windows, forecast, trimmed: trimmed, progress: progress)
        }
    }

    /// Gives long free runs of the data file back to the file system, those of the last commit too.
    func returnSpace() throws -> FreeSpace {
        // Pages become part of a hole two commits after they were freed.
        for _ in 0..<2 {
            do {
                try write { transaction, tables in
                    let superblock = try Superblock.read(transaction, tables)
                    try transaction.putRecord(tables, .superblock, Superblock.key, superblock.encoded)
                }
            } catch let error as LMDBError where error.isDiskFull {
                break
            }
        }
        return try currentGeneration().environment.returnFreeSpace()
    }
}
