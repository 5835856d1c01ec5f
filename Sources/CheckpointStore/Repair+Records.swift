internal import LMDB
internal import TensorFormats

/// Parts, snapshots and steps whose records are damaged.
extension Repair {
    /// Gives the snapshot that is counted once more than steps can be read back to the step that cannot be, where there is one of each.
    ///
    /// Its parent, its time and where it came from are lost.
    mutating func recoverSteps(_ verifier: Verifier) throws {
        let orphans = verifier.wrongCounts.filter { $0.kind == .snapshot && $0.counted > $0.uses }
        guard verifier.unreadableSteps.count == 1, orphans.count == 1, orphans[0].counted == orphans[0].uses + 1 else { return }
        let key = verifier.unreadableSteps[0]
        let (run, step) = try StepKey.decode(key)
        let record = StepRecord(
            snapshot: orphans[0].id, parent: nil, ingested: FileSystem.now(), source: "ckpt verify --repair", leftOutFiles: 0, leftOutBytes: 0)
        try store.write { transaction, tables in try transaction.putRecord(tables, .step, key, record.encoded) }
        result.recovered.append(("step \(run)@\(step)", "its snapshot"))
    }

    /// Makes snapshots anew from checkpoints that are the same.
    mutating func recoverSnapshots(_ verifier: Verifier) throws {
        let damaged = verifier.damaged.keys.filter { verifier.uses(of: .snapshot, $0) > 0 }
        guard !damaged.isEmpty else { return }
        let sources = try sources(verifier)
        for id in damaged.sorted() {
            try monitor.checkCancelled()
            for path in checkpoints(id, sources[id] ?? []) {
                guard let record = try snapshot(id, at: path) else { continue }
                try store.write { transaction, tables in
                    try transaction.putRecord(tables, .snapshot, id.bytes, record.encoded)
                    if try transaction.count(tables, .snapshot, id) == nil {
                        try transaction.putCount(tables, .snapshot, id, CountRecord(count: verifier.uses(of: .snapshot, id)))
                    }
                }
                result.recovered.append(("snapshot \(id)", path))
                break
            }
        }
    }

    /// Makes the lists of files of parts anew from checkpoints that have the same.
    mutating func recoverParts(_ verifier: Verifier) throws {
        let damaged = Set(verifier.damaged.keys.filter { verifier.uses(of: .part, $0) > 0 })
        guard !damaged.isEmpty else { return }
        var places: [ContentID: [String]] = [:]
        let sources = try sources(verifier)
        try store.read { transaction, tables in
            try verifier.forEach(.snapshot, transaction, tables) { key, value in
                let id = try ContentID(key)
                for part in try SnapshotRecord(value, what: "snapshot").here where damaged.contains(part.id) {
                    places[part.id, default: []] += checkpoints(id, sources[id] ?? [])
                }
            }
        }
        for id in damaged.sorted() {
            try monitor.checkCancelled()
            for path in places[id] ?? [] {
                guard let part = try parts(at: path).first(where: { ContentID.hash(of: $0.encoded()) == id }) else { continue }
                try store.write { transaction, tables in
                    try transaction.putRecord(tables, .part, id.bytes, part.encoded())
                    if try transaction.count(tables, .part, id) == nil {
                        try transaction.putCount(tables, .part, id, CountRecord(count: verifier.uses(of: .part, id)))
                    }
                }
                result.recovered.append(("part \(id)", path))
                break
            }
        }
    }

    /// Checkpoints that may be what the snapshot was: its image, where it came from, and those given by the user.
    private func checkpoints(_ id: ContentID, _ sources: [String]) -> [String] {
        let named = originals.flatMap { original in [original] + sources.map { original + "/" + FileSystem.name($0) } }
        return ([ImageWriter.path(store.path, id)] + sources + named).filter { FileSystem.status($0) != nil }
    }

    /// What the checkpoint at `path` would be in the store; empty when it cannot be read.
    private func parts(at path: String) throws -> [PartManifest] {
        guard let source = try? CheckpointScan.checkpoints(at: path, asOne: true).finished.first, let reader = try? CheckpointReader(source) else {
            return []
        }
        var ids: [ContentID] = []
        for tensor in reader.tensors {
            try monitor.checkCancelled()
            let location = reader.files[tensor.file].source.location
            var blocks: [ContentID] = []
            for index in 0..<tensor.grid.count {
                guard let bytes = read(location, reader.ranges(ofBlock: index, in: tensor)) else { return [] }
                blocks.append(bytes.withUnsafeBytes { ContentID.hash(of: $0) })
            }
            ids.append(ContentID.hash(of: TensorRecord(dtype: tensor.dtype, shape: tensor.shape, blocks: blocks).encoded()))
        }
        return reader.parts(ids)
    }

    /// The record of snapshot `id` when the checkpoint at `path`, with or without its optimizer, is that one. Parts that are not stored count
    /// as dropped.
    private func snapshot(_ id: ContentID, at path: String) throws -> SnapshotRecord? {
        let all = try parts(at: path)
        for parts in [all, all.filter { $0.kind != .optimizer }] {
            let manifest = SnapshotManifest(parts: parts.map { .init(kind: $0.kind, id: ContentID.hash(of: $0.encoded())) })
            guard ContentID.hash(of: manifest.encoded()) == id else { continue }
            var record = SnapshotRecord(manifest: manifest, parts: parts)
            try store.read { transaction, tables in
                for part in manifest.parts where try !transaction.isStored(tables, .part, part.id) { record.dropped.insert(part.kind) }
            }
            return record
        }
        return nil
    }
}
