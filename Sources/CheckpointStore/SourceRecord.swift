internal import LMDB

/// What a source looked like when it was ingested, so that an unchanged one is recognised without reading.
struct SourceRecord: Equatable {
    struct File: Equatable {
        var path: String
        var size: UInt64
        var modified: Int64
        var changed: Int64
        var inode: UInt64
    }

    /// A file changed again this soon after its last change might keep its times: the clock of some file systems
    /// ticks that slowly. Such a source is read again.
    private static let clockTick: Int64 = 20_000_000

    var path: String
    var run: String
    var step: UInt64
    var snapshot: ContentID
    var keepsOptimizer: Bool
    var files: [File]

    /// The key of the record for `path`: LMDB's keys are shorter than paths can be.
    static func key(_ path: String) -> [UInt8] { ContentID.hash(of: Array(path.utf8)).bytes }

    static func files(of source: CheckpointSource) -> [File] {
        source.files.map { file in
            File(
                path: file.path, size: file.status.size, modified: file.status.modified, changed: file.status.changed,
                inode: file.status.inode)
        }
    }

    /// Whether the files had been left alone for long enough before `time` that their times can be trusted.
    static func isSettled(_ source: CheckpointSource, before time: Int64) -> Bool {
        source.files.allSatisfy { max($0.status.changed, $0.status.modified) < time - clockTick }
    }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(path)
        writer.put(run)
        writer.put(step)
        writer.put(snapshot)
        writer.put(UInt8(keepsOptimizer ? 1 : 0))
        writer.put(UInt32(files.count))
        for file in files {
            writer.put(file.path)
            writer.put(file.size)
            writer.put(file.modified)
            writer.put(file.changed)
            writer.put(file.inode)
        }
        return writer.bytes
    }

    init(
        path: String, run: String, step: UInt64, snapshot: ContentID, keepsOptimizer: Bool, files: [File]
    ) {
        self.path = path
        self.run = run
        self.step = step
        self.snapshot = snapshot
        self.keepsOptimizer = keepsOptimizer
        self.files = files
    }

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: source record")
        path = try reader.takeString()
        run = try reader.takeString()
        step = try reader.take()
        snapshot = try reader.takeID()
        keepsOptimizer = try reader.takeFlag()
        files = []
        for _ in 0..<(try reader.takeCount(itemBytes: 36)) {
            files.append(
                File(
                    path: try reader.takeString(), size: try reader.take(), modified: try reader.take(),
                    changed: try reader.take(), inode: try reader.take()))
        }
        try reader.finish()
    }
}
