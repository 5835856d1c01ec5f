internal import LMDB
internal import Synchronization

extension Verifier {
    /// Reads every image back and compares it, block by block, with the ids of the snapshot's blocks.
    func checkImages(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> Int {
        var ids: [ContentID] = []
        try forEach(.image, transaction, tables) { key, _ in
            let id = try ContentID(key)
            // An image is a cache: one that somebody removed whole is made again when it is wanted.
            if FileSystem.status(ImageWriter.path(store.path, id)) != nil { ids.append(id) }
        }
        for id in ids {
            try monitor.checkCancelled()
            guard let bytes = try? transaction.record(tables, .snapshot, id.bytes),
                let record = try? SnapshotRecord(bytes, what: "snapshot \(id)")
            else { continue }
            for entry in record.manifest.parts where !record.dropped.contains(entry.kind) {
                for file in parts[entry.id]?.files ?? [] { checkImage(file, of: id) }
            }
        }
        return ids.count
    }

    private func checkImage(_ file: PartManifest.File, of id: ContentID) {
        let path = ImageWriter.path(store.path, id) + "/" + file.path
        let hint = "ckpt unpin and ckpt path make it anew"
        guard let status = FileSystem.status(path) else { return report("images/\(id.short): \(file.path) is missing (hint: \(hint))") }
        guard !file.isDirectory else { return }
        guard status.size == file.size else {
            return report("images/\(id.short): \(file.path) is \(status.size) bytes long, not \(file.size) (hint: \(hint))")
        }
        let tensors = file.storages.map { ($0.tensor, [$0.offset..<($0.offset + $0.length)]) }
            + (file.skeleton.map { [($0, file.skeletonRanges)] } ?? [])
        do {
            let source = try OpenFile(reading: path)
            let lanes = try Lanes { try CodecLane() }
            let firstBad = Mutex<UInt64?>(nil)
            for (tensor, ranges) in tensors {
                guard let record = self.tensors[tensor] else { continue }
                try lanes.forEach(record.blocks.count) { lane, index in
                    let pieces = Ranges.slice(ranges, record.grid.range(index))
                    var filled = 0
                    for piece in pieces {
                        let target = UnsafeMutableRawBufferPointer(rebasing: lane.raw[filled..<(filled + piece.count)])
                        try source.read(at: piece.lowerBound, into: target)
                        filled += piece.count
                    }
                    let bytes = UnsafeRawBufferPointer(rebasing: lane.raw[..<filled])
                    if ContentID.hash(of: bytes) != record.blocks[index] {
                        firstBad.withLock { $0 = min($0 ?? .max, pieces.first?.lowerBound ?? 0) }
                    }
                }
            }
            if let byte = firstBad.withLock({ $0 }) {
                report("images/\(id.short): \(file.path): byte \(byte): differs from the snapshot's block (hint: \(hint))")
            }
        } catch {
            report("images/\(id.short): \(file.path): \(error)")
        }
    }
}
