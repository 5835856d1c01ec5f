internal import BlockCodec
internal import LMDB

extension Verifier {
    /// Checks probes, entropy records, the chunks of both and removals: that everything named is there, and nothing else. In
    /// depth, that every probe is what its id says and every sample's figures are those the probe asks for.
    ///
    /// Memory: one probe or the figures of one record, and two words for each sample of a probe.
    func checkRecords(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> (probes: Int, records: Int) {
        guard tables.features.contains(.probes) else { return (0, 0) }
        let names = try followProbeNames(transaction, tables)
        var probes: [ContentID: ProbeRecord] = [:]
        var shapes: [ContentID: ProbeShape] = [:]
        try forEach(.probe, transaction, tables) { key, value in
            let id = try ContentID(key)
            let subject = "probe \(id)"
            let name = subject + (names[id].map { " (\($0.joined(separator: ", ")))" } ?? "")
            if names[id] == nil { report("\(name) has no name") }
            try naming(subject, as: name) {
                let record = try ProbeRecord(value, what: subject)
                probes[id] = record
                if depth == .full, let found = try transaction.probe(tables, id) {
                    shapes[id] = ProbeShape(found.probe)
                } else {
                    try checkChunks(.probeChunk, id, bytes: record.packedBytes, transaction, tables)
                }
            }
        }
        for id in names.keys where try !transaction.contains(tables[.probe], id.bytes) {
            report("probe \(id) (\(names[id]!.joined(separator: ", "))) is missing")
        }
        let records = try checkEntropyRecords(probes, shapes, transaction, tables)
        try checkRemovals(transaction, tables)
        for (kind, owner) in [(Kind.probeChunk, Kind.probe), (.outputChunk, .entropyRecord)] {
            try findStrays(kind, owner, transaction, tables)
        }
        return (probes.count, records)
    }

    private func followProbeNames(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> [ContentID: [String]] {
        var names: [ContentID: [String]] = [:]
        try forEach(.probeName, transaction, tables) { key, value in
            guard let name = String(validating: key, as: UTF8.self), !key.contains(0) else {
                return report("probe name \(Hex.string(key)): not a name")
            }
            names[try ContentID(value), default: []].append(name)
        }
        return names
    }

    private func checkEntropyRecords(
        _ probes: [ContentID: ProbeRecord], _ shapes: [ContentID: ProbeShape], _ transaction: borrowing ReadTransaction,
        _ tables: Tables
    ) throws -> Int {
        let coder = try BlockCoder()
        var count = 0
        try forEach(.entropyRecord, transaction, tables) { key, value in
            try monitor.checkCancelled()
            count += 1
            let record = try EntropyRecord(value, id: ContentID(key))
            let name = "entropy record \(record.key.id)"
            for id in [record.key.snapshot, record.key.weak].compactMap(\.self)
            where try !transaction.contains(tables[.snapshot], id.bytes) {
                report("\(name): snapshot \(id) is missing")
            }
            if let probe = probes[record.key.probe] {
                if Int(probe.samples) != record.samplesTotal {
                    report("\(name): is of \(record.samplesTotal) samples; probe \(record.key.probe) has \(probe.samples)")
                }
            } else if try !transaction.contains(tables[.probe], record.key.probe.bytes) {
                report("\(name): probe \(record.key.probe) is missing")
            }
            try naming(name, as: name) {
                guard depth == .full else {
                    return try checkChunks(.outputChunk, record.key.id, bytes: record.bytes, transaction, tables)
                }
                let outputs = try transaction.outputs(tables, of: record, coder)
                if let shape = shapes[record.key.probe] { try Store.check(outputs, record, shape) }
            }
        }
        return count
    }

    /// Checks checksums, numbers and lengths of chunks, without unpacking them.
    private func checkChunks(
        _ kind: Kind, _ id: ContentID, bytes: UInt64, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        var (next, found) = (0, UInt64(0))
        try transaction.records(tables, kind, from: id.bytes) { key, value in
            guard key.starts(with: id.bytes), let number = try? Chunk.decodeKey(key).number else { return false }
            guard number == next else { throw StoreError(.damaged, "chunk \(next) is missing") }
            next += 1
            found += UInt64(value.count)
            return true
        }
        guard found == bytes else { throw StoreError(.damaged, "\(found) of \(bytes) bytes of its chunks are there") }
    }

    private func checkRemovals(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        var count = 0
        try forEach(.removal, transaction, tables) { key, value in
            let (kind, id) = try Removal.decodeKey(key)
            let owner = kind == .probeChunk ? Kind.probe : .entropyRecord
            if !value.isEmpty { report("removal of \(owner) \(id): \(value.count) bytes where none belong") }
            if try transaction.contains(tables[owner], id.bytes) { report("removal of \(owner) \(id), which is there") }
            count += 1
        }
        if count > 0 { note("chunks of \(count) removed probes or entropy records are left; the next writer deletes them") }
    }

    /// Chunks that belong to nothing.
    private func findStrays(_ kind: Kind, _ owner: Kind, _ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try transaction.scan(tables[kind]) { key, _ in
            let key = key.withUnsafeBytes { Array($0) }
            guard let id = try? Chunk.decodeKey(key).id else {
                report("\(kind) with a key of \(key.count) bytes")
                return true
            }
            let isOwned = try transaction.contains(tables[owner], id.bytes)
                || transaction.contains(tables[.removal], Removal.key(kind, id))
            if !isOwned { report("\(kind)s of \(owner) \(id), which is missing") }
            return true
        }
    }

    /// Notes what is wrong with `subject` and goes on.
    private func naming(_ subject: String, as name: String, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as StoreError {
            guard error.code == .damaged || error.code == .badInput else { throw error }
            let reason = error.reason.replacing("store: ", with: "")
            report(reason.hasPrefix(subject) ? name + reason.dropFirst(subject.count) : "\(name): \(reason)")
        }
    }
}
