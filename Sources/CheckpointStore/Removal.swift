internal import LMDB

/// Chunks that a removed probe or entropy record has left: whoever comes first deletes them, slice by slice.
///
/// The record goes in one small commit, together with a removal that says whose chunks are still there: so no commit is in
/// proportion to them, and whoever finds a removal after a kill or on a full disk can go on.
enum Removal {
    /// The kind of the chunks, then the id they belong to.
    static func key(_ kind: Kind, _ id: ContentID) -> [UInt8] { [kind.rawValue] + id.bytes }

    static func decodeKey(_ key: [UInt8]) throws -> (kind: Kind, id: ContentID) {
        guard key.count == 1 + ContentID.byteCount, let kind = Kind(rawValue: key[0]), kind == .probeChunk || kind == .outputChunk
        else { throw StoreError(.damaged, "store: removal key \(Hex.string(key))", hint: "run ckpt verify") }
        return (kind, try ContentID(Array(key.dropFirst())))
    }
}

extension WriteTransaction {
    /// Leaves the chunks of `id` to be deleted later.
    func putRemoval(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws {
        try putRecord(tables, .removal, Removal.key(kind, id), [])
    }

    /// Deletes what is left of chunks under `id`, so that it can be written anew.
    func finishRemoval(_ tables: Tables, _ kind: Kind, _ id: ContentID) throws {
        guard try delete(tables[.removal], Removal.key(kind, id)) else { return }
        _ = try deleteChunks(tables, kind, of: id, budget: .max - 1)
    }

    /// Removes the entropy records that `isGone` says, leaving their chunks to be deleted later.
    ///
    /// O(records of the store).
    func removeEntropyRecords(_ tables: Tables, where isGone: (EntropyRecord) -> Bool) throws {
        guard tables.find(.entropyRecord) != nil else { return }
        var ids: [ContentID] = []
        try entropyRecords(tables) { id, record in if isGone(record) { ids.append(id) } }
        for id in ids { try removeEntropyRecord(tables, id) }
    }

    /// Returns whether there was one.
    @discardableResult
    func removeEntropyRecord(_ tables: Tables, _ id: ContentID) throws -> Bool {
        guard try delete(tables[.entropyRecord], id.bytes) else { return false }
        try putRemoval(tables, .outputChunk, id)
        return true
    }
}

extension Store {
    /// Chunks deleted in one commit.
    private static let removalSlice = 256

    /// Carries out one slice of a removal; false when there is none. Needs no store lock: each slice is whole by itself.
    func releaseRemovedSlice(_ budget: Int) throws -> Bool {
        let isIdle = try readAll { transaction, tables in try tables.find(.removal).map { try transaction.count($0) } ?? 0 == 0 }
        if isIdle { return false }
        try write { transaction, tables in
            var first: [UInt8]?
            try transaction.records(tables, .removal) { key, _ in
                first = key
                return false
            }
            guard let first else { return }
            let (kind, id) = try Removal.decodeKey(first)
            let isMore = try transaction.deleteChunks(tables, kind, of: id, budget: budget)
            if !isMore { try transaction.delete(tables[.removal], first) }
        }
        return true
    }

    /// Runs `remove`, which frees space, then carries out removals as far as the disk has room for commits; the next writer
    /// goes on.
    func freeing<R>(_ remove: () throws -> R) throws -> R {
        let result = try withRoom(remove)
        do {
            while try withRoom({ try releaseRemovedSlice(Store.removalSlice) }) {}
        } catch let error as LMDBError {
            guard error.isDiskFull else { throw error }
        }
        return result
    }

    /// Runs `body`, on a full disk once more with the ballast given up.
    func withRoom<R>(_ body: () throws -> R) throws -> R {
        do {
            return try body()
        } catch let error as LMDBError {
            guard error.isDiskFull else { throw error }
            try Ballast.drop(path)
            defer { try? Ballast.lay(path) }
            return try body()
        }
    }
}
