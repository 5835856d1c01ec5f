internal import LMDB

/// The files of a checkpoint that are kept whole, such as `config.json`: a directory's, or a snapshot's.
public struct Sidecars: Sendable {
    enum Origin: Sendable {
        case directory(String)
        case store(Store, Snapshot)
    }

    /// The directory or ref it was asked for by.
    public let name: String
    let origin: Origin

    init(name: String, origin: Origin) {
        self.name = name
        self.origin = origin
    }

    /// The files of a directory, which need not hold a checkpoint.
    ///
    /// - Throws: `.badInput` where there is no such directory.
    public init(directory: String) throws(StoreError) {
        guard let status = FileSystem.status(directory) else {
            throw StoreError(.badInput, "\(directory): no such directory")
        }
        guard !status.isRegular else { throw StoreError(.badInput, "\(directory): a file, not a directory") }
        self.init(name: directory, origin: .directory(directory))
    }

    /// Bytes such a file may have.
    private static let maximumBytes: UInt64 = 64 << 20

    /// The bytes of the file at `path` below it; nil when there is none of that name.
    ///
    /// - Throws: `.damaged`; `.badInput` for one of more than 64 MiB, or one with tensors in it.
    public func contents(_ path: String) throws(StoreError) -> [UInt8]? {
        try throwingStoreErrors {
            switch origin {
            case .directory(let directory):
                return try FileSystem.contents(directory + "/" + path, limit: Int(Sidecars.maximumBytes))
            case .store(let store, let snapshot):
                guard let file = snapshot.files.first(where: { $0.path == path && !$0.isDirectory }) else { return nil }
                guard file.size <= Sidecars.maximumBytes, file.storages.isEmpty else {
                    throw StoreError(.badInput, "\(name)/\(path): not a small plain file")
                }
                guard let skeleton = file.skeleton else { return [] }
                return try store.reading(snapshot, named: name) {
                    let generation = store.openGeneration
                    let reader = BlockReader(try generation.environment.beginRead(), generation.tables)
                    return try Array(reader.bytes(of: skeleton, 0..<file.size))
                }
            }
        }
    }
}

extension Store {
    /// The files of `ref` that are kept whole.
    ///
    /// - Throws: `.noSuchRef`, `.damaged`.
    public func sidecars(_ ref: String) throws(StoreError) -> Sidecars {
        try throwingStoreErrors {
            Sidecars(name: ref, origin: .store(self, try loadSnapshot(resolve(ref))))
        }
    }
}
