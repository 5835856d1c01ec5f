internal import BlockCodec
internal import LMDB
internal import TensorFormats

extension Store {
    /// The entropy record of `key`, made when there is none. One that has samples is gone on with: its provenance stays.
    ///
    /// One short transaction; the store lock is not needed.
    /// - Throws: `.noSuchRef` when the snapshot, the probe or the weak snapshot of the settings is not in the store, `.conflict`
    ///   when the record has other columns, `.badInput` for settings or provenance that cannot be kept.
    @discardableResult
    public func beginEntropyRecord(
        _ key: EntropyKey, columns: Set<EntropyColumn>, provenance: [String: String]
    ) throws(StoreError) -> EntropyRecord {
        try throwingStoreErrors {
            try Settings.check(key.settings, "setting")
            try Settings.check(provenance, "provenance")
            guard !columns.isEmpty else { throw StoreError(.badInput, "an entropy record without columns") }
            let columns = columns.sorted()
            if let record = try readAll({ transaction, tables in try transaction.entropyRecord(tables, key.id) }),
                record.samplesDone > 0 || record.provenance == provenance
            {
                return try Store.checkColumns(record, columns)
            }
            return try write(making: .probes) { transaction, tables in
                if var record = try transaction.entropyRecord(tables, key.id) {
                    _ = try Store.checkColumns(record, columns)
                    if record.samplesDone == 0 {
                        record.provenance = provenance
                        try transaction.putRecord(tables, .entropyRecord, key.id.bytes, record.encoded)
                    }
                    return record
                }
                let record = EntropyRecord(
                    key: key, columns: columns, provenance: provenance,
                    samplesTotal: try Store.checkNamed(key, transaction, tables), created: FileSystem.now())
                try transaction.finishRemoval(tables, .outputChunk, key.id)
                try transaction.putRecord(tables, .entropyRecord, key.id.bytes, record.encoded)
                return record
            }
        }
    }

    private static func checkColumns(_ record: EntropyRecord, _ columns: [EntropyColumn]) throws -> EntropyRecord {
        guard record.columns == columns else {
            throw StoreError(
                .conflict,
                "entropy record \(record.key.id.short) has the columns \(record.columns.map(\.name).joined(separator: ", ")), not \(columns.map(\.name).joined(separator: ", "))",
                hint: "ckpt probe rm PROBE --record \(record.key.id.short), or a setting that tells the two apart")
        }
        return record
    }

    /// Checks that what the key names is there; returns the samples of the probe.
    private static func checkNamed(_ key: EntropyKey, _ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> Int {
        if key.settings["weak"] != nil, key.weak == nil {
            throw StoreError(.badInput, "setting \"weak\" is no id of a snapshot", hint: "all 64 digits of it, in lower case")
        }
        for id in [key.snapshot, key.weak].compactMap(\.self) where try !transaction.contains(tables[.snapshot], id.bytes) {
            throw StoreError(.noSuchRef, "\(id): no such snapshot")
        }
        guard let probe = try transaction.probeRecord(tables, key.probe) else {
            throw StoreError(.noSuchRef, "\(key.probe): no such probe")
        }
        return Int(probe.samples)
    }

    /// Adds the outputs of some samples to a record, all or none. A sample that is there already must be the same to the bit.
    ///
    /// One short transaction: whatever is killed or fails, the record holds whole calls, and the rest can follow.
    /// - Throws: `.conflict` naming a sample that is there with other figures, `.badInput` naming one whose figures are not
    ///   finite or not as many as the probe supervises (fewer are right where `max_length` is set), `.noSuchRef` when there is
    ///   no such record, `.diskFull`.
    /// - Complexity: O(figures), and O(record) when a sample is there already.
    public func appendOutputs(_ outputs: [SampleOutputs], to key: EntropyKey) throws(StoreError) {
        try throwingStoreErrors {
            let id = key.id
            let coder = try BlockCoder()
            var isDone = false
            while !isDone {
                let known = try readAll { transaction, tables in
                    let record = try Store.existing(id, transaction, tables)
                    let shape = try probeShapes.shape(key.probe) {
                        guard let found = try transaction.probe(tables, key.probe) else {
                            throw StoreError(.damaged, "store: probe \(key.probe) is missing", hint: "run ckpt verify")
                        }
                        return ProbeShape(found.probe)
                    }
                    try Store.check(outputs, record, shape)
                    try Store.checkKnown(outputs, record, shape, coder, transaction, tables)
                    return record
                }
                let new = outputs.filter { !known.contains($0.sample) }
                if new.isEmpty { return }
                let chunks = try Store.pack(new, known.columns, coder)
                isDone = try write(making: .probes) { transaction, tables in
                    var record = try Store.existing(id, transaction, tables)
                    // Another process has added one of them since: look again whether it is the same.
                    if new.contains(where: { record.contains($0.sample) }) { return false }
                    for chunk in chunks {
                        try transaction.putRecord(tables, .outputChunk, Chunk.key(id, Int(record.chunks)), chunk)
                        record.chunks += 1
                        record.bytes += UInt64(chunk.count)
                    }
                    guard record.bytes <= EntropyRecord.maximumBytes else {
                        throw StoreError(.badInput, "entropy record \(id.short): over \(EntropyRecord.maximumBytes >> 30) GiB")
                    }
                    for sample in new {
                        record.insert(sample.sample)
                        record.tokens += sample.count
                    }
                    try transaction.putRecord(tables, .entropyRecord, id.bytes, record.encoded)
                    return true
                }
            }
        }
    }

    private static func existing<T: Transaction & ~Copyable>(
        _ id: ContentID, _ transaction: borrowing T, _ tables: Tables
    ) throws -> EntropyRecord {
        guard let record = try transaction.entropyRecord(tables, id) else {
            throw StoreError(.noSuchRef, "\(id.short): no such entropy record")
        }
        return record
    }

    /// Checks that outputs are what the probe and the record ask for.
    static func check(_ outputs: [SampleOutputs], _ record: EntropyRecord, _ shape: ProbeShape) throws {
        let floats = record.columns.filter { $0 != .top1 }
        let isCut = record.key.settings["max_length"] != nil
        var seen: Set<Int> = []
        for output in outputs {
            guard shape.ids.indices.contains(output.sample) else {
                throw StoreError(.badInput, "sample \(output.sample) is not among the probe's \(shape.ids.count)")
            }
            let name = "sample \"\(shape.ids[output.sample])\""
            guard seen.insert(output.sample).inserted else { throw StoreError(.badInput, "\(name) is given twice") }
            let counts = output.values.map(\.count) + (record.columns.contains(.top1) ? [output.top1.count] : [])
            guard output.values.count == floats.count, counts.allSatisfy({ $0 == output.count }),
                record.columns.contains(.top1) || output.top1.isEmpty
            else { throw StoreError(.badInput, "\(name): its figures are not one a token for each of the record's columns") }
            let supervised = shape.supervised[output.sample]
            guard output.count == supervised || isCut && output.count < supervised else {
                throw StoreError(
                    .badInput, "\(name): figures for \(output.count) tokens; \(supervised) are supervised",
                    hint: isCut ? nil : "samples that were cut need the setting max_length")
            }
            for (column, values) in zip(floats, output.values) {
                if let place = values.firstIndex(where: { !$0.isFinite }) {
                    throw StoreError(.badInput, "\(name): \(column.name) of supervised token \(place) is \(values[place])")
                }
            }
        }
    }

    /// Compares samples that are there already with those given.
    static func checkKnown(
        _ outputs: [SampleOutputs], _ record: EntropyRecord, _ shape: ProbeShape, _ coder: BlockCoder,
        _ transaction: borrowing ReadTransaction, _ tables: Tables
    ) throws {
        let known = outputs.filter { record.contains($0.sample) }
        if known.isEmpty { return }
        var stored: [Int: SampleOutputs] = [:]
        for output in try transaction.outputs(tables, of: record, coder) { stored[output.sample] = output }
        for output in known where stored[output.sample].map(output.isIdentical) != true {
            throw StoreError(
                .conflict, "sample \"\(shape.ids[output.sample])\" is in entropy record \(record.key.id.short) with other figures",
                hint: "ckpt probe rm PROBE --record \(record.key.id.short), or a setting that tells the two apart")
        }
    }

    private static func pack(_ outputs: [SampleOutputs], _ columns: [EntropyColumn], _ coder: BlockCoder) throws -> [[UInt8]] {
        var packed: [[UInt8]] = []
        var chunk = OutputChunk(columnCount: columns.count)
        for output in outputs {
            let patterns = OutputChunk.patterns(output, columns)
            var next = chunk.append(output.sample, patterns, from: 0)
            while let first = next {
                packed.append(try Chunk.pack(chunk.encoded, element: .f32, coder))
                chunk = OutputChunk(columnCount: columns.count)
                next = chunk.append(output.sample, patterns, from: first)
            }
        }
        packed.append(try Chunk.pack(chunk.encoded, element: .f32, coder))
        return packed
    }

    /// The entropy record of `key`, or nil when there is none.
    public func entropyRecord(_ key: EntropyKey) throws(StoreError) -> EntropyRecord? {
        try throwingStoreErrors { try readAll { transaction, tables in try transaction.entropyRecord(tables, key.id) } }
    }

    /// The entropy records of a snapshot (nil: of any) on a probe (nil: on any), the oldest first.
    ///
    /// - Complexity: O(records of the store), whatever they hold.
    public func entropyRecords(snapshot: ContentID? = nil, probe: ContentID? = nil) throws(StoreError) -> [EntropyRecord] {
        try throwingStoreErrors {
            try readAll { transaction, tables in
                var found: [EntropyRecord] = []
                try transaction.entropyRecords(tables) { _, record in
                    if snapshot ?? record.key.snapshot == record.key.snapshot, probe ?? record.key.probe == record.key.probe {
                        found.append(record)
                    }
                }
                return found.sorted { ($0.created, $0.key.id) < ($1.created, $1.key.id) }
            }
        }
    }

    /// The outputs of `key` that are there, in the order of the probe's samples.
    ///
    /// - Throws: `.noSuchRef` when there is no such record, `.damaged`.
    /// - Complexity: O(figures).
    public func outputs(of key: EntropyKey) throws(StoreError) -> [SampleOutputs] {
        try throwingStoreErrors {
            let coder = try BlockCoder()
            return try readAll { transaction, tables in
                try transaction.outputs(tables, of: Store.existing(key.id, transaction, tables), coder)
            }
        }
    }

    /// Removes the record of `key`: in one short transaction, and the space it took in slices after that.
    ///
    /// - Throws: `.noSuchRef` when there is none.
    public func removeEntropyRecord(_ key: EntropyKey) throws(StoreError) {
        try throwingStoreErrors {
            let isGone = try freeing {
                try write { transaction, tables in try tables.features.contains(.probes) && transaction.removeEntropyRecord(tables, key.id) }
            }
            guard isGone else { throw StoreError(.noSuchRef, "\(key.id.short): no such entropy record") }
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// The outputs of `record`, in the order of the probe's samples, checked against what the record says is there.
    func outputs(_ tables: Tables, of record: EntropyRecord, _ coder: BlockCoder) throws -> [SampleOutputs] {
        let id = record.key.id
        let what = "store: entropy record \(id)"
        var assembler = OutputAssembler(record.columns)
        var (count, bytes) = (0, 0)
        try chunks(tables, .outputChunk, of: id, coder) { raw, packedBytes in
            try assembler.append(OutputChunk(raw, columnCount: record.columns.count, what: what), what: what)
            count += 1
            bytes += packedBytes
        }
        let outputs = assembler.outputs.sorted { $0.sample < $1.sample }
        guard count == Int(record.chunks), bytes == Int(record.bytes), outputs.count == record.samplesDone,
            outputs.allSatisfy({ record.contains($0.sample) }), outputs.reduce(0, { $0 + $1.count }) == record.tokens
        else {
            throw StoreError(.damaged, "\(what): its chunks hold other samples than it says", hint: "run ckpt verify")
        }
        return outputs
    }
}
