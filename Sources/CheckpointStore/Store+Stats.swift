internal import LMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// What a store holds and takes.
public struct StoreStats: Sendable {
    /// What one codec holds.
    public struct CodecShare: Sendable {
        public var blocks: Int
        public var rawBytes: UInt64
        public var packedBytes: UInt64
    }

    /// Entries of all runs.
    public var snapshots: Int
    public var runs: Int
    /// Bytes of the files of all snapshots, as ingested: what a directory of checkpoints would take.
    public var rawBytes: UInt64
    /// Raw and packed bytes of the distinct blocks.
    public var uniqueBytes: UInt64
    /// Packed bytes of the distinct blocks.
    public var packedBytes: UInt64
    /// Distinct blocks.
    public var blocks: Int
    /// Distinct stored tensors.
    public var tensors: Int
    /// Bytes of image files.
    public var imageBytes: UInt64
    /// Bytes the store directory takes on disk, images and free pages included.
    public var storeBytes: UInt64
    /// Of what trainings keep to go on from.
    public var trainingBytes: UInt64
    /// By the id of the codec.
    public var codecs: [UInt8: CodecShare]
    /// By name.
    public var byRun: [RunStats]
    /// Blocks that are in no snapshot's tensors any more, and stay because others are packed against them.
    public var hiddenBlocks: Int
    /// Packed bytes of those.
    public var hiddenBytes: UInt64
    public var probes: Int
    /// Bytes of the packed samples of all probes.
    public var probeBytes: UInt64
    public var entropyRecords: Int
    /// Bytes of their packed figures.
    public var entropyBytes: UInt64
}

extension Store {
    /// Counts what the store holds. O(blocks), reading their counts and the tensors' lists of them.
    public func stats() throws(StoreError) -> StoreStats {
        try throwingStoreErrors {
            var stats = StoreStats(
                snapshots: 0, runs: 0, rawBytes: 0, uniqueBytes: 0, packedBytes: 0, blocks: 0, tensors: 0,
                imageBytes: 0, storeBytes: 0, trainingBytes: 0, codecs: [:], byRun: [], hiddenBlocks: 0, hiddenBytes: 0, probes: 0,
                probeBytes: 0, entropyRecords: 0, entropyBytes: 0)
            try readAll { transaction, tables in
                stats.tensors = try transaction.count(tables[.tensor])
                var usage = try countBlocks(&stats, transaction, tables)
                try countRuns(&stats, &usage, transaction, tables)
                try countProbes(&stats, transaction, tables)
            }
            stats.imageBytes = Store.allocatedBytes(path + "/images")
            stats.storeBytes = Store.allocatedBytes(path)
            stats.trainingBytes = Store.allocatedBytes(path + "/training")
            return stats
        }
    }

    private func countBlocks(
        _ stats: inout StoreStats, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> RunUsage {
        let blocks = try BlockGraph(transaction, tables) { count in
            stats.blocks += 1
            stats.uniqueBytes += UInt64(count.rawBytes)
            stats.packedBytes += UInt64(count.packedBytes)
            var share = stats.codecs[count.codec] ?? .init(blocks: 0, rawBytes: 0, packedBytes: 0)
            share.blocks += 1
            share.rawBytes += UInt64(count.rawBytes)
            share.packedBytes += UInt64(count.packedBytes)
            stats.codecs[count.codec] = share
        }
        return try RunUsage(blocks, transaction, tables)
    }

    private func countRuns(
        _ stats: inout StoreStats, _ usage: inout RunUsage, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        var images: [UInt64] = []
        for run in try transaction.runNames(tables) {
            var steps: [StepRecord] = []
            try transaction.steps(tables, of: run) { _, _, record in
                steps.append(record)
                return true
            }
            try usage.follow(run, steps, transaction, tables)
            images.append(Set(steps.map(\.snapshot)).reduce(0) { $0 + Store.allocatedBytes(ImageWriter.path(path, $1)) })
        }
        let result = usage.result
        stats.byRun = result.runs
        for index in images.indices { stats.byRun[index].imageBytes = images[index] }
        stats.hiddenBlocks = result.hiddenBlocks
        stats.hiddenBytes = result.hiddenBytes
        stats.runs = result.runs.count
        stats.snapshots = result.runs.reduce(0) { $0 + $1.snapshots }
        stats.rawBytes = result.runs.reduce(0) { $0 + $1.rawBytes }
    }

    private func countProbes(
        _ stats: inout StoreStats, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        try transaction.records(tables, .probe) { key, value in
            stats.probes += 1
            stats.probeBytes += try ProbeRecord(value, what: "store: probe \(Hex.string(key))").packedBytes
            return true
        }
        try transaction.entropyRecords(tables) { _, record in
            stats.entropyRecords += 1
            stats.entropyBytes += record.bytes
        }
    }

    /// Bytes on disk of all files below `path`, as `du` counts them. What goes meanwhile counts for nothing.
    private static func allocatedBytes(_ path: String) -> UInt64 {
        var status = stat()
        guard lstat(path, &status) == 0 else { return 0 }
        var bytes = UInt64(status.st_blocks) * 512
        if status.st_mode & S_IFMT == S_IFDIR {
            for name in (try? FileSystem.list(path)) ?? [] { bytes += allocatedBytes(path + "/" + name) }
        }
        return bytes
    }
}
