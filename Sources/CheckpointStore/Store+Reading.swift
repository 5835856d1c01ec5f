internal import LMDB

extension Store {
    /// Runs `body`, which reads what `snapshot` is made of, in as many transactions as it likes.
    ///
    /// When it misses something because the snapshot or a part of it was removed meanwhile, that is what is told: a store under a prune is
    /// not damaged.
    func reading<R>(_ snapshot: Snapshot, named name: String, _ body: () throws -> R) throws -> R {
        do {
            return try body()
        } catch let error as StoreError where error.code == .damaged {
            try read { transaction, tables in try transaction.checkHolds(tables, snapshot, named: name) }
            throw error
        }
    }
}

extension ReadTransaction {
    /// - Throws: `.noSuchRef` when the snapshot or a part of it is not there: removed since it was loaded. Where it is, so are its blocks.
    func checkHolds(_ tables: Tables, _ snapshot: Snapshot, named name: String) throws {
        let here = try snapshotRecord(tables, snapshot.id)?.here.map(\.kind) ?? []
        guard snapshot.parts.allSatisfy({ here.contains($0.kind) }) else {
            throw StoreError(.noSuchRef, "\(name): removed while it was being read", hint: "ckpt log lists the runs")
        }
    }
}
