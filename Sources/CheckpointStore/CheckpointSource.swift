internal import TensorFormats

/// A file of a checkpoint on its way into the store.
struct SourceFile: Sendable {
    /// Relative to the checkpoint; its name in the manifest.
    var path: String
    /// Where it is read.
    var location: String
    var part: PartKind
    var isDirectory: Bool
    var status: FileStatus
    /// Its bytes where they are in memory and not at `location`.
    var memory: FileInMemory?
}

/// One checkpoint found on disk: its files, and the run and step its names suggest.
struct CheckpointSource: Sendable {
    /// The absolute path of the file or directory.
    var path: String
    var run: String
    var step: UInt64
    /// In byte order of their paths.
    var files: [SourceFile]
    /// The names in a shard index, to be found in these files.
    var indexes: [SourceFile]
}

/// Which part of a snapshot a file belongs to, told by its name.
enum PartNaming {
    static func part(of path: String, isSingleFile: Bool) -> PartKind {
        let name = FileSystem.name(path)
        if name.hasPrefix("optimizer") || path.hasPrefix("optimizer") || name.contains("optim_states") {
            return .optimizer
        }
        if name.hasSuffix(".safetensors") || isSingleFile { return .weights }
        let isPickle = isPyTorch(name)
        let weightPrefixes = ["pytorch_model", "model", "adapter_model", "consolidated", "mp_rank_"]
        return isPickle && weightPrefixes.contains { name.hasPrefix($0) } ? .weights : .sidecars
    }

    static func isPyTorch(_ name: String) -> Bool {
        [".bin", ".pt", ".pth"].contains { name.hasSuffix($0) }
    }

    static func isShardIndex(_ name: String) -> Bool {
        name.hasSuffix(".safetensors.index.json") || name.hasSuffix(".bin.index.json")
    }

    /// The number at the end of names such as `checkpoint-500`, `step_500`, `epoch3`; nil for shards
    /// (`model-00001-of-00002`) and names without one.
    static func step(of name: String) -> UInt64? {
        var stem = name[...]
        for suffix in [".safetensors", ".bin", ".pt", ".pth"] where stem.hasSuffix(suffix) {
            stem = stem.dropLast(suffix.count)
            break
        }
        let digits = stem.reversed().prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, digits.count < 20 else { return nil }
        let front = stem.dropLast(digits.count)
        guard !front.hasSuffix("-of-"), front.isEmpty || front.hasSuffix("-") || front.hasSuffix("_")
            || ["step", "epoch", "iter", "checkpoint"].contains(where: { front.hasSuffix($0) })
        else { return nil }
        return UInt64(String(digits.reversed()))
    }

    /// `checkpoint-N` as trainers name their directories.
    static func checkpointStep(_ name: String) -> UInt64? {
        guard name.hasPrefix("checkpoint-") || name.hasPrefix("global_step") || name.hasPrefix("step") else { return nil }
        return step(of: name)
    }

    /// A run name made of a directory's name: characters that refs use are replaced.
    static func run(named name: String) -> String {
        let text = String(name.map { $0.isLetter || $0.isNumber || "._-".contains($0) ? $0 : "_" })
        let isPlain = !text.isEmpty && !text.hasPrefix("-")
        // Four bytes a character at most keep this far under the limit of a name.
        return String((isPlain ? text : "run" + text).prefix(40))
    }
}
