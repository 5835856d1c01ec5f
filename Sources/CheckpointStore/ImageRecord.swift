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

    /// The directory of the snapshot's image if its files look as they did when it was made: there, of their sizes, not
    /// written to since. (`verify` reads them.)
    ///
    /// - Complexity: O(files).
    func soundImagePath(_ snapshot: Snapshot) throws -> String? {
        guard let path = try imagePath(snapshot.id),
            let record = try read({ transaction, tables in try transaction.record(tables, .image, snapshot.id.bytes) })
        else { return nil }
        let made = try ImageRecord(record).made
        let isSound = snapshot.files.allSatisfy { file in
            guard let status = FileSystem.status(path + "/" + file.path) else { return false }
            if file.isDirectory { return status.isDirectory }
            return status.isRegular && status.size == file.size && status.modified <= made
        }
        return isSound ? path : nil
    }

    /// The directory of the image that `snapshot` has; nil when it has none.
    package func imageInPlace(of snapshot: Snapshot) throws(StoreError) -> String? {
        try throwingStoreErrors { try soundImagePath(snapshot) }
    }

    /// Makes the image of a snapshot from its packed blocks, unless it has one. Under the store lock only.
    func makeImage(of id: ContentID) throws -> String {
        let snapshot = try loadSnapshot(id)
        if let path = try soundImagePath(snapshot) { return path }
        let image = try ImageWriter(store: path)
        try SnapshotWriter(store: self, monitor: Monitor(isCancelled: isCancelled)).write(snapshot.files) { file in
            if file.isDirectory {
                try image.makeDirectory(file.path)
                return nil
            }
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

    /// The directory of the image of `ref`, made if needed: a plain copy of the checkpoint that any tool can open.
    ///
    /// The image is a cache: it is dropped when its snapshot stops being a run's head, unless it is pinned. Treat
    /// the files as read-only.
    public func imageDirectory(of ref: String) throws(StoreError) -> String {
        try throwingStoreErrors {
            let id = try resolve(ref)
            if let path = try soundImagePath(loadSnapshot(id)) { return path }
            return try withLock { try makeImage(of: id) }
        }
    }
}
