internal import LMDB

extension Verifier {
    /// Reads every image back and compares it, block by block, with the ids of the snapshot's blocks.
    func checkImages(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> Int {
        var ids: [ContentID] = []
        try forEach(.image, transaction, tables) { key, _ in
            let id = try ContentID(key)
            // One that somebody removed whole has been noted.
            if FileSystem.status(ImageWriter.path(store.path, id)) != nil { ids.append(id) }
        }
        for id in ids {
            try monitor.checkCancelled()
            guard let bytes = try? transaction.record(tables, .snapshot, id.bytes),
                let record = try? SnapshotRecord(bytes, what: "snapshot \(id)")
            else { continue }
            for entry in record.here {
                let files = try soundPart(entry.id, transaction, tables)?.files ?? []
                // Images may leave optimizer state out.
                let isLeftOut = entry.kind == .optimizer && record.here.count > 1
                    && files.allSatisfy { FileSystem.status(ImageWriter.path(store.path, id) + "/" + $0.path) == nil }
                for file in isLeftOut ? [] : files {
                    guard let problem = try checkImage(file, of: id, transaction, tables) else { continue }
                    // One that was dropped while it was being read is no damage.
                    let isStillThere = try store.read { transaction, tables in try transaction.contains(tables[.image], id.bytes) }
                    if isStillThere { damagedImages.insert(id) }
                    if isStillThere { problems.append(StoreProblem(problem, snapshots: try stepNames(id, transaction, tables))) }
                }
            }
        }
        return ids.count
    }

    /// What is wrong with a file of an image.
    private func checkImage(
        _ file: PartManifest.File, of id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> String? {
        let path = ImageWriter.path(store.path, id) + "/" + file.path
        let hint = "remove the directory images/\(id): ckpt path makes it anew"
        guard let status = FileSystem.status(path) else { return "images/\(id.short): \(file.path) is missing (hint: \(hint))" }
        guard !file.isDirectory else { return nil }
        guard status.size == file.size else {
            return "images/\(id.short): \(file.path) is \(status.size) bytes long, not \(file.size) (hint: \(hint))"
        }
        let tensors = file.storages.map { ($0.tensor, [$0.offset..<($0.offset + $0.length)]) }
            + (file.skeleton.map { [($0, file.skeletonRanges)] } ?? [])
        do {
            let source = try OpenFile(reading: path)
            let lanes = try Lanes { try CodecLane() }
            let firstBad = Locked<UInt64?>(nil)
            for (tensor, ranges) in tensors {
                guard damaged[tensor] == nil, let record = try Verifier.optional({ try transaction.tensorRecord(tables, tensor) }) else { continue }
                try lanes.forEach(record.blocks.count) { lane, index in
                    let pieces = Ranges.slice(ranges, record.grid.range(index))
                    let bytes = UnsafeMutableRawBufferPointer(rebasing: lane.raw[..<record.grid.range(index).count])
                    try source.read(pieces, into: bytes)
                    if ContentID.hash(of: UnsafeRawBufferPointer(bytes)) != record.blocks[index] {
                        firstBad.withLock { $0 = min($0 ?? .max, pieces.first?.lowerBound ?? 0) }
                    }
                }
            }
            if let byte = firstBad.withLock({ $0 }) {
                return "images/\(id.short): \(file.path): byte \(byte): differs from the snapshot's block (hint: \(hint))"
            }
            return nil
        } catch {
            return "images/\(id.short): \(file.path): \(error)"
        }
    }

    /// Where a snapshot stands, as `run@step`.
    private func stepNames(_ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> [String] {
        var names: [String] = []
        try forEach(.step, transaction, tables) { key, value in
            let (run, step) = try StepKey.decode(key)
            if try StepRecord(value).snapshot == id { names.append("\(run)@\(step)") }
        }
        return names
    }
}
