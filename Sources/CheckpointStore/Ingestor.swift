internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// Takes one checkpoint into the store, under the store lock.
///
/// Blocks are staged in commits of `stageBytes` under a pending record; the snapshot becomes visible in the
/// last one. Whatever goes wrong before that, the caller releases the pending record and nothing has changed.
final class Ingestor {
    /// Packed bytes in one commit: LMDB keeps them in memory until then.
    private static let stageBytes = 64 << 20

    private let store: Store
    private let reader: CheckpointReader
    private let packing: Packing
    private let lineage: Lineage?
    private let image: ImageWriter?
    private let report: (_ doneBytes: UInt64, _ newBytes: UInt64) throws -> Void

    private var pending = Pending()
    private let pendingKey = Pending.newKey()
    private var isPendingStored = false

    /// The ids of each tensor's blocks so far, until the tensor is finished.
    private var blocks: [ContentID] = []
    /// Blocks staged for tensors that are not finished; each holds one use.
    private var staged: Set<ContentID> = []
    private var tensorIDs: [ContentID] = []

    private(set) var doneBytes: UInt64 = 0
    private(set) var newBytes: UInt64 = 0
    private(set) var packedBytes: UInt64 = 0

    init(
        store: Store, reader: CheckpointReader, packing: Packing, lineage: Lineage?,
        image: ImageWriter?, report: @escaping (_ doneBytes: UInt64, _ newBytes: UInt64) throws -> Void
    ) {
        self.store = store
        self.reader = reader
        self.packing = packing
        self.lineage = lineage
        self.image = image
        self.report = report
    }

    /// Stages every block and calls `finish` in the last transaction, with the parts that make up the snapshot.
    ///
    /// `finish` owns one use of each tensor the parts name; what it does not adopt, it must release.
    func run(_ finish: (borrowing WriteTransaction, Tables, [PartManifest]) throws -> Void) throws {
        let generation = try store.currentGeneration()
        var jobs = JobList(reader, lineage, store, image: image)
        let choice = BaseChoice(
            depthLimit: try store.read { transaction, tables in try Superblock.read(transaction, tables).depthLimit })
        let pipeline = try BlockPipeline(
            environment: generation.environment, tables: generation.tables, packing: packing, choice: choice
        ) { try jobs.next() }
        defer { pipeline.stop() }

        var batch = try pipeline.next()
        var isFinished = false
        while !isFinished {
            try store.write { transaction, tables in
                let start = packedBytes
                while let current = batch, packedBytes - start < UInt64(Ingestor.stageBytes) {
                    try stage(current, transaction, tables)
                    try report(doneBytes, newBytes)
                    batch = try pipeline.next()
                }
                if batch == nil {
                    try checkUnchanged()
                    try finishEmptyTensors(transaction, tables)
                    try image?.finish()
                    try finish(transaction, tables, reader.parts(tensorIDs))
                    if isPendingStored { try transaction.delete(tables[.pending], pendingKey) }
                    isFinished = true
                } else {
                    pending.blocks = Array(staged)
                    try pending.put(transaction, tables, key: pendingKey)
                    isPendingStored = true
                }
            }
        }
    }

    /// Refuses a checkpoint that was written to since its headers were parsed: its bytes are of two moments.
    private func checkUnchanged() throws {
        for file in reader.files where !file.source.isUnchanged {
            throw StoreError(
                .incomplete, "\(file.source.location): changed while it was being read",
                hint: "ingest it again when its writer has finished")
        }
    }

    private func stage(_ batch: BlockBatch, _ transaction: borrowing WriteTransaction, _ tables: Tables) throws {
        // First every new block: which of several equal ones in a batch was packed is up to the lanes, so it may be
        // one that a later tensor uses too.
        for index in batch.jobs.indices {
            let (id, packed) = batch.result(index)
            if let packed, try !transaction.isStored(tables, .block, id) {
                try put(id, packed, transaction, tables)
            }
        }
        for (index, job) in batch.jobs.enumerated() {
            while tensorIDs.count < job.tensor { try finishTensor(transaction, tables) }
            blocks.append(batch.result(index).id)
            doneBytes += UInt64(job.byteCount)
        }
    }

    private func put(
        _ id: ContentID, _ packed: UnsafeRawBufferPointer, _ transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws {
        let header = try PackedHeader(packed)
        for base in try PackedHeader.bases(in: packed) { try transaction.retain(tables, .block, ContentID(base)) }
        try transaction.putRecord(tables, .block, id.bytes, packed)
        // One that was quarantined is whole again: its uses stay.
        let uses = try transaction.count(tables, .block, id)?.count ?? 0
        try transaction.putCount(tables, .block, id, CountRecord(count: uses + 1, header, packedBytes: packed.count))
        staged.insert(id)
        newBytes += UInt64(header.rawCount)
        packedBytes += UInt64(packed.count)
    }

    /// Stores the tensor whose blocks have all been seen, and holds one use of it.
    private func finishTensor(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws {
        let plan = reader.tensors[tensorIDs.count]
        let record = TensorRecord(dtype: plan.dtype, shape: plan.shape, blocks: blocks)
        let bytes = record.encoded()
        let id = ContentID.hash(of: bytes)
        if try transaction.isStored(tables, .tensor, id) {
            try transaction.retain(tables, .tensor, id)
            // Blocks of it that were quarantined are whole again; the tensor has its uses of them.
            for block in blocks where staged.remove(block) != nil { _ = try transaction.release(tables, .block, block) }
        } else {
            for block in blocks {
                // A staged block's first use becomes the tensor's; every other use is a new one.
                if staged.remove(block) == nil { try transaction.retain(tables, .block, block) }
            }
            try transaction.putRecord(tables, .tensor, id.bytes, bytes)
            try transaction.putCount(tables, .tensor, id, CountRecord(count: 1))
        }
        pending.tensors.append(id)
        tensorIDs.append(id)
        blocks.removeAll(keepingCapacity: true)
    }

    private func finishEmptyTensors(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws {
        while tensorIDs.count < reader.tensors.count { try finishTensor(transaction, tables) }
    }
}

/// The blocks of a checkpoint in the order of its tensors, opening each file when its first block is asked for.
private struct JobList {
    private let reader: CheckpointReader
    private let lineage: Lineage?
    private let store: Store
    private let image: ImageWriter?
    /// What the tensor under way grew out of.
    private var bases: (tensor: Int, blocks: [ContentID]?, copies: [CopyFile?]) = (-1, nil, [nil, nil])
    /// The file of each ancestor that was looked for last.
    private var copyFiles: [(path: String?, file: CopyFile?)] = [(nil, nil), (nil, nil)]
    private var tensor = 0
    private var block = 0
    private var fileIndex = -1
    private var file: OpenSource?
    private var copy: OpenFile?

    init(_ reader: CheckpointReader, _ lineage: Lineage?, _ store: Store, image: ImageWriter?) {
        self.reader = reader
        self.lineage = lineage
        self.store = store
        self.image = image
    }

    mutating func next() throws -> BlockJob? {
        while tensor < reader.tensors.count, block == reader.tensors[tensor].grid.count {
            tensor += 1
            block = 0
        }
        guard tensor < reader.tensors.count else { return nil }
        let plan = reader.tensors[tensor]
        let file = try open(plan.file)
        let ranges = reader.ranges(ofBlock: block, in: plan)
        try findBases()
        let copies = zip([lineage?.parent, lineage?.grandparent], bases.copies).map { ancestor, file -> BlockCopy? in
            guard let found = ancestor?.tensors[tensor], let file else { return nil }
            return BlockCopy(file: file, ranges: Ranges.slice(found.ranges, plan.grid.range(block)))
        }
        let base = bases.blocks.map { $0[block] }
        block += 1
        return BlockJob(
            file: file, image: copy, ranges: ranges, byteCount: ranges.reduce(0) { $0 + $1.count },
            element: plan.dtype, base: base, baseCopy: copies[0], previousCopy: copies[1], tensor: tensor)
    }

    /// Looks up the blocks of the tensor's ancestor, and files that may hold their bytes, once a tensor.
    private mutating func findBases() throws {
        guard bases.tensor != tensor, let lineage else { return }
        let blocks = try lineage.parent.tensors[tensor].map { base in
            try store.read { transaction, tables in try transaction.tensorRecord(tables, base.id)?.blocks }
        }
        let copies = [lineage.parent, lineage.grandparent].enumerated().map { index, ancestor in
            ancestor.flatMap { copy(of: tensor, $0, index) }
        }
        bases = (tensor, blocks ?? nil, copies)
    }

    private mutating func copy(of tensor: Int, _ ancestor: Ancestor, _ index: Int) -> CopyFile? {
        guard let directory = ancestor.copies, let found = ancestor.tensors[tensor] else { return nil }
        let path = directory + "/" + found.file
        if copyFiles[index].path != path { copyFiles[index] = (path, CopyFile(path)) }
        return copyFiles[index].file
    }

    private mutating func open(_ index: Int) throws -> OpenSource {
        if let file, index == fileIndex { return file }
        let source = reader.files[index].source
        let opened = try OpenSource(source)
        file = opened
        fileIndex = index
        copy = reader.isInImages(source) ? try image?.add(source, from: opened) : nil
        return opened
    }
}
