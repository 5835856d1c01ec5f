#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension Store {
    /// Reads every file of `ref` back from the store's blocks and compares it, byte for byte, with the one of its path in `directory`.
    ///
    /// - Throws: `.conflict` naming the first difference found, a file that is missing or one that the snapshot has not; `.damaged`.
    /// - Complexity: O(bytes) on all processors.
    public func compare(
        _ ref: String, with directory: String, monitor: Monitor = Monitor(), progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        try throwingStoreErrors {
            let snapshot = try loadSnapshot(resolve(ref))
            guard snapshot.dropped.isEmpty else {
                throw StoreError(.conflict, "\(ref): its \(snapshot.dropped[0].kind) was dropped from the store")
            }
            try Store.checkNames(snapshot.files, directory)
            try compareFiles(snapshot, ref, in: directory, monitor: monitor, progress: progress)
        }
    }

    func compareFiles(
        _ snapshot: Snapshot, _ ref: String, in directory: String, monitor: Monitor, progress: (ByteProgress) -> Void
    ) throws {
        try reading(snapshot, named: ref) {
            try SnapshotWriter(store: self, monitor: monitor).write(snapshot.files, progress: progress) { file in
                let path = directory + "/" + file.path
                guard !file.isDirectory else { return nil }
                guard FileSystem.status(path)?.size == file.size else {
                    throw StoreError(.conflict, "\(path): not the \(file.size) bytes that \(ref) has of it")
                }
                let original = try OpenFile(reading: path)
                return { bytes, offset in
                    try withUnsafeTemporaryAllocation(byteCount: bytes.count, alignment: 64) { buffer in
                        try original.read(at: offset, into: buffer)
                        guard memcmp(buffer.baseAddress!, bytes.baseAddress!, bytes.count) == 0 else {
                            throw StoreError(.conflict, "\(path): differs from \(ref) behind byte \(offset)")
                        }
                    }
                }
            }
        }
    }

    /// Refuses a directory with files that are not among `files`.
    private static func checkNames(_ files: [PartManifest.File], _ directory: String) throws {
        let known = Set(files.map { Array($0.path.utf8) })
        func look(_ prefix: String) throws {
            for name in try FileSystem.list(directory + "/" + prefix) {
                let path = prefix + name
                if FileSystem.status(directory + "/" + path)?.isDirectory == true, !FileSystem.isLink(directory + "/" + path) {
                    try look(path + "/")
                } else if !known.contains(Array(path.utf8)) {
                    throw StoreError(.conflict, "\(directory)/\(path): not in the store")
                }
            }
        }
        try look("")
    }
}
