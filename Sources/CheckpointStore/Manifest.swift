public import TensorFormats

/// The three parts of a snapshot. The raw values are in the format.
public enum PartKind: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    /// Files with the model's tensors.
    case weights = 1
    /// State that a training goes on from.
    case optimizer = 2
    /// Everything else: configuration, tokenizer, indexes of shards.
    case sidecars = 3

    /// As the format and JSON have it.
    public var description: String {
        switch self {
        case .weights: "weights"
        case .optimizer: "optimizer"
        case .sidecars: "sidecars"
        }
    }
}

/// A snapshot's canonical manifest: its parts. The snapshot's id is the SHA-256 of these bytes.
public struct SnapshotManifest: Sendable, Equatable {
    static let magic = Array("ckptsnp1".utf8)

    /// One part, by its id.
    public struct Part: Sendable, Equatable {
        public var kind: PartKind
        public var id: ContentID
    }

    /// By kind; each kind at most once.
    public var parts: [Part]

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: SnapshotManifest.magic)
        writer.put(UInt32(parts.count))
        for part in parts {
            writer.put(part.kind.rawValue)
            writer.put(part.id)
        }
        return writer.bytes
    }

    init(parts: [Part]) { self.parts = parts }

    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        guard try reader.takeBytes(8) == SnapshotManifest.magic else { throw reader.damage("not a snapshot manifest") }
        parts = []
        for _ in 0..<(try reader.takeCount(itemBytes: 33)) {
            guard let kind = PartKind(rawValue: try reader.take()), kind.rawValue > parts.last?.kind.rawValue ?? 0
            else { throw reader.damage("part kinds out of order") }
            parts.append(Part(kind: kind, id: try reader.takeID()))
        }
        try reader.finish()
    }
}

/// A part's canonical manifest: its files, in byte order of their paths. The part's id is the SHA-256 of these
/// bytes.
public struct PartManifest: Sendable, Equatable {
    static let magic = Array("ckptprt1".utf8)

    /// A run of tensor data inside a file, and the stored tensor that has its bytes.
    public struct Storage: Sendable, Equatable {
        /// Bytes from the start of the file.
        public var offset: UInt64
        /// Bytes.
        public var length: UInt64
        /// The stored tensor.
        public var tensor: ContentID
    }

    /// A named view of a storage.
    public struct Tensor: Sendable, Equatable {
        public var name: String
        /// Index into the file's storages.
        public var storage: Int
        /// Bytes from the start of the storage.
        public var offset: UInt64
        public var dtype: DType
        public var shape: [UInt64]
        /// In elements; nil when contiguous.
        public var strides: [UInt64]?
    }

    /// A file of the part, or an empty directory.
    public struct File: Sendable, Equatable {
        /// Relative to the checkpoint, components joined by `/`.
        public var path: String
        /// How it was cut.
        public var format: TensorFile.Format
        /// An empty directory is kept as an entry without bytes.
        public var isDirectory: Bool
        /// Bytes.
        public var size: UInt64
        /// The stored U8 tensor of every byte that is in no storage, in order; nil when there is none.
        public var skeleton: ContentID?
        /// By ascending offset, not overlapping.
        public var storages: [Storage]
        /// By name.
        public var tensors: [Tensor]

        /// The ranges of the file that the skeleton fills, in order.
        public var skeletonRanges: [Range<UInt64>] {
            var ranges: [Range<UInt64>] = []
            var end: UInt64 = 0
            for storage in storages where storage.length > 0 {
                if storage.offset > end { ranges.append(end..<storage.offset) }
                end = storage.offset + storage.length
            }
            if size > end { ranges.append(end..<size) }
            return ranges
        }
    }

    public var kind: PartKind
    /// By path, in byte order.
    public var files: [File]

    /// Every stored tensor the part uses, once a use.
    var uses: [ContentID] {
        files.flatMap { file in file.storages.map(\.tensor) + (file.skeleton.map { [$0] } ?? []) }
    }

    /// Bytes of all files.
    public var byteCount: UInt64 { files.reduce(0) { $0 + $1.size } }

    init(kind: PartKind, files: [File]) {
        self.kind = kind
        self.files = files
    }
}

extension PartManifest {
    private static let directoryFormat: UInt8 = 255
    /// Dimensions a tensor may have. The same everywhere in the format.
    static let maximumRank = 64
    /// Bytes of a part's files, so that no sum of sizes can overflow.
    private static let maximumBytes: UInt64 = 1 << 55

    /// Whether the strides are those of a row-major tensor, dimensions of one index aside.
    private static func isContiguous(_ shape: [UInt64], _ strides: [UInt64]) -> Bool {
        if shape.contains(0) { return true }
        var expected: UInt64 = 1
        for (dim, stride) in zip(shape, strides).reversed() where dim > 1 {
            if stride != expected { return false }
            expected = expected.multipliedReportingOverflow(by: dim).partialValue
        }
        return true
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: PartManifest.magic)
        writer.put(kind.rawValue)
        writer.put(UInt32(files.count))
        for file in files {
            writer.put(file.path)
            writer.put(file.isDirectory ? PartManifest.directoryFormat : file.format.rawValue)
            writer.put(file.size)
            writer.put(UInt8(file.skeleton == nil ? 0 : 1))
            if let skeleton = file.skeleton { writer.put(skeleton) }
            writer.put(UInt32(file.storages.count))
            for storage in file.storages {
                writer.put(storage.offset)
                writer.put(storage.length)
                writer.put(storage.tensor)
            }
            writer.put(UInt32(file.tensors.count))
            for tensor in file.tensors { PartManifest.put(tensor, &writer) }
        }
        return writer.bytes
    }

    private static func put(_ tensor: Tensor, _ writer: inout ByteWriter) {
        writer.put(tensor.name)
        writer.put(UInt32(tensor.storage))
        writer.put(tensor.offset)
        writer.put(tensor.dtype.rawValue)
        writer.put(UInt8(tensor.shape.count))
        for dim in tensor.shape { writer.put(dim) }
        writer.put(UInt8(tensor.strides == nil ? 0 : 1))
        for stride in tensor.strides ?? [] { writer.put(stride) }
    }

    /// Reads and checks a manifest: paths safe and in order, storages inside their file and apart, tensors
    /// inside their storage.
    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        guard try reader.takeBytes(8) == PartManifest.magic else { throw reader.damage("not a part manifest") }
        guard let kind = PartKind(rawValue: try reader.take()) else { throw reader.damage("unknown part kind") }
        var files: [File] = []
        var total: UInt64 = 0
        for _ in 0..<(try reader.takeCount(itemBytes: 22)) {
            let file = try PartManifest.takeFile(&reader)
            if let previous = files.last, !previous.path.utf8.lexicographicallyPrecedes(file.path.utf8) {
                throw reader.damage("files out of order")
            }
            total += file.size
            guard total <= PartManifest.maximumBytes else { throw reader.damage("over \(PartManifest.maximumBytes) bytes of files") }
            files.append(file)
        }
        try reader.finish()
        guard !files.isEmpty else { throw reader.damage("a part without files") }
        self.init(kind: kind, files: files)
    }

    private static func takeFile(_ reader: inout ByteReader) throws -> File {
        let path = try reader.takeString()
        do { try SafePath.check(path, in: "store") } catch { throw reader.damage("unsafe path \"\(path)\"") }
        let code: UInt8 = try reader.take()
        guard let format = code == directoryFormat ? .opaque : TensorFile.Format(rawValue: code) else {
            throw reader.damage("unknown file format \(code)")
        }
        let size: UInt64 = try reader.take()
        guard size <= maximumBytes, code != directoryFormat || size == 0 else {
            throw reader.damage("\"\(path)\" cannot have \(size) bytes")
        }
        let skeleton = try reader.takeFlag() ? try reader.takeID() : nil
        var storages: [Storage] = []
        var end: UInt64 = 0
        for _ in 0..<(try reader.takeCount(itemBytes: 48)) {
            let storage = Storage(offset: try reader.take(), length: try reader.take(), tensor: try reader.takeID())
            let (stop, overflow) = storage.offset.addingReportingOverflow(storage.length)
            guard !overflow, stop <= size, storage.offset >= end, format != .opaque else {
                throw reader.damage("storages overlap, are out of order or reach out of \"\(path)\"")
            }
            end = stop
            storages.append(storage)
        }
        var tensors: [Tensor] = []
        for _ in 0..<(try reader.takeCount(itemBytes: 19)) {
            let tensor = try takeTensor(&reader, storages)
            if let previous = tensors.last, !previous.name.utf8.lexicographicallyPrecedes(tensor.name.utf8) {
                throw reader.damage("tensors of \"\(path)\" out of order")
            }
            tensors.append(tensor)
        }
        let file = File(
            path: path, format: format, isDirectory: code == directoryFormat, size: size, skeleton: skeleton,
            storages: storages, tensors: tensors)
        guard file.skeletonRanges.isEmpty == (skeleton == nil) else {
            throw reader.damage("\"\(path)\" has bytes that nothing holds")
        }
        return file
    }

    private static func takeTensor(_ reader: inout ByteReader, _ storages: [Storage]) throws -> Tensor {
        let name = try reader.takeString()
        let storage = Int(try reader.take(UInt32.self))
        let offset: UInt64 = try reader.take()
        guard let dtype = DType(rawValue: try reader.take()) else { throw reader.damage("unknown dtype") }
        let rank = Int(try reader.take(UInt8.self))
        guard rank <= maximumRank else { throw reader.damage("\(rank) dimensions") }
        var shape: [UInt64] = []
        for _ in 0..<rank { shape.append(try reader.take()) }
        var strides: [UInt64]?
        if try reader.takeFlag() {
            var values: [UInt64] = []
            for _ in 0..<rank { values.append(try reader.take()) }
            strides = values
        }
        let tensor = Tensor(
            name: name, storage: storage, offset: offset, dtype: dtype, shape: shape, strides: strides)
        guard storages.indices.contains(storage), let extent = tensor.extent,
            offset <= storages[storage].length, extent <= storages[storage].length - offset
        else { throw reader.damage("tensor \"\(name)\" reaches out of its storage") }
        if let strides, isContiguous(shape, strides) { throw reader.damage("tensor \"\(name)\" names strides it need not") }
        return tensor
    }
}

extension PartManifest.Tensor {
    /// Bytes of the tensor's elements, side by side.
    public var byteCount: UInt64 { dtype.byteCount(shape: shape) ?? 0 }

    /// Bytes from the first to behind the last element in the storage; nil when that overflows.
    var extent: UInt64? {
        guard let strides else { return dtype.byteCount(shape: shape) }
        guard let count = DType.elementCount(shape: shape) else { return nil }
        guard count > 0 else { return 0 }
        var last: UInt64 = 0
        for (dim, stride) in zip(shape, strides) {
            let (reach, overflow) = (dim - 1).multipliedReportingOverflow(by: stride)
            let (sum, tooFar) = last.addingReportingOverflow(reach)
            guard !overflow, !tooFar else { return nil }
            last = sum
        }
        let (elements, overflow) = last.addingReportingOverflow(1)
        return overflow ? nil : dtype.byteCount(shape: [elements])
    }
}
