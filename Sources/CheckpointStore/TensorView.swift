internal import LMDB
public import TensorFormats

/// A tensor seen in place: nothing is read or copied to make one.
///
/// Over an image it maps the snapshot's own file and holds no transaction. Over blocks kept raw it holds a read
/// transaction while it lives, so drop it before long. No alignment is promised: use unaligned loads.
public final class TensorView {
    private enum Backing {
        case file(MappedFile, offset: Int)
        case blocks(BlockReader, TensorRecord)
    }

    public let dtype: DType
    public let shape: [UInt64]
    /// In elements; nil when contiguous.
    public let strides: [UInt64]?
    private let backing: Backing
    private let byteCount: Int

    fileprivate init(_ entry: TensorEntry, file: MappedFile) throws {
        let view = PartManifest.Tensor(
            name: entry.name, storage: 0, offset: 0, dtype: entry.dtype, shape: entry.shape, strides: entry.strides)
        guard let extent = view.extent, entry.fileOffset <= UInt64(file.bytes.count),
            extent <= UInt64(file.bytes.count) - entry.fileOffset
        else { throw StoreError(.damaged, "\(file.path): ends inside \(entry.name)", hint: "run ckpt verify") }
        dtype = entry.dtype
        shape = entry.shape
        strides = entry.strides
        byteCount = Int(extent)
        backing = .file(file, offset: Int(entry.fileOffset))
    }

    fileprivate init(_ entry: TensorEntry, reader: BlockReader, record: TensorRecord) {
        dtype = entry.dtype
        shape = entry.shape
        strides = nil
        byteCount = Int(entry.byteCount)
        backing = .blocks(reader, record)
    }

    /// Row blocks it consists of: 1 over an image, else the blocks of its grid.
    public var rowBlockCount: Int {
        switch backing {
        case .file: 1
        // A tensor may be the first part of its storage only.
        case .blocks(_, let record): byteCount == 0 ? 0 : record.grid.block(at: UInt64(byteCount) - 1) + 1
        }
    }

    /// The bytes of row block `index`, in place. Over a strided view: from its first to its last element.
    ///
    /// - Throws: `.damaged` when the block is missing.
    public func withRowBlock<R>(_ index: Int, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
        switch backing {
        case .file(let file, let offset):
            return try withExtendedLifetime(file) {
                try body(UnsafeRawBufferPointer(rebasing: file.bytes[offset..<(offset + byteCount)]))
            }
        case .blocks(let reader, let record):
            let bytes = try reader.block(index, of: record)
            let left = byteCount - Int(record.grid.range(index).lowerBound)
            return try body(UnsafeRawBufferPointer(rebasing: bytes[..<min(bytes.count, left)]))
        }
    }
}

extension Store {
    /// A view of `tensor` of `snapshot` over its image; nil when it has none.
    ///
    /// - Complexity: O(1).
    package func mappedView(of tensor: TensorEntry, in snapshot: Snapshot) throws(StoreError) -> TensorView? {
        try throwingStoreErrors {
            guard try read({ transaction, tables in try transaction.contains(tables[.image], snapshot.id.bytes) }),
                let map = try? maps.map(ImageWriter.path(path, snapshot.id) + "/" + tensor.file)
            else { return nil }
            return try TensorView(tensor, file: map)
        }
    }

    /// A view of the tensor `name` of `snapshot`: over its image when it has one, else over its blocks.
    ///
    /// - Throws: `.noSuchRef`; `.failed` for a strided tensor of a snapshot without an image.
    /// - Complexity: O(files x log tensors), whatever the size of the model. Blocks that are packed are decoded as
    ///   they are asked for; those kept raw are handed out in place.
    public func view(of name: String, in snapshot: Snapshot) throws(StoreError) -> TensorView {
        let entry = try snapshot.tensor(name)
        return try throwingStoreErrors {
            let generation = try currentGeneration()
            let transaction = try generation.environment.beginRead()
            if let view = try mappedView(of: entry, in: snapshot) { return view }
            guard let storage = entry.storage, entry.strides == nil, entry.storageOffset == 0 else {
                throw StoreError(
                    .failed, "\(name): a strided view needs the snapshot's image", hint: "ckpt path makes one")
            }
            try transaction.checkHolds(generation.tables, snapshot, named: "\(snapshot.id.short)")
            let reader = BlockReader(transaction, generation.tables)
            return TensorView(entry, reader: reader, record: try reader.record(storage))
        }
    }
}
