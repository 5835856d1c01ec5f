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
    public var packedBytes: UInt64
    public var blocks: Int
    public var tensors: Int
    /// Bytes of image files.
    public var imageBytes: UInt64
    /// Bytes the store directory takes on disk, images and free pages included.
    public var storeBytes: UInt64
    /// By the id of the codec.
    public var codecs: [UInt8: CodecShare]
}

extension Store {
    /// Counts what the store holds. O(blocks), reading only their counts.
    public func stats() throws(StoreError) -> StoreStats {
        let history = try history()
        return try throwingStoreErrors {
            var stats = StoreStats(
                snapshots: history.count, runs: Set(history.map(\.run)).count,
                rawBytes: history.reduce(0) { $0 + $1.rawBytes }, uniqueBytes: 0, packedBytes: 0, blocks: 0, tensors: 0,
                imageBytes: 0, storeBytes: 0, codecs: [:])
            try read { transaction, tables in
                stats.tensors = try transaction.count(tables[.tensor])
                try transaction.records(tables, .count, from: [Kind.block.rawValue]) { key, value in
                    guard key.first == Kind.block.rawValue else { return false }
                    let count = try CountRecord(value)
                    stats.blocks += 1
                    stats.uniqueBytes += UInt64(count.rawBytes)
                    stats.packedBytes += UInt64(count.packedBytes)
                    var share = stats.codecs[count.codec] ?? .init(blocks: 0, rawBytes: 0, packedBytes: 0)
                    share.blocks += 1
                    share.rawBytes += UInt64(count.rawBytes)
                    share.packedBytes += UInt64(count.packedBytes)
                    stats.codecs[count.codec] = share
                    return true
                }
            }
            stats.imageBytes = try Store.allocatedBytes(path + "/images")
            stats.storeBytes = try Store.allocatedBytes(path)
            return stats
        }
    }

    /// Bytes on disk of all files below `path`, as `du` counts them.
    private static func allocatedBytes(_ path: String) throws -> UInt64 {
        var status = stat()
        guard lstat(path, &status) == 0 else { return 0 }
        var bytes = UInt64(status.st_blocks) * 512
        if status.st_mode & S_IFMT == S_IFDIR {
            for name in try FileSystem.list(path) { bytes += try allocatedBytes(path + "/" + name) }
        }
        return bytes
    }
}
