internal import LMDB
public import TensorFormats

/// A snapshot, loaded: its files and tensors. A value; holds no transaction and no file.
public struct Snapshot: Sendable {
    public let id: ContentID
    /// The parts that are here, by kind.
    public let parts: [PartManifest]
    /// Parts that were dropped; only their ids are left.
    public let dropped: [SnapshotManifest.Part]

    /// All files, part by part.
    public var files: [PartManifest.File] { parts.flatMap(\.files) }

    /// Bytes of all files.
    public var byteCount: UInt64 { parts.reduce(0) { $0 + $1.byteCount } }
}

/// A tensor of a checkpoint, and where its bytes are.
public struct TensorEntry: Sendable {
    /// As its file has it; of PyTorch files, the keys joined by dots.
    public var name: String
    /// The file that holds it, relative to the checkpoint.
    public var file: String
    public var part: PartKind
    public var dtype: DType
    public var shape: [UInt64]
    /// In elements; nil when contiguous.
    public var strides: [UInt64]?
    /// The stored tensor it is a view of; nil outside a store.
    public var storage: ContentID?
    /// Bytes from the start of the storage, and from the start of the file.
    public var storageOffset: UInt64
    /// Bytes from the start of the file.
    public var fileOffset: UInt64

    /// Bytes of the elements, side by side.
    public var byteCount: UInt64 { dtype.byteCount(shape: shape) ?? 0 }

    /// Equal for tensors that are the same bytes without a look at them; nil outside a store.
    public var identity: TensorIdentity? {
        storage.map {
            TensorIdentity(storage: $0, offset: storageOffset, dtype: dtype, shape: shape, strides: strides)
        }
    }
}

/// Which bytes of which stored tensor: the same for equal tensors wherever they stand.
public struct TensorIdentity: Hashable, Sendable {
    var storage: ContentID
    var offset: UInt64
    var dtype: DType
    var shape: [UInt64]
    var strides: [UInt64]?
}

extension Snapshot {
    /// Every tensor, file by file, in name order in each.
    public var tensors: [TensorEntry] {
        parts.flatMap { part in
            part.files.flatMap { file in file.tensors.map { TensorEntry($0, file, part.kind) } }
        }
    }

    /// The tensor called `name`, or `file:name` where several files have one of that name. Weights are looked
    /// through first, then the optimizer's state.
    ///
    /// - Throws: `.noSuchRef` with the closest there is.
    /// - Complexity: O(files x log tensors).
    public func tensor(_ name: String) throws(StoreError) -> TensorEntry {
        for part in parts {
            var found: [TensorEntry] = []
            for file in part.files {
                if let tensor = Snapshot.find(name, in: file) { found.append(TensorEntry(tensor, file, part.kind)) }
            }
            if found.count == 1 { return found[0] }
            if found.count > 1 {
                throw StoreError(
                    .noSuchRef, "\(name): in \(found.count) files", hint: "say \(found[0].file):\(name)")
            }
        }
        for part in parts {
            for file in part.files where name.hasPrefix(file.path + ":") {
                let rest = String(name.dropFirst(file.path.count + 1))
                if let tensor = Snapshot.find(rest, in: file) { return TensorEntry(tensor, file, part.kind) }
            }
        }
        let first = parts.first?.files.lazy.flatMap(\.tensors).first?.name
        throw StoreError(
            .noSuchRef, "\(name): no such tensor in snapshot \(id.short)",
            hint: first.map { "it has \"\($0)\" and others; ckpt show lists them with --tensors" })
    }

    /// Two files of one path, or a file where another has a directory, could not both be written.
    fileprivate static func checkPaths(_ parts: [PartManifest], _ id: ContentID) throws {
        let paths = parts.flatMap(\.files).map { Array($0.path.utf8) + [0x2F] }.sorted { $0.lexicographicallyPrecedes($1) }
        for (path, next) in zip(paths, paths.dropFirst()) where next.starts(with: path) {
            throw StoreError(.damaged, "store: snapshot \(id) has two files called \(String(decoding: path.dropLast(), as: UTF8.self))")
        }
    }

    private static func find(_ name: String, in file: PartManifest.File) -> PartManifest.Tensor? {
        var low = 0
        var high = file.tensors.count
        while low < high {
            let middle = (low + high) / 2
            if file.tensors[middle].name.utf8.lexicographicallyPrecedes(name.utf8) { low = middle + 1 } else { high = middle }
        }
        guard low < file.tensors.count, file.tensors[low].name.utf8.elementsEqual(name.utf8) else { return nil }
        return file.tensors[low]
    }
}

extension TensorEntry {
    init(_ tensor: PartManifest.Tensor, _ file: PartManifest.File, _ part: PartKind) {
        let storage = file.storages[tensor.storage]
        self.init(
            name: tensor.name, file: file.path, part: part, dtype: tensor.dtype, shape: tensor.shape,
            strides: tensor.strides, storage: storage.tensor, storageOffset: tensor.offset,
            fileOffset: storage.offset + tensor.offset)
    }
}

/// Parts read lately. A part never changes, so there is nothing to invalidate.
final class ManifestCache: Sendable {
    /// Enough for a diff of neighbours and a look back; a manifest of 300 tensors takes some 60 KB.
    private static let capacity = 32
    private let parts = Locked<[(id: ContentID, part: PartManifest)]>([])

    func part(_ id: ContentID, load: () throws -> PartManifest) throws -> PartManifest {
        if let known = parts.withLock({ $0.first { $0.id == id }?.part }) { return known }
        let part = try load()
        parts.withLock { parts in
            if parts.count >= ManifestCache.capacity { parts.removeFirst() }
            parts.append((id, part))
        }
        return part
    }
}

extension Store {
    /// The id that `ref` names.
    func resolve(_ ref: String) throws -> ContentID {
        try read { transaction, tables in try Ref.resolve(ref, transaction, tables) }
    }

    /// The snapshot that `ref` names.
    ///
    /// - Throws: `.noSuchRef`.
    /// - Complexity: O(1) when loaded lately, else O(tensors).
    public func snapshot(_ ref: String) throws(StoreError) -> Snapshot {
        try throwingStoreErrors { try loadSnapshot(resolve(ref)) }
    }

    func loadSnapshot(_ id: ContentID) throws -> Snapshot {
        try read { transaction, tables in
            guard let record = try transaction.snapshotRecord(tables, id) else {
                throw StoreError(.noSuchRef, "\(id): no such snapshot")
            }
            let parts = try record.here.map { part in
                try manifests.part(part.id) {
                    guard let manifest = try transaction.partManifest(tables, part.id) else {
                        throw StoreError(.damaged, "store: part \(part.id) is missing", hint: "run ckpt verify")
                    }
                    return manifest
                }
            }
            try Snapshot.checkPaths(parts, id)
            return Snapshot(
                id: id, parts: parts, dropped: record.manifest.parts.filter { record.dropped.contains($0.kind) })
        }
    }
}
