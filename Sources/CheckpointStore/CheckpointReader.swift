internal import TensorFormats

/// A file of a checkpoint, parsed: what its bytes are.
struct ParsedFile {
    var source: SourceFile
    var layout: TensorFile
    /// Indices of the checkpoint's tensors: one a storage, then the skeleton's.
    var storageTensors: [Int]
    var skeletonTensor: Int?
}

/// A tensor to be stored: a storage, or a skeleton as a tensor of bytes.
struct PlannedTensor {
    var file: Int
    var dtype: DType
    var shape: [UInt64]
    var grid: Grid
    /// The ranges of the file that make up its bytes, in order.
    var ranges: [Range<UInt64>]
}

/// A checkpoint with every header parsed: which tensors it is made of and where each block lies.
struct CheckpointReader {
    var source: CheckpointSource
    var files: [ParsedFile] = []
    var tensors: [PlannedTensor] = []
    /// Files kept without a look inside, and values skipped, in words.
    var notes: [String] = []
    private var isOptimizerOnly = false

    var byteCount: UInt64 { files.reduce(0) { $0 + $1.layout.size } }

    /// Parses the headers of all files of `source` but those of parts in `leavingOut`.
    ///
    /// - Throws: `FormatError` naming file, tensor and byte.
    init(_ source: CheckpointSource, leavingOut: Set<PartKind> = []) throws {
        self.source = source
        for file in source.files where !leavingOut.contains(file.part) {
            try add(file)
        }
        try checkIndexes()
        isOptimizerOnly = files.allSatisfy { $0.source.part == .optimizer }
    }

    private mutating func add(_ file: SourceFile) throws {
        let layout = try file.isDirectory ? .opaque(size: 0) : CheckpointReader.layout(of: file, notes: &notes)
        var parsed = ParsedFile(source: file, layout: layout, storageTensors: [], skeletonTensor: nil)
        var skeleton: [Range<UInt64>] = []
        var end: UInt64 = 0
        for tensor in layout.tensors where tensor.shape.count > PartManifest.maximumRank {
            throw FormatError(
                .limit, path: file.location, tensor: tensor.name,
                "\(tensor.shape.count) dimensions; a store holds \(PartManifest.maximumRank) at most")
        }
        for storage in layout.storages {
            guard let grid = Grid(dtype: storage.dtype, shape: storage.shape), grid.byteCount == storage.length else {
                throw FormatError(.malformed, path: file.location, byte: storage.offset, "impossible tensor size")
            }
            let range = storage.offset..<(storage.offset + storage.length)
            if storage.length > 0 {
                if range.lowerBound > end { skeleton.append(end..<range.lowerBound) }
                end = range.upperBound
            }
            parsed.storageTensors.append(tensors.count)
            tensors.append(
                PlannedTensor(
                    file: files.count, dtype: storage.dtype, shape: storage.shape, grid: grid, ranges: [range]))
        }
        if layout.size > end { skeleton.append(end..<layout.size) }
        let skeletonBytes = skeleton.reduce(0) { $0 + UInt64($1.count) }
        if skeletonBytes > 0, let grid = Grid(dtype: .u8, shape: [skeletonBytes]) {
            parsed.skeletonTensor = tensors.count
            tensors.append(
                PlannedTensor(file: files.count, dtype: .u8, shape: [skeletonBytes], grid: grid, ranges: skeleton))
        }
        files.append(parsed)
    }

    /// How a file's bytes are divided. Sidecars are never looked into.
    private static func layout(of file: SourceFile, notes: inout [String]) throws -> TensorFile {
        let name = FileSystem.name(file.path)
        if name.hasSuffix(".safetensors") { return try file.memory.map(Safetensors.read) ?? Safetensors.read(FileBytes(path: file.location)) }
        guard PartNaming.isPyTorch(name), file.part != .sidecars else { return .opaque(size: file.status.size) }
        do throws(FormatError) {
            let layout = if let memory = file.memory { try PyTorchFile.read(memory) } else { try PyTorchFile.read(FileBytes(path: file.location)) }
            if !layout.skipped.isEmpty {
                notes.append("\(file.path): kept, but not built: \(layout.skipped.prefix(4).joined(separator: ", "))")
            }
            return layout
        } catch {
            guard error.code == .unsupported || error.code == .limit else { throw error }
            // Not a zip, one with compressed entries, or one too intricate to read: kept whole, byte for byte, as one opaque file.
            notes.append("\(file.path): kept whole, no tensors read: \(error.reason)")
            return .opaque(size: file.status.size)
        }
    }

    /// Every tensor that a shard index names must be in the shard it names.
    private func checkIndexes() throws {
        for index in source.indexes {
            let bytes = try index.contents()
            let directory = index.path.dropLast(FileSystem.name(index.path).count)
            var names: [ExactName: Set<ExactName>] = [:]
            for entry in try ShardIndex(parsing: bytes, path: index.location).weightMap {
                let path = ExactName(directory + entry.file)
                if names[path] == nil {
                    guard let file = files.first(where: { ExactName($0.source.path) == path }),
                        file.layout.format != .opaque
                    else { continue }
                    names[path] = Set(file.layout.tensors.map { ExactName($0.name) })
                }
                guard names[path]!.contains(ExactName(entry.tensor)) else {
                    throw StoreError(
                        .incomplete,
                        "\(source.path)/\(path.string): tensor \"\(entry.tensor)\" is missing, which \(index.path) puts there",
                        hint: "the shards and the index are not of one checkpoint")
                }
            }
        }
    }

    /// Whether an image of the checkpoint has this file: see `Snapshot.filesOfImages`.
    func isInImages(_ file: SourceFile) -> Bool { file.part != .optimizer || isOptimizerOnly }

    /// The ranges of the file that block `index` of `tensor` is read from.
    func ranges(ofBlock index: Int, in tensor: PlannedTensor) -> [Range<UInt64>] {
        Ranges.slice(tensor.ranges, tensor.grid.range(index))
    }
}

/// Byte ranges seen as one run of bytes.
enum Ranges {
    /// The parts of `ranges`, laid end to end, that bytes `wanted` of that run fall on.
    static func slice(_ ranges: [Range<UInt64>], _ wanted: Range<UInt64>) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var start: UInt64 = 0
        for range in ranges {
            let end = start + UInt64(range.count)
            let low = max(start, wanted.lowerBound)
            let high = min(end, wanted.upperBound)
            if low < high { result.append((range.lowerBound + low - start)..<(range.lowerBound + high - start)) }
            if end >= wanted.upperBound { break }
            start = end
        }
        return result
    }
}
