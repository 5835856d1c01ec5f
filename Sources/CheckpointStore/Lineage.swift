internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// What a checkpoint grew out of: its parent, whose blocks are the bases of the new ones, and its parent's, for prediction.
struct Lineage {
    let parent: Ancestor
    let grandparent: Ancestor?
}

/// A snapshot that a checkpoint grew out of, tensor by tensor: the one of the same name, type and shape.
struct Ancestor {
    struct Tensor {
        var id: ContentID
        /// Where it lay: a file of the snapshot, and ranges of it.
        var file: String
        var ranges: [Range<UInt64>]
    }

    /// Indexed like the checkpoint's tensors; nil where there is no such tensor.
    let tensors: [Tensor?]
    /// A directory that may hold the snapshot's files.
    let copies: String?

    /// Looks for the tensors of `reader` in the parts of `snapshot` that are not in `leavingOut`.
    ///
    /// - Complexity: O(tensors).
    init(
        _ reader: CheckpointReader, in snapshot: ContentID, copies: String? = nil, leavingOut: Set<PartKind> = [],
        _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        self.copies = copies
        var known = KnownTensors()
        if let record = try transaction.snapshotRecord(tables, snapshot) {
            for part in record.manifest.parts where !record.dropped.contains(part.kind) && !leavingOut.contains(part.kind) {
                for file in try transaction.partManifest(tables, part.id)?.files ?? [] { known.add(file, part.kind) }
            }
        }
        var tensors = [Tensor?](repeating: nil, count: reader.tensors.count)
        for file in reader.files {
            for (storage, tensor) in file.storageTensors.enumerated() { tensors[tensor] = known.find(file, storage) }
            if let skeleton = file.skeletonTensor { tensors[skeleton] = known.skeletons[file.source.path] }
        }
        for (index, tensor) in tensors.enumerated() {
            guard let tensor, let record = try transaction.tensorRecord(tables, tensor.id),
                record.dtype == reader.tensors[index].dtype, record.shape == reader.tensors[index].shape
            else {
                tensors[index] = nil
                continue
            }
        }
        self.tensors = tensors
    }

    /// The tensors of a snapshot by what they are called.
    private struct KnownTensors {
        private struct Name: Hashable {
            var part: PartKind
            /// Nil: in whatever file. Shards may be cut differently, and files be named after their step.
            var file: String?
            var tensor: ExactName
        }
        private var storages: [Name: Tensor] = [:]
        private(set) var skeletons: [String: Tensor] = [:]

        mutating func add(_ file: PartManifest.File, _ part: PartKind) {
            for tensor in file.tensors {
                let storage = file.storages[tensor.storage]
                let found = Tensor(
                    id: storage.tensor, file: file.path, ranges: [storage.offset..<(storage.offset + storage.length)])
                storages[Name(part: part, file: file.path, tensor: ExactName(tensor.name))] = found
                storages[Name(part: part, file: nil, tensor: ExactName(tensor.name))] = found
            }
            if let skeleton = file.skeleton {
                skeletons[file.path] = Tensor(id: skeleton, file: file.path, ranges: file.skeletonRanges)
            }
        }

        func find(_ file: ParsedFile, _ storage: Int) -> Tensor? {
            for tensor in file.layout.tensors where tensor.storage == storage {
                for path in [file.source.path, nil] {
                    let name = Name(part: file.source.part, file: path, tensor: ExactName(tensor.name))
                    if let found = storages[name] { return found }
                }
            }
            return nil
        }
    }
}

extension Lineage {
    /// Snapshots looked at when nothing says what a checkpoint was trained from.
    private static let maximumCandidates = 16
    /// A base must promise to save a tenth.
    private static let leastGain = 0.9

    /// The lineage from the snapshot whose tensors of the same names and shapes are nearest, told by samples of a few blocks,
    /// or nil when none is near: for the first snapshot of a run that does not name its parent.
    ///
    /// - Complexity: O(runs), reading some megabytes.
    static func sketched(_ reader: CheckpointReader, _ store: Store) throws -> Lineage? {
        let lane = try CodecLane()
        return try store.read { transaction, tables in
            var candidates: [ContentID] = []
            for name in try transaction.runNames(tables) {
                guard let head = try transaction.head(tables, of: name), !candidates.contains(head.record.snapshot) else { continue }
                candidates.append(head.record.snapshot)
            }
            var best: (lineage: Lineage, share: Double)?
            for candidate in candidates.suffix(maximumCandidates) {
                let ancestor = try Ancestor(reader, in: candidate, transaction, tables)
                guard let share = try ancestor.sketch(reader, transaction, tables, lane), share < best?.share ?? leastGain else { continue }
                best = (Lineage(parent: ancestor, grandparent: nil), share)
            }
            return best?.lineage
        }
    }

}

extension Ancestor {
    /// Blocks compared with each candidate.
    private static let sketchedBlocks = 8

    /// Expected bytes of some blocks as deltas, over those as dense blocks; nil when no tensor matches.
    fileprivate func sketch(
        _ reader: CheckpointReader, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane
    ) throws -> Double? {
        let matched = tensors.indices.filter { tensors[$0] != nil && reader.tensors[$0].grid.count > 0 }
            .sorted { reader.tensors[$0].grid.byteCount > reader.tensors[$1].grid.byteCount }
        var dense = 0, delta = 0
        // From the largest down, leaving some out: layers of one size differ.
        for index in stride(from: 0, to: matched.count, by: max(1, matched.count / Ancestor.sketchedBlocks)) {
            let plan = reader.tensors[matched[index]]
            guard let base = tensors[matched[index]], let record = try transaction.tensorRecord(tables, base.id) else { continue }
            let block = plan.grid.count / 2
            let ranges = reader.ranges(ofBlock: block, in: plan)
            let raw = UnsafeMutableRawBufferPointer(rebasing: lane.raw[..<plan.grid.range(block).count])
            try OpenSource(reader.files[plan.file].source).read(ranges, into: raw)
            guard let known = try? BlockChain(record.blocks[block], transaction, tables).decode(count: raw.count, transaction, tables, lane)
            else { continue }
            let expected = lane.coder.expectedBytes(UnsafeRawBufferPointer(raw), element: plan.dtype, bases: known.suffix(1))
            dense += expected.dense
            delta += min(expected.dense, expected.delta ?? expected.dense)
        }
        return dense > 0 ? Double(delta) / Double(dense) : nil
    }
}
