internal import LMDB

extension Verifier {
    /// Turns damaged records into problems that name the snapshots and tensors they harm.
    func attribute(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        guard !damaged.isEmpty else { return }
        var problems: [ContentID: StoreProblem] = damaged.mapValues { StoreProblem($0) }
        let damagedTensors = try tensorsWithDamagedBlocks(transaction, tables).mapValues { record in record.blocks.filter { damaged[$0] != nil } }
        try forEach(.step, transaction, tables) { key, value in
            let (run, step) = try StepKey.decode(key)
            let id = try StepRecord(value).snapshot
            if damaged[id] != nil { problems[id]?.snapshots.append("\(run)@\(step)") }
            guard let bytes = try? transaction.record(tables, .snapshot, id.bytes),
                let record = try? SnapshotRecord(bytes, what: "snapshot")
            else { return }
            var harm: [ContentID: [String]] = [:]
            for entry in record.manifest.parts {
                if damaged[entry.id] != nil { harm[entry.id, default: []] += [] }
                for file in try soundPart(entry.id, transaction, tables)?.files ?? [] {
                    for (index, storage) in file.storages.enumerated() {
                        let bad = damagedTensors[storage.tensor] ?? []
                        let causes = damaged[storage.tensor] != nil ? [storage.tensor] : Array(Set(bad))
                        for cause in causes {
                            harm[cause, default: []] += file.tensors.filter { $0.storage == index }.map { "\(file.path):\($0.name)" }
                        }
                    }
                    if let skeleton = file.skeleton {
                        let causes = damaged[skeleton] != nil ? [skeleton] : damagedTensors[skeleton] ?? []
                        for cause in causes { harm[cause, default: []].append("\(file.path) (header)") }
                    }
                }
            }
            for (cause, names) in harm {
                problems[cause]?.snapshots.append("\(run)@\(step)")
                for name in names where problems[cause]?.tensors.contains(name) == false { problems[cause]?.tensors.append(name) }
            }
        }
        self.problems += problems.sorted { $0.key < $1.key }.map(\.value)
    }

    /// Those that a damaged block is in. O(blocks).
    func tensorsWithDamagedBlocks(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> [ContentID: TensorRecord] {
        var found: [ContentID: TensorRecord] = [:]
        try forEach(.tensor, transaction, tables) { key, value in
            let id = try ContentID(key)
            guard damaged[id] == nil else { return }
            let record = try TensorRecord(value, what: "tensor \(id)")
            if record.blocks.contains(where: { damaged[$0] != nil }) { found[id] = record }
        }
        return found
    }
}
