internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// Which stored tensor each tensor of a checkpoint grew out of: the one of the same name, type and shape in another snapshot.
/// Its blocks are the bases of the new ones.
struct Lineage {
    /// Indexed like the checkpoint's tensors; nil where there is no such tensor.
    let bases: [ContentID?]

    /// Looks for the tensors of `reader` in the parts of `snapshot` that are not in `leavingOut`.
    ///
    /// - Complexity: O(tensors).
    init(
        _ reader: CheckpointReader, from snapshot: ContentID, leavingOut: Set<PartKind> = [],
        _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        var known = KnownTensors()
        guard let record = try transaction.snapshotRecord(tables, snapshot) else {
            bases = [ContentID?](repeating: nil, count: reader.tensors.count)
            return
        }
        for part in record.manifest.parts where !record.dropped.contains(part.kind) && !leavingOut.contains(part.kind) {
            for file in try transaction.partManifest(tables, part.id)?.files ?? [] { known.add(file, part.kind) }
        }
        var bases = [ContentID?](repeating: nil, count: reader.tensors.count)
        for file in reader.files {
            for (storage, tensor) in file.storageTensors.enumerated() {
                bases[tensor] = known.find(file, storage)
            }
            if let skeleton = file.skeletonTensor { bases[skeleton] = known.skeletons[file.source.path] }
        }
        for (index, base) in bases.enumerated() {
            guard let base, let record = try transaction.tensorRecord(tables, base),
                record.dtype == reader.tensors[index].dtype, record.shape == reader.tensors[index].shape
            else {
                bases[index] = nil
                continue
            }
        }
        self.bases = bases
    }

    /// The tensors of a snapshot by what they are called.
    private struct KnownTensors {
        private struct Name: Hashable {
            var part: PartKind
            /// Nil: in whatever file. Shards may be cut differently, and files be named after their step.
            var file: String?
            var tensor: ExactName
        }
        private var storages: [Name: ContentID] = [:]
        private(set) var skeletons: [String: ContentID] = [:]

        mutating func add(_ file: PartManifest.File, _ part: PartKind) {
            for tensor in file.tensors {
                let storage = file.storages[tensor.storage].tensor
                storages[Name(part: part, file: file.path, tensor: ExactName(tensor.name))] = storage
                storages[Name(part: part, file: nil, tensor: ExactName(tensor.name))] = storage
            }
            skeletons[file.path] = file.skeleton
        }

        func find(_ file: ParsedFile, _ storage: Int) -> ContentID? {
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
    /// Snapshots looked at when nothing says what a checkpoint was trained from, and blocks compared with each.
    private static let maximumCandidates = 16
    private static let sketchedBlocks = 8
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
                let lineage = try Lineage(reader, from: candidate, transaction, tables)
                guard let share = try lineage.sketch(reader, transaction, tables, lane), share < best?.share ?? leastGain else { continue }
                best = (lineage, share)
            }
            return best?.lineage
        }
    }

    /// Expected bytes of some blocks as deltas, over those as dense blocks; nil when no tensor matches.
    private func sketch(
        _ reader: CheckpointReader, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane
    ) throws -> Double? {
        let matched = bases.indices.filter { bases[$0] != nil && reader.tensors[$0].grid.count > 0 }
            .sorted { reader.tensors[$0].grid.byteCount > reader.tensors[$1].grid.byteCount }
        var dense = 0, delta = 0
        // From the largest down, leaving some out: layers of one size differ.
        for index in stride(from: 0, to: matched.count, by: max(1, matched.count / Lineage.sketchedBlocks)) {
            let plan = reader.tensors[matched[index]]
            guard let base = bases[matched[index]], let record = try transaction.tensorRecord(tables, base) else { continue }
            let block = plan.grid.count / 2
            let ranges = reader.ranges(ofBlock: block, in: plan)
            let raw = UnsafeMutableRawBufferPointer(rebasing: lane.raw[..<plan.grid.range(block).count])
            let file = try OpenFile(reading: reader.files[plan.file].source.location)
            var filled = 0
            for range in ranges {
                try file.read(at: range.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: raw[filled..<(filled + range.count)]))
                filled += range.count
            }
            guard let known = try? BlockChain(record.blocks[block], transaction, tables).decode(count: raw.count, transaction, tables, lane)
            else { continue }
            let expected = lane.coder.expectedBytes(UnsafeRawBufferPointer(raw), element: plan.dtype, bases: known.suffix(1))
            dense += expected.dense
            delta += min(expected.dense, expected.delta ?? expected.dense)
        }
        return dense > 0 ? Double(delta) / Double(dense) : nil
    }
}
