#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// What an export wrote.
public struct ExportResult: Sendable {
    public var id: ContentID
    /// The directory that was made.
    public var directory: String
    public var files: Int
    /// Of all files.
    public var bytes: UInt64
    /// Parts of the snapshot that were dropped, and so are not among the files.
    public var dropped: [PartKind]
}

extension Store {
    /// Writes the files of `ref` to the new directory `directory`, byte for byte as they were ingested.
    ///
    /// Written under a temporary name beside it, synced and renamed: what is there under its own name is whole.
    /// - Parameters:
    ///   - only: a pattern (`*`, `?`, `[...]`) for the paths of the files wanted; nil: all.
    ///   - leavingOut: parts whose files are not wanted.
    /// - Throws: `.conflict` when `directory` exists and is not empty; `.noSuchRef`; `.damaged` naming the block.
    /// - Complexity: O(bytes) on all processors; memory: a few blocks a processor.
    @discardableResult
    public func export(
        _ ref: String, to directory: String, only: String? = nil, leavingOut: Set<PartKind> = [], monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> ExportResult {
        try throwingStoreErrors {
            let snapshot = try loadSnapshot(resolve(ref))
            let files = snapshot.parts.filter { !leavingOut.contains($0.kind) }.flatMap(\.files).filter { only == nil || fnmatch(only!, $0.path, 0) == 0 }
            guard !files.isEmpty else {
                let first = snapshot.files.first?.path ?? "none"
                throw StoreError(
                    .noSuchRef, "\(ref): no file matches \"\(only ?? "*")\"", hint: "its files: \(first), ...; ckpt show \(ref)")
            }
            guard !FileSystem.isLink(directory) else {
                let leads = FileSystem.status(directory) == nil ? "a link to nothing" : "a link"
                throw StoreError(.conflict, "\(directory): \(leads), which is not replaced", hint: "name the new directory itself")
            }
            if let status = FileSystem.status(directory), try !status.isDirectory || !FileSystem.list(directory).isEmpty {
                throw StoreError(.conflict, "\(directory): exists already", hint: "export writes a new directory; nothing is overwritten")
            }
            let parent = FileSystem.parent(directory) ?? "."
            try FileSystem.makeDirectories(parent)
            let temporary = "\(parent)/.\(FileSystem.name(directory)).ckpt-\(getpid())"
            try FileSystem.removeTree(temporary)
            try FileSystem.makeDirectory(temporary)
            do {
                try reading(snapshot, named: ref) { try write(files, into: temporary, monitor, progress) }
                // An empty directory is replaced by the rename; a filled one makes it fail.
                try FileSystem.rename(temporary, to: directory)
            } catch {
                try? FileSystem.removeTree(temporary)
                throw error
            }
            try FileSystem.syncDirectory(parent)
            return ExportResult(
                id: snapshot.id, directory: directory, files: files.count, bytes: files.reduce(0) { $0 + $1.size },
                dropped: snapshot.dropped.map(\.kind))
        }
    }

    private func write(
        _ files: [PartManifest.File], into directory: String, _ monitor: Monitor, _ progress: (ByteProgress) -> Void
    ) throws {
        var written: [String] = []
        try SnapshotWriter(store: self, monitor: monitor).write(files, progress: progress) { file in
            let path = directory + "/" + file.path
            if file.isDirectory {
                try FileSystem.makeDirectories(path)
                return nil
            }
            if let parent = FileSystem.parent(path) { try FileSystem.makeDirectories(parent) }
            let target = try OpenFile(creating: path)
            try target.resize(to: file.size)
            written.append(path)
            return { try target.write($0, at: $1) }
        }
        for path in written { try OpenFile(reading: path).sync() }
        for path in Set(written.compactMap(FileSystem.parent)) { try FileSystem.syncDirectory(path) }
    }
}
