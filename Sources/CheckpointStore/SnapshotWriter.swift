internal import BlockCodec
internal import LMDB

/// How far a write or a check of known size has come.
public struct ByteProgress: Sendable {
    /// Bytes so far.
    public var doneBytes: UInt64
    /// Bytes in all.
    public var totalBytes: UInt64

    public init(doneBytes: UInt64, totalBytes: UInt64) {
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
    }
}

/// Gives out files of snapshots from their blocks, on all processors.
struct SnapshotWriter {
    let store: Store
    let monitor: Monitor

    private struct Piece {
        var file: Int
        var ranges: [Range<UInt64>]
        var block: ContentID
    }

    /// Pieces decoded between two looks at the clock and at Ctrl-C, and files held open for them.
    private static let batch = 512
    private static let maximumFiles = 64

    /// Takes bytes of a file and their offset in it; called on many threads.
    typealias Sink = @Sendable (UnsafeRawBufferPointer, UInt64) throws -> Void

    /// Gives the bytes of `files` to what `open` returns for each (nil: not wanted).
    ///
    /// Every packed block is checked against its checksum before it is decoded.
    func write(
        _ files: [PartManifest.File], progress: (ByteProgress) -> Void = { _ in },
        open: (PartManifest.File) throws -> Sink?
    ) throws {
        let lanes = try Lanes { try CodecLane() }
        let total = files.reduce(0) { $0 + $1.size }
        var done: UInt64 = 0
        var pieces: [(target: Sink, piece: Piece)] = []
        var openFiles = 0
        func flush() throws {
            try monitor.checkCancelled()
            try write(pieces, lanes)
            done += pieces.reduce(0) { $0 + $1.piece.ranges.reduce(0) { $0 + UInt64($1.count) } }
            pieces.removeAll(keepingCapacity: true)
            progress(ByteProgress(doneBytes: done, totalBytes: total))
        }
        for (index, file) in files.enumerated() {
            if openFiles == SnapshotWriter.maximumFiles {
                try flush()
                openFiles = 0
            }
            guard let target = try open(file) else { continue }
            openFiles += 1
            let tensors = file.storages.map { ($0.tensor, [$0.offset..<($0.offset + $0.length)]) }
                + (file.skeleton.map { [($0, file.skeletonRanges)] } ?? [])
            for (tensor, ranges) in tensors {
                let record = try load(tensor, byteCount: ranges.reduce(0) { $0 + UInt64($1.count) }, file)
                for (block, id) in record.blocks.enumerated() {
                    pieces.append(
                        (target, Piece(file: index, ranges: Ranges.slice(ranges, record.grid.range(block)), block: id)))
                    if pieces.count == SnapshotWriter.batch { try flush() }
                }
            }
        }
        try flush()
    }

    private func load(_ tensor: ContentID, byteCount: UInt64, _ file: PartManifest.File) throws -> TensorRecord {
        try store.read { transaction, tables in
            guard let record = try transaction.tensorRecord(tables, tensor), record.grid.byteCount == byteCount else {
                throw StoreError(
                    .damaged, "store: tensor \(tensor) of \(file.path) is missing or of another size",
                    hint: "run ckpt verify")
            }
            return record
        }
    }

    private func write(_ pieces: [(target: Sink, piece: Piece)], _ lanes: Lanes<CodecLane>) throws {
        let generation = store.openGeneration
        try lanes.run { lane, next in
            let transaction = try generation.environment.beginRead()
            while let index = next(pieces.count) {
                let (target, piece) = pieces[index]
                let count = piece.ranges.reduce(0) { $0 + $1.count }
                let bytes = try transaction.blockBytes(generation.tables, piece.block, count: count, lane)
                var start = 0
                for range in piece.ranges {
                    try target(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + range.count)]), range.lowerBound)
                    start += range.count
                }
            }
        }
    }
}
