internal import LMDB

/// That a snapshot has an image in `images/<id>/`. Its bytes are checked against the snapshot's blocks, which hold
/// their SHA-256, so the record needs no checksums of its own.
struct ImageRecord: Equatable {
    /// Nanoseconds since 1970.
    var made: Int64

    init(made: Int64) { self.made = made }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(made)
        return writer.bytes
    }

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: image record")
        made = try reader.take()
        try reader.finish()
    }
}

/// An image whose files are as they were made.
struct SoundImage {
    var path: String
    /// With the optimizer state, where the snapshot has one.
    var isWhole: Bool
}

extension Snapshot {
    /// The files that every image of it has: all but its optimizer state, which takes several times the weights' room and which nobody
    /// reads but to train on. `Store.imageDirectory` adds that.
    var filesOfImages: [PartManifest.File] {
        let files = parts.filter { $0.kind != .optimizer }.flatMap(\.files)
        // One that is nothing else.
        return files.isEmpty ? self.files : files
    }

    /// The files that whole images of it have besides.
    var filesOfWholeImages: [PartManifest.File] {
        parts.count == 1 ? [] : parts.filter { $0.kind == .optimizer }.flatMap(\.files)
    }
}

extension Transaction where Self: ~Copyable {
    /// Whether a snapshot's image is wanted: it is pinned, or the head of a run.
    func keepsImage(_ tables: Tables, _ id: ContentID) throws -> Bool {
        if try isPinned(tables, id) { return true }
        for run in try runNames(tables) where try head(tables, of: run)?.record.snapshot == id { return true }
        return false
    }
}

extension WriteTransaction {
    func putPin(_ tables: Tables, _ id: ContentID) throws {
        var writer = ByteWriter()
        writer.put(FileSystem.now())
        try putRecord(tables, .pin, id.bytes, writer.bytes)
    }
}

extension Store {
    /// The directory of the snapshot's image, or nil when it has none.
    func imagePath(_ id: ContentID) throws -> String? {
        let isRecorded = try read { transaction, tables in try transaction.contains(tables[.image], id.bytes) }
        let path = ImageWriter.path(self.path, id)
        return isRecorded && FileSystem.status(path) != nil ? path : nil
    }

    /// The image of `snapshot` if its files look as they did when it was made: there, of their sizes, not written to since.
    /// (`verify` reads them.)
    ///
    /// - Complexity: O(files).
    func soundImage(_ snapshot: Snapshot) throws -> SoundImage? {
        guard let path = try imagePath(snapshot.id),
            let record = try read({ transaction, tables in try transaction.record(tables, .image, snapshot.id.bytes) })
        else { return nil }
        let made = try ImageRecord(record).made
        func isSound(_ file: PartManifest.File) -> Bool {
            guard let status = FileSystem.status(path + "/" + file.path) else { return false }
            if file.isDirectory { return status.isDirectory }
            return status.isRegular && status.size == file.size && status.modified <= made
        }
        let extra = snapshot.filesOfWholeImages
        guard snapshot.filesOfImages.allSatisfy(isSound) else { return nil }
        // Those there are, or none of them.
        if extra.allSatisfy(isSound) { return SoundImage(path: path, isWhole: true) }
        guard extra.allSatisfy({ FileSystem.status(path + "/" + $0.path) == nil }) else { return nil }
        return SoundImage(path: path, isWhole: false)
    }

    /// The directory of the image that `snapshot` has; nil when it has none. Optimizer state may be left out of it.
    package func imageInPlace(of snapshot: Snapshot) throws(StoreError) -> String? {
        try throwingStoreErrors { try soundImage(snapshot)?.path }
    }

    /// Makes the image of a snapshot from its packed blocks, unless it has one. Under the store lock only.
    ///
    /// - Parameter whole: with its optimizer state.
    func makeImage(of id: ContentID, whole: Bool) throws -> String {
        let snapshot = try loadSnapshot(id)
        let sound = try soundImage(snapshot)
        if let sound, sound.isWhole || !whole { return sound.path }
        let image = try ImageWriter(store: path)
        let files = snapshot.filesOfImages + (whole ? snapshot.filesOfWholeImages : [])
        try SnapshotWriter(store: self, monitor: Monitor(isCancelled: isCancelled)).write(files) { file in
            if file.isDirectory {
                try image.makeDirectory(file.path)
                return nil
            }
            // What an image of the weights alone has is not written again.
            if let sound, try image.link(file.path, from: sound.path) { return nil }
            let target = try image.create(file.path, size: file.size)
            return { try target.write($0, at: $1) }
        }
        try image.finish()
        let placed = try image.place(as: id)
        try write { transaction, tables in
            try transaction.putRecord(tables, .image, id.bytes, ImageRecord(made: FileSystem.now()).encoded)
        }
        return placed
    }

    /// Removes directories in `images/` that no record names: unfinished or dropped images. Open views of them
    /// stay valid; the space returns when the last is gone. Under the store lock only.
    func removeStrayImages() throws {
        let directory = path + "/images"
        // A cache: somebody may have removed it whole.
        try FileSystem.makeDirectory(directory)
        for name in try FileSystem.list(directory) {
            let isKept = try read { transaction, tables in
                guard name.utf8.count == 64, let nibbles = Hex.nibbles(name) else { return false }
                let id = try ContentID(stride(from: 0, to: 64, by: 2).map { nibbles[$0] << 4 | nibbles[$0 + 1] })
                return try transaction.contains(tables[.image], id.bytes)
            }
            if !isKept { try FileSystem.removeTree(directory + "/" + name) }
        }
    }

    /// The directory of the image of `ref`, made if needed: a plain copy of the checkpoint that any tool can open, optimizer state and all.
    ///
    /// The image is a cache: it is dropped when its snapshot stops being a run's head, unless it is pinned. Treat
    /// the files as read-only.
    public func imageDirectory(of ref: String) throws(StoreError) -> String {
        try throwingStoreErrors {
            let id = try resolve(ref)
            if let image = try soundImage(loadSnapshot(id)), image.isWhole { return image.path }
            return try withLock { try makeImage(of: id, whole: true) }
        }
    }
}
