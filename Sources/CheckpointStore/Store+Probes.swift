internal import BlockCodec
internal import LMDB
internal import TensorFormats

extension Store {
    /// Keeps `probe` under `name`. The same content under the same name again changes nothing; a probe may have many names.
    ///
    /// One short transaction; the store lock is not needed.
    /// - Returns: the probe's id.
    /// - Throws: `.conflict` with both ids when the name stands for other content, `.badInput` naming the sample that is wrong,
    ///   or when the probe is over `Probe.maximumBytes`.
    /// - Complexity: O(bytes).
    @discardableResult
    public func addProbe(_ probe: Probe, name: String) throws(StoreError) -> ContentID {
        try throwingStoreErrors {
            try Name.check(name, "probe")
            try probe.check()
            let encoded = probe.encoded
            guard encoded.count <= Probe.maximumBytes else {
                throw StoreError(
                    .badInput, "probe \"\(name)\": \(encoded.count) bytes; at most \(Probe.maximumBytes) are kept", hint: "split it")
            }
            let id = ContentID.hash(of: encoded)
            let isKnown = try readAll { transaction, tables in
                try Store.isProbe(name, id, transaction, tables)
            }
            if isKnown { return id }
            let chunks = try Store.pack(encoded)
            try write(making: .probes) { transaction, tables in
                if try Store.isProbe(name, id, transaction, tables) { return }
                if try !transaction.contains(tables[.probe], id.bytes) {
                    try transaction.finishRemoval(tables, .probeChunk, id)
                    for (number, chunk) in chunks.enumerated() {
                        try transaction.putRecord(tables, .probeChunk, Chunk.key(id, number), chunk)
                    }
                    let record = ProbeRecord(
                        probe, byteCount: encoded.count, packedBytes: chunks.reduce(0) { $0 + $1.count }, created: FileSystem.now())
                    try transaction.putRecord(tables, .probe, id.bytes, record.encoded)
                }
                try transaction.putRecord(tables, .probeName, Array(name.utf8), id.bytes)
            }
            return id
        }
    }

    /// Whether `name` stands for `id` already.
    private static func isProbe<T: Transaction & ~Copyable>(
        _ name: String, _ id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws -> Bool {
        guard let known = try transaction.probeID(tables, named: name) else { return false }
        guard known == id else {
            throw StoreError(
                .conflict, "probe \"\(name)\" is \(known) already; this one is \(id)",
                hint: "choose another name, or ckpt probe rm \(name) with its entropy records")
        }
        return true
    }

    private static func pack(_ encoded: [UInt8]) throws -> [[UInt8]] {
        let coder = try BlockCoder()
        return try stride(from: 0, to: encoded.count, by: Chunk.maximumBytes).map { start in
            try Chunk.pack(Array(encoded[start..<min(start + Chunk.maximumBytes, encoded.count)]), element: .u8, coder)
        }
    }

    /// The probe called `nameOrIDPrefix`, or the one whose id begins so (four digits or more). Its content is checked
    /// against its id.
    ///
    /// - Returns: with the name it was asked by, else its first one.
    /// - Throws: `.noSuchRef` saying which there are, `.damaged`.
    /// - Complexity: O(bytes).
    public func probe(_ nameOrIDPrefix: String) throws(StoreError) -> (id: ContentID, name: String?, probe: Probe) {
        try throwingStoreErrors {
            try readAll { transaction, tables in
                let (id, name) = try Store.findProbe(nameOrIDPrefix, transaction, tables)
                guard let found = try transaction.probe(tables, id) else {
                    throw StoreError(.damaged, "store: probe \(id) is missing", hint: "run ckpt verify")
                }
                return (id, name, found.probe)
            }
        }
    }

    private static func findProbe(
        _ text: String, _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws -> (id: ContentID, name: String?) {
        if let id = try transaction.probeID(tables, named: text) { return (id, text) }
        let names = try transaction.probeNames(tables)
        if text.utf8.count >= Ref.minimumPrefix, Hex.nibbles(text) != nil {
            let prefix = text.lowercased()
            let found = names.filter { $0.id.description.hasPrefix(prefix) }
            if let first = found.first {
                guard found.allSatisfy({ $0.id == first.id }) else {
                    throw StoreError(.noSuchRef, "\(text): more than one probe's id begins so", hint: "give more digits")
                }
                return (first.id, first.name)
            }
        }
        let known = names.isEmpty ? "the store has none" : "probes here: \(names.prefix(5).map(\.name).joined(separator: ", "))"
        throw StoreError(.noSuchRef, "\(text): no such probe", hint: known)
    }

    /// All probes, in byte order of their names.
    ///
    /// - Complexity: O(probes + entropy records), whatever they hold.
    public func probes() throws(StoreError) -> [ProbeSummary] {
        try throwingStoreErrors {
            try readAll { transaction, tables in
                var records: [ContentID: Int] = [:]
                try transaction.entropyRecords(tables) { _, record in records[record.key.probe, default: 0] += 1 }
                return try transaction.probeNames(tables).map { name, id in
                    guard let record = try transaction.probeRecord(tables, id) else {
                        throw StoreError(.damaged, "store: probe \(id) is missing", hint: "run ckpt verify")
                    }
                    return ProbeSummary(
                        id: id, name: name, samples: Int(record.samples), tokens: Int(record.tokens),
                        supervisedTokens: Int(record.supervisedTokens), records: records[id] ?? 0, bytes: record.packedBytes,
                        created: record.created)
                }
            }
        }
    }

    /// Removes the name of a probe. With its last name the probe goes, and all entropy records on it.
    ///
    /// They are gone in one short transaction; the space they took follows in slices. The store lock is not needed.
    /// - Throws: `.noSuchRef`.
    /// - Complexity: O(entropy records of the store).
    public func removeProbe(_ name: String) throws(StoreError) {
        try throwingStoreErrors {
            try freeing {
                try write { transaction, tables in
                    guard let id = try transaction.probeID(tables, named: name) else {
                        throw StoreError(.noSuchRef, "\(name): no such probe", hint: "ckpt probe ls lists them")
                    }
                    try transaction.delete(tables[.probeName], Array(name.utf8))
                    if try transaction.probeNames(tables).contains(where: { $0.id == id }) { return }
                    try transaction.delete(tables[.probe], id.bytes)
                    try transaction.putRemoval(tables, .probeChunk, id)
                    try transaction.removeEntropyRecords(tables) { $0.key.probe == id }
                }
            }
        }
    }
}
