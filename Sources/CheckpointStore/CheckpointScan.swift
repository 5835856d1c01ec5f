internal import TensorFormats

/// Finds the checkpoints a path stands for, and refuses those that are still being written.
struct CheckpointScan {
    /// By step.
    var finished: [CheckpointSource]
    /// Why the first unfinished one of a series was refused.
    var refusal: (any Error)?

    /// Sub-directories nested deeper than this are a loop of links.
    private static let maximumDepth = 16

    /// The checkpoints at `path`, by step. Nothing but names, sizes and small JSON files is read.
    ///
    /// - Parameter asOne: take a directory as one checkpoint even when it holds `checkpoint-N` directories.
    /// - Parameter leavingOut: a store's directory, which is part of no checkpoint.
    /// - Throws: `.badInput` when there is none, `.incomplete` when the only one is half written.
    static func checkpoints(at path: String, asOne: Bool, leavingOut store: String? = nil) throws -> CheckpointScan {
        guard let absolute = FileSystem.absolute(path), let status = FileSystem.status(absolute) else {
            throw StoreError(.badInput, "\(path): no such file or directory")
        }
        if status.isRegular { return CheckpointScan(finished: [try single(path, absolute, status)]) }
        guard status.isDirectory else { throw StoreError(.badInput, "\(path): neither a file nor a directory") }

        let names = try FileSystem.list(absolute)
        if !asOne {
            if let series = try seriesOfDirectories(path, absolute, names, store) { return series }
            let files = try seriesOfFiles(path, absolute, names)
            if !files.isEmpty { return CheckpointScan(finished: files) }
        }
        var leftOut = Set(store.map { [$0] } ?? [])
        if asOne { leftOut.formUnion(names.filter { PartNaming.checkpointStep($0) != nil }.map { absolute + "/" + $0 }) }
        return CheckpointScan(finished: [try directory(path, absolute, leavingOut: leftOut)])
    }

    /// A trainer's output directory: its `checkpoint-N` directories.
    private static func seriesOfDirectories(
        _ path: String, _ absolute: String, _ names: [String], _ store: String?
    ) throws -> CheckpointScan? {
        let steps = names.compactMap { name -> (step: UInt64, name: String)? in
            guard let step = PartNaming.checkpointStep(name), FileSystem.status(absolute + "/" + name)?.isDirectory == true
            else { return nil }
            return (step, name)
        }.sorted { $0.step < $1.step }
        // DeepSpeed keeps a global_stepN directory inside one checkpoint: a model beside it makes it that.
        if steps.allSatisfy({ $0.name.hasPrefix("global_step") }), names.contains(where: isWeights) { return nil }
        var scan = CheckpointScan(finished: [])
        for (_, name) in steps {
            do {
                scan.finished.append(
                    try directory(path + "/" + name, absolute + "/" + name, leavingOut: Set(store.map { [$0] } ?? [])))
            } catch {
                if scan.refusal == nil { scan.refusal = error }
            }
        }
        return steps.isEmpty ? nil : scan
    }

    private static func isWeights(_ name: String) -> Bool {
        PartNaming.part(of: name, isSingleFile: false) == .weights
    }

    /// A directory of single-file checkpoints: every weights file's name ends in its step.
    private static func seriesOfFiles(
        _ path: String, _ absolute: String, _ names: [String]
    ) throws -> [CheckpointSource] {
        let weights = names.filter { $0.hasSuffix(".safetensors") }
        let isModel = names.contains { $0 == "config.json" || PartNaming.isShardIndex($0) }
        guard !weights.isEmpty, !isModel, weights.allSatisfy({ PartNaming.step(of: $0) != nil }) else { return [] }
        return try weights.map { name in
            let location = absolute + "/" + name
            guard let status = FileSystem.status(location) else {
                throw StoreError(.badInput, "\(path)/\(name): vanished while it was looked at")
            }
            return try single(path + "/" + name, location, status)
        }.sorted { $0.step < $1.step }
    }

    private static func single(_ path: String, _ absolute: String, _ status: FileStatus) throws -> CheckpointSource {
        let name = FileSystem.name(absolute)
        guard name.hasSuffix(".safetensors") || PartNaming.isPyTorch(name) else {
            throw StoreError(
                .badInput, "\(path): not a checkpoint",
                hint: "give a .safetensors, .bin, .pt or .pth file, a model directory or a trainer's output directory")
        }
        let parent = FileSystem.name(FileSystem.parent(absolute) ?? "run")
        let file = SourceFile(path: name, location: absolute, part: .weights, isDirectory: false, status: status)
        return CheckpointSource(
            path: absolute, run: PartNaming.run(named: parent), step: PartNaming.step(of: name) ?? 0, files: [file],
            indexes: [])
    }

    /// A model directory, kept whole.
    private static func directory(
        _ path: String, _ absolute: String, leavingOut: Set<String>
    ) throws -> CheckpointSource {
        var files: [SourceFile] = []
        try collect(absolute, prefix: "", depth: 0, leavingOut: leavingOut, &files)
        files.sort { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
        let name = FileSystem.name(absolute)
        let isNumbered = PartNaming.checkpointStep(name) != nil
        let run = isNumbered ? FileSystem.name(FileSystem.parent(absolute) ?? "run") : name
        let source = CheckpointSource(
            path: absolute, run: PartNaming.run(named: run),
            step: try trainerStep(absolute) ?? PartNaming.checkpointStep(name) ?? 0, files: files,
            indexes: files.filter { PartNaming.isShardIndex($0.path) })
        try Completeness.check(source, path: path)
        return source
    }

    private static func collect(
        _ directory: String, prefix: String, depth: Int, leavingOut: Set<String>, _ files: inout [SourceFile]
    ) throws {
        guard depth < maximumDepth else {
            throw StoreError(.badInput, "\(directory): directories nested \(depth) deep", hint: "is it a loop of links?")
        }
        let names = try FileSystem.list(directory)
        for name in names {
            let location = directory + "/" + name
            if leavingOut.contains(location) { continue }
            let path = prefix + name
            guard let status = FileSystem.status(location), status.isRegular || status.isDirectory else {
                throw StoreError(
                    .badInput, "\(location): neither a file nor a directory (a broken link, a pipe?)",
                    hint: "remove it, or ingest the files by themselves")
            }
            try SafePath.check(path, in: directory)
            if status.isDirectory {
                try collect(location, prefix: path + "/", depth: depth + 1, leavingOut: leavingOut, &files)
            } else {
                let part = PartNaming.part(of: path, isSingleFile: false)
                files.append(SourceFile(path: path, location: location, part: part, isDirectory: false, status: status))
            }
        }
        if names.isEmpty, depth > 0, let status = FileSystem.status(directory) {
            let path = String(prefix.dropLast())
            files.append(SourceFile(path: path, location: directory, part: .sidecars, isDirectory: true, status: status))
        }
    }

    /// `global_step` of the Hugging Face Trainer's state.
    private static func trainerStep(_ directory: String) throws -> UInt64? {
        guard let bytes = try FileSystem.contents(directory + "/trainer_state.json"),
            let state = try? JSONValue.parse(bytes, path: directory + "/trainer_state.json", isLenient: true)
        else { return nil }
        return state["global_step"]?.unsigned
    }
}

/// Tells a finished checkpoint from one that a trainer is still writing, or died writing.
enum Completeness {
    private static let hint = "ingest it again when the trainer has finished writing it"

    static func check(_ source: CheckpointSource, path: String) throws {
        let names = Set(source.files.map { ExactName($0.path) })
        guard source.files.contains(where: { $0.part == .weights }) else {
            let isCheckpoint = PartNaming.checkpointStep(FileSystem.name(source.path)) != nil
            throw StoreError(
                isCheckpoint ? .incomplete : .badInput, "\(path): no model weights in it",
                hint: isCheckpoint ? hint : "a model directory holds .safetensors or pytorch_model*.bin files")
        }
        for index in source.indexes {
            let bytes = try index.contents()
            let directory = index.path.dropLast(FileSystem.name(index.path).count)
            for file in try ShardIndex(parsing: bytes, path: index.location).files {
                guard names.contains(ExactName(directory + file)) else {
                    throw StoreError(.incomplete, "\(path): shard \(file) is missing, which \(index.path) names", hint: hint)
                }
            }
        }
        try checkShards(source, path: path, names)
        try checkAgainstSiblings(source, path: path, names)
    }

    /// `model-00002-of-00005.safetensors` promises its four siblings, index or not.
    private static func checkShards(_ source: CheckpointSource, path: String, _ names: Set<ExactName>) throws {
        for file in source.files where file.part == .weights {
            guard let of = file.path.firstRange(of: "-of-"), let dot = file.path[of.upperBound...].firstIndex(of: "."),
                let total = Int(file.path[of.upperBound..<dot]), (2...9999).contains(total)
            else { continue }
            let front = file.path[..<of.lowerBound]
            let digits = front.reversed().prefix { $0.isASCII && $0.isNumber }.count
            guard digits > 0 else { continue }
            for number in 1...total {
                let text = String(number)
                let padded = String(repeating: "0", count: max(0, digits - text.count)) + text
                let sibling = front.dropLast(digits) + padded + file.path[of.lowerBound...]
                guard names.contains(ExactName(String(sibling))) else {
                    throw StoreError(.incomplete, "\(path): shard \(sibling) is missing, of \(total)", hint: hint)
                }
            }
        }
    }

    /// The Trainer writes its state last: a checkpoint without what its older sibling has is not finished.
    private static func checkAgainstSiblings(
        _ source: CheckpointSource, path: String, _ names: Set<ExactName>
    ) throws {
        guard let step = PartNaming.checkpointStep(FileSystem.name(source.path)),
            let parent = FileSystem.parent(source.path), let siblings = try? FileSystem.list(parent)
        else { return }
        let older = siblings.compactMap { name in PartNaming.checkpointStep(name).map { (step: $0, name: name) } }
            .filter { $0.step < step }.max { $0.step < $1.step }
        guard let older else { return }
        for name in ["trainer_state.json", "optimizer.pt", "scheduler.pt"] where !names.contains(ExactName(name)) {
            if name != "trainer_state.json", names.contains(ExactName("trainer_state.json")) { continue }
            if FileSystem.status("\(parent)/\(older.name)/\(name)") != nil {
                throw StoreError(.incomplete, "\(path): \(name) is missing, which \(older.name) has", hint: hint)
            }
        }
    }
}
