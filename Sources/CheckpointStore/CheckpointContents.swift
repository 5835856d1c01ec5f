internal import LMDB
internal import TensorFormats

/// The tensors of a checkpoint, wherever it is: a snapshot of a store, or files outside one.
public struct CheckpointContents: Sendable {
    enum Origin: Sendable {
        /// Whole files, by their path in the checkpoint: an image's, or the checkpoint's own. What an image leaves out is in blocks.
        case files([String: MappedFile], rest: (store: Store, snapshot: Snapshot)?)
        /// Packed blocks.
        case store(Store, Snapshot)
    }

    /// The ref or path it was asked for by.
    public let name: String
    /// Nil outside a store.
    public let id: ContentID?
    /// Of all files, weights and optimizer state, file by file.
    public let tensors: [TensorEntry]
    let origin: Origin
    /// The files beside the weights.
    public let sidecars: Sidecars

    fileprivate init(name: String, id: ContentID?, tensors: [TensorEntry], origin: Origin, sidecars: Sidecars) {
        self.name = name
        self.id = id
        self.tensors = tensors
        self.origin = origin
        self.sidecars = sidecars
    }

    /// The same checkpoint with `tensors` mapped.
    init(_ other: CheckpointContents, tensors: [TensorEntry], maps: [String: MappedFile]) {
        self.init(name: other.name, id: other.id, tensors: tensors, origin: .files(maps, rest: nil), sidecars: other.sidecars)
    }

    /// The same checkpoint with those of its tensors that are wanted.
    public func keeping(_ isWanted: (TensorEntry) -> Bool) -> CheckpointContents {
        CheckpointContents(name: name, id: id, tensors: tensors.filter(isWanted), origin: origin, sidecars: sidecars)
    }

    /// Whether every tensor that has no strides is mapped whole, so that `withBytes` hands out any range of it in place.
    public var isMapped: Bool {
        if case .files(let maps, let rest) = origin { rest == nil || tensors.allSatisfy { maps[$0.file] != nil } } else { false }
    }

    /// Whether its weights are mapped files. Optimizer state may be left out of them.
    package var hasImage: Bool { if case .files = origin { true } else { false } }

    /// Maps the files below `directory` that hold `tensors`: opened now, they stay readable when they are deleted.
    ///
    /// - Parameter leavingOut: those of parts whose files are not there.
    fileprivate static func map(
        _ tensors: [TensorEntry], in directory: String, leavingOut: Set<PartKind> = []
    ) throws -> [String: MappedFile] {
        var maps: [String: MappedFile] = [:]
        for tensor in tensors where maps[tensor.file] == nil && !leavingOut.contains(tensor.part) {
            maps[tensor.file] = try MappedFile(directory + "/" + tensor.file)
        }
        return maps
    }

    /// Opens a checkpoint outside a store: a file or a model directory.
    ///
    /// - Throws: `.badInput`, `.incomplete`.
    public init(path: String) throws(StoreError) {
        self = try throwingStoreErrors {
            guard let source = try CheckpointScan.checkpoints(at: path, asOne: true).finished.first else {
                throw StoreError(.badInput, "\(path): no checkpoint")
            }
            let reader = try CheckpointReader(source)
            let tensors = reader.files.flatMap { file in
                file.layout.tensors.map { tensor in
                    TensorEntry(
                        name: tensor.name, file: file.source.path, part: file.source.part, dtype: tensor.dtype,
                        shape: tensor.shape, strides: tensor.strides, storage: nil, storageOffset: tensor.offset,
                        fileOffset: file.layout.storages[tensor.storage].offset + tensor.offset)
                }
            }
            let isFile = FileSystem.status(source.path)?.isRegular == true
            let directory = isFile ? FileSystem.parent(source.path) ?? "." : source.path
            let maps = try CheckpointContents.map(tensors, in: directory)
            return CheckpointContents(
                name: path, id: nil, tensors: tensors, origin: .files(maps, rest: nil),
                sidecars: Sidecars(name: path, origin: .directory(directory)))
        }
    }

    /// A reader for one thread.
    ///
    /// - Throws: `.noSuchRef` when the snapshot was removed meanwhile. A reader that is there goes on reading what was.
    public func makeReader() throws(StoreError) -> TensorReader { try makeReader(remembering: nil) }

    /// One that shares what it decodes with others of the same store and thread.
    package func makeReader(remembering recent: RecentBlocks?) throws(StoreError) -> TensorReader {
        try throwingStoreErrors {
            func blocks(_ store: Store, _ snapshot: Snapshot) throws -> BlockReader {
                let generation = store.openGeneration
                let transaction = try generation.environment.beginRead()
                try transaction.checkHolds(generation.tables, snapshot, named: name)
                return BlockReader(transaction, generation.tables, recent)
            }
            switch origin {
            case .files(let maps, let rest):
                // A reader of what is mapped holds no transaction.
                let isNeeded = rest != nil && !isMapped
                return TensorReader(.files(maps, rest: isNeeded ? try rest.map { try blocks($0.store, $0.snapshot) } : nil))
            case .store(let store, let snapshot): return TensorReader(.blocks(try blocks(store, snapshot)))
            }
        }
    }
}

extension CheckpointContents {
    /// The identity of each of a tensor's blocks, in the order of `blockRanges`; nil for tensors outside a store, and views of others' storages. Equal
    /// ones are equal bytes, in images too.
    package func blockIdentities(of tensors: [TensorEntry]) throws(StoreError) -> [[ContentID]?] {
        guard case .store(let store, let snapshot) = sidecars.origin else { return tensors.map { _ in nil } }
        return try throwingStoreErrors {
            let generation = store.openGeneration
            let transaction = try generation.environment.beginRead()
            try transaction.checkHolds(generation.tables, snapshot, named: name)
            return try tensors.map { tensor in
                guard tensor.strides == nil, tensor.storageOffset == 0, let storage = tensor.storage,
                    let record = try transaction.tensorRecord(generation.tables, storage),
                    record.grid == Grid(dtype: tensor.dtype, shape: tensor.shape)
                else { return nil }
                return record.blocks
            }
        }
    }

    /// A reader for one thread of the packed blocks of several snapshots of one store, whether or not they have images.
    ///
    /// - Throws: `.noSuchRef` when one of them was removed meanwhile.
    package static func makeReader(of snapshots: [CheckpointContents], in store: Store, remembering recent: RecentBlocks) throws(StoreError) -> TensorReader {
        try throwingStoreErrors {
            let generation = store.openGeneration
            let transaction = try generation.environment.beginRead()
            for contents in snapshots {
                guard case .store(_, let snapshot) = contents.sidecars.origin else { continue }
                try transaction.checkHolds(generation.tables, snapshot, named: contents.name)
            }
            return TensorReader(.blocks(BlockReader(transaction, generation.tables, recent)))
        }
    }
}

extension Store {
    /// The tensors of `ref`, read from its image where it has one, else block by block.
    public func contents(_ ref: String) throws(StoreError) -> CheckpointContents {
        try throwingStoreErrors { try contents(resolve(ref), name: ref) }
    }

    /// Those of a snapshot, named as people name it.
    package func contents(of id: ContentID) throws(StoreError) -> CheckpointContents {
        try throwingStoreErrors { try contents(resolve("\(id)"), name: name(of: id)) }
    }

    private func contents(_ id: ContentID, name: String) throws -> CheckpointContents {
        let snapshot = try loadSnapshot(id)
        let tensors = snapshot.tensors
        // An image may be dropped between the two steps, or damaged: the blocks are always there.
        let image = try soundImage(snapshot)
        let maps = image.flatMap { image in
            try? CheckpointContents.map(tensors, in: image.path, leavingOut: image.isWhole ? [] : [.optimizer])
        }
        let origin: CheckpointContents.Origin =
            if let image, let maps { .files(maps, rest: image.isWhole ? nil : (self, snapshot)) } else { .store(self, snapshot) }
        return CheckpointContents(
            name: name, id: snapshot.id, tensors: tensors, origin: origin, sidecars: Sidecars(name: name, origin: .store(self, snapshot)))
    }
}

/// Reads tensors as sequences of bytes: in place where they are mapped, decoded into a reused buffer where they
/// are packed. For one thread; holds a read transaction while it lives.
public final class TensorReader {
    fileprivate enum Backing {
        case files([String: MappedFile], rest: BlockReader?)
        case blocks(BlockReader)
    }

    /// A stride of zero makes any size out of one element.
    private static let maximumGatheredBytes: UInt64 = 16 << 30

    private let backing: Backing
    /// The last tensor that had to be gathered element by element.
    private var gathered: (identity: GatheredKey, bytes: [UInt8])?

    private struct GatheredKey: Equatable {
        var file: String
        var name: String
        var identity: TensorIdentity?
    }

    fileprivate init(_ backing: Backing) { self.backing = backing }

    /// Calls `body` with bytes `range` of the tensor's elements in row-major order.
    ///
    /// In place and without reading when the bytes are mapped whole; a range on the tensor's own `Grid` is one block.
    /// A tensor whose strides are not contiguous is gathered once, whole, in memory.
    public func withBytes<R>(
        of tensor: TensorEntry, _ range: Range<UInt64>, _ body: (UnsafeRawBufferPointer) throws -> R
    ) throws -> R {
        guard range.upperBound <= tensor.byteCount else {
            throw StoreError(.failed, "\(tensor.name): bytes \(range) of \(tensor.byteCount) asked for")
        }
        if tensor.strides != nil {
            let bytes = try gather(tensor)
            return try bytes.withUnsafeBytes {
                try body(UnsafeRawBufferPointer(rebasing: $0[Int(range.lowerBound)..<Int(range.upperBound)]))
            }
        }
        return try withStorageBytes(of: tensor, range, body)
    }

    /// Bytes `range` from the tensor's first element on, as they lie in its storage.
    private func withStorageBytes<R>(
        of tensor: TensorEntry, _ range: Range<UInt64>, _ body: (UnsafeRawBufferPointer) throws -> R
    ) throws -> R {
        switch backing {
        case .files(let maps, let rest):
            guard let map = maps[tensor.file] else {
                guard let rest else { throw StoreError(.failed, "\(tensor.file): not opened") }
                return try TensorReader.withBytes(of: tensor, range, from: rest, body)
            }
            let start = tensor.fileOffset + range.lowerBound
            guard tensor.fileOffset + range.upperBound <= UInt64(map.bytes.count) else {
                throw StoreError(.damaged, "\(map.path): byte \(map.bytes.count): the file ends inside \(tensor.name)")
            }
            try map.checkLength()
            return try withExtendedLifetime(map) {
                try body(UnsafeRawBufferPointer(rebasing: map.bytes[Int(start)..<Int(start) + range.count]))
            }
        case .blocks(let reader): return try TensorReader.withBytes(of: tensor, range, from: reader, body)
        }
    }

    private static func withBytes<R>(
        of tensor: TensorEntry, _ range: Range<UInt64>, from reader: BlockReader, _ body: (UnsafeRawBufferPointer) throws -> R
    ) throws -> R {
        guard let storage = tensor.storage else { throw StoreError(.failed, "\(tensor.name): not in a store") }
        let start = tensor.storageOffset + range.lowerBound
        return try body(reader.bytes(of: storage, start..<(start + UInt64(range.count))))
    }

    /// Whether every block of a stored tensor's storage is kept raw.
    func isKeptRaw(_ tensor: TensorEntry) throws -> Bool {
        guard case .blocks(let reader) = backing, let storage = tensor.storage else { return false }
        return try reader.isKeptRaw(storage)
    }

    private func gather(_ tensor: TensorEntry) throws -> [UInt8] {
        let key = GatheredKey(file: tensor.file, name: tensor.name, identity: tensor.identity)
        if let gathered, gathered.identity == key { return gathered.bytes }
        let view = PartManifest.Tensor(
            name: tensor.name, storage: 0, offset: 0, dtype: tensor.dtype, shape: tensor.shape, strides: tensor.strides)
        guard let extent = view.extent, tensor.dtype.bits % 8 == 0 else {
            throw StoreError(.badInput, "\(tensor.name): strides of a \(tensor.dtype.name) tensor cannot be followed")
        }
        guard tensor.byteCount <= TensorReader.maximumGatheredBytes else {
            throw StoreError(.badInput, "\(tensor.name): an expanded tensor of \(tensor.byteCount) bytes is not gathered in memory")
        }
        let bytes = try withStorageBytes(of: tensor, 0..<extent) { Strided.gather($0, view) }
        gathered = (key, bytes)
        return bytes
    }
}

/// Strided elements, laid side by side.
enum Strided {
    /// The elements of `tensor` in row-major order; `storage` begins at its first element. O(elements x rank).
    static func gather(_ storage: UnsafeRawBufferPointer, _ tensor: PartManifest.Tensor) -> [UInt8] {
        let size = tensor.dtype.bits / 8
        let strides = tensor.strides ?? []
        let count = Int(tensor.byteCount) / max(1, size)
        return [UInt8](unsafeUninitializedCapacity: count * size) { target, initialized in
            var index = [UInt64](repeating: 0, count: tensor.shape.count)
            var element: UInt64 = 0
            for position in 0..<count {
                let source = UnsafeRawBufferPointer(rebasing: storage[Int(element) * size..<(Int(element) + 1) * size])
                UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(target)[position * size..<(position + 1) * size])
                    .copyMemory(from: source)
                var dim = tensor.shape.count - 1
                while dim >= 0 {
                    index[dim] += 1
                    element += strides[dim]
                    if index[dim] < tensor.shape[dim] { break }
                    element -= strides[dim] * tensor.shape[dim]
                    index[dim] = 0
                    dim -= 1
                }
            }
            initialized = count * size
        }
    }
}

/// Reads tensors from blocks inside one read transaction.
final class BlockReader {
    private let transaction: ReadTransaction
    private let tables: Tables
    /// Made when the first packed block is met: views of raw blocks need none.
    private var lane: CodecLane?
    private var last: (id: ContentID, record: TensorRecord)?
    /// Holds ranges that span blocks.
    private var assembled = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private let recent: RecentBlocks?

    init(_ transaction: consuming ReadTransaction, _ tables: Tables, _ recent: RecentBlocks? = nil) {
        self.transaction = transaction
        self.tables = tables
        self.recent = recent
    }

    deinit { assembled.deallocate() }

    func record(_ tensor: ContentID) throws -> TensorRecord {
        if let last, last.id == tensor { return last.record }
        guard let record = try transaction.tensorRecord(tables, tensor) else {
            throw StoreError(.damaged, "store: tensor \(tensor) is missing", hint: "run ckpt verify")
        }
        last = (tensor, record)
        return record
    }

    /// Block `index` of a tensor: in place when it is kept raw. Valid until the next call.
    func block(_ index: Int, of record: TensorRecord) throws -> UnsafeRawBufferPointer {
        let count = record.grid.range(index).count
        if let raw = try transaction.rawBlock(tables, record.blocks[index], count: count) { return raw }
        let lane = try self.lane ?? CodecLane()
        self.lane = lane
        if let recent { return try transaction.blockBytes(tables, record.blocks[index], count: count, lane, recent: recent, for: self) }
        return try transaction.blockBytes(tables, record.blocks[index], count: count, lane)
    }

    func isKeptRaw(_ tensor: ContentID) throws -> Bool {
        let record = try record(tensor)
        for (index, block) in record.blocks.enumerated() {
            guard try transaction.rawBlock(tables, block, count: record.grid.range(index).count) != nil else { return false }
        }
        return true
    }

    /// Bytes `range` of a stored tensor; copied only when they span blocks. Valid until the next call.
    func bytes(of tensor: ContentID, _ range: Range<UInt64>) throws -> UnsafeRawBufferPointer {
        let record = try record(tensor)
        let grid = record.grid
        guard !range.isEmpty else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        guard range.upperBound <= grid.byteCount else {
            throw StoreError(.damaged, "store: tensor \(tensor) is shorter than its file says", hint: "run ckpt verify")
        }
        var index = grid.block(at: range.lowerBound)
        if range.upperBound <= grid.range(index).upperBound {
            return try part(range, ofBlock: index, of: record)
        }
        if assembled.count < range.count {
            assembled.deallocate()
            assembled = .allocate(byteCount: range.count, alignment: 64)
        }
        var done = 0
        while done < range.count {
            let piece = try part(grid.range(index).clamped(to: range), ofBlock: index, of: record)
            UnsafeMutableRawBufferPointer(rebasing: assembled[done..<(done + piece.count)]).copyMemory(from: piece)
            done += piece.count
            index += 1
        }
        return UnsafeRawBufferPointer(rebasing: assembled[..<range.count])
    }

    /// Bytes `range` of the tensor, all of them inside block `index`.
    private func part(
        _ range: Range<UInt64>, ofBlock index: Int, of record: TensorRecord
    ) throws -> UnsafeRawBufferPointer {
        let bytes = try block(index, of: record)
        let start = Int(range.lowerBound - record.grid.range(index).lowerBound)
        return UnsafeRawBufferPointer(rebasing: bytes[start..<(start + range.count)])
    }
}
