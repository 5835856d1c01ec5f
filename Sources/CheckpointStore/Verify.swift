internal import LMDB

/// How much of a store is checked.
public enum VerifyDepth: Sendable {
    /// Pages, the checksum of every record, counts and names: at disk speed, nothing decoded.
    case quick
    /// Besides, every block and probe decoded and hashed, every entropy record decoded and compared with its probe, and every
    /// image compared with its blocks.
    case full
}

/// One thing wrong with a store.
public struct StoreProblem: Sendable, CustomStringConvertible {
    /// The page, record or file, and what is wrong with it.
    public var reason: String
    /// The snapshots it harms, as `run@step`; filled in for blocks, tensors and parts.
    public var snapshots: [String]
    /// Some of the tensors it harms.
    public var tensors: [String]

    init(_ reason: String, snapshots: [String] = []) {
        self.reason = reason
        self.snapshots = snapshots
        tensors = []
    }

    public var description: String {
        var text = reason
        if !snapshots.isEmpty { text += "; harms \(StoreProblem.list(snapshots))" }
        if !tensors.isEmpty { text += ", tensors \(StoreProblem.list(tensors))" }
        return text
    }

    private static func list(_ names: [String]) -> String {
        let shown = names.prefix(4).joined(separator: ", ")
        return names.count > 4 ? shown + " and \(names.count - 4) more" : shown
    }
}

/// What `verify` found.
public struct VerifyReport: Sendable {
    /// Empty: the store is whole.
    public var problems: [StoreProblem] = []
    /// No damage, but worth knowing: an image that somebody removed.
    public var notes: [String] = []
    public var snapshots = 0
    /// Blocks in the store.
    public var blocks = 0
    /// Raw bytes of the blocks that were decoded and hashed.
    public var bytes: UInt64 = 0
    public var images = 0
    public var probes = 0
    public var entropyRecords = 0
    public var pages: UInt64 = 0
    public var freePages: UInt64 = 0
    var pageSize = 0
    /// Staged by an ingest that is under way or was killed; released by the next writer.
    public var pending = 0
}

extension Store {
    /// Checks the store at `path`: its pages before LMDB opens them, then every record, count and name, then (`full`)
    /// every block and image.
    ///
    /// Takes no lock: what is committed when it starts is what is checked.
    /// - Throws: `.noStore`, `.interrupted`; damage is in the report, not thrown.
    /// - Complexity: O(bytes) on all processors; memory: 12 bytes for each block, 28 for each tensor.
    public static func verify(
        _ path: String, depth: VerifyDepth, monitor: Monitor = Monitor(), progress: @escaping (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> VerifyReport {
        try throwingStoreErrors {
            guard let absolute = FileSystem.absolute(path), FileSystem.status(absolute + "/current") != nil else {
                throw StoreError(.noStore, "\(path): no store here", hint: "make one with: ckpt init \(path)")
            }
            var report = VerifyReport()
            do {
                guard let store = try openWalked(absolute, &report) else { return report }
                let verifier = Verifier(
                    store: store, generation: store.openGeneration, depth: depth, monitor: monitor, progress: progress)
                try verifier.run(&report)
            } catch let error as StoreError {
                guard error.code == .damaged else { throw error }
                report.problems.append(StoreProblem(error.reason))
            } catch let error as LMDBError {
                guard error.isDamage else { throw error }
                report.problems.append(StoreProblem("\(error)"))
            }
            return report
        }
    }

    /// Walks the pages, then opens the store; nil when LMDB must not open it.
    private static func openWalked(_ path: String, _ report: inout VerifyReport) throws -> Store? {
        while true {
            let number = try Generation.current(path)
            let isSound = try walkPages(path, number, &report)
            let store = isSound ? try Store.open(path) : nil
            // A compaction may have come between: then the new generation is what counts.
            if try (store?.openGeneration.number ?? Generation.current(path)) == number { return store }
            report = VerifyReport()
        }
    }

    /// Walks the pages of generation `number`; false when LMDB must not open them.
    static func walkPages(_ path: String, _ number: Int, _ report: inout VerifyReport) throws -> Bool {
        let data = Generation.path(path, number) + "/data.mdb"
        guard let status = FileSystem.status(data), status.size > 0 else {
            report.problems.append(StoreProblem("\(data): missing or empty"))
            return false
        }
        // A writer may reuse pages under a walk that holds no transaction: only damage that stays put is damage.
        var pages = try PageWalk.check(path: data)
        for _ in 0..<5 where !pages.problems.isEmpty {
            let again = try PageWalk.check(path: data)
            let isSame = again.transactionID == pages.transactionID
            pages = again
            if isSame { break }
        }
        report.pages = pages.livePages
        report.freePages = pages.freePages
        report.pageSize = pages.pageSize
        report.problems += pages.problems.map { StoreProblem("data.mdb: \($0)") }
        return pages.problems.isEmpty
    }
}
