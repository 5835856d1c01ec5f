internal import LMDB

/// The outputs of one snapshot on one probe, as far as they have been computed, and how they came about.
public struct EntropyRecord: Sendable, Equatable {
    /// What it is kept under.
    public var key: EntropyKey
    /// Program, version, device, precision, threads, date and the like: for people, not part of the key.
    public var provenance: [String: String]
    /// Ascending.
    public var columns: [EntropyColumn]
    /// Nanoseconds since 1970.
    public var created: Int64
    /// Samples of the probe.
    public var samplesTotal: Int
    /// Tokens there are figures for.
    public var tokens: Int
    /// Bytes the figures take, packed.
    public var bytes: UInt64

    /// Bytes the figures of one record take at most, packed.
    static let maximumBytes: UInt64 = 1 << 40

    /// Bit i mod 8 of byte i / 8: outputs of sample i are there.
    var done: [UInt8]
    /// Chunks of outputs.
    var chunks: UInt32

    /// Samples whose outputs are there.
    public var samplesDone: Int { done.reduce(0) { $0 + $1.nonzeroBitCount } }
    /// Whether every sample of the probe has its figures.
    public var isComplete: Bool { samplesDone == samplesTotal }

    /// Whether the outputs of sample `index` are there. O(1).
    public func contains(_ index: Int) -> Bool {
        (0..<samplesTotal).contains(index) && done[index / 8] & 1 << (index % 8) != 0
    }

    /// Whether figures made as `provenance` says may be added: those of two programs or devices would look like those of one.
    ///
    /// - Throws: `.conflict`.
    public func checkMaker(_ provenance: [String: String]) throws(StoreError) {
        guard samplesDone > 0 else { return }
        for name in ["program", "device"] where self.provenance[name] != provenance[name] {
            throw StoreError(
                .conflict,
                "entropy record \(key.id.short) has \(samplesDone) of \(samplesTotal) samples with the \(name) \(self.provenance[name] ?? "unnamed"), not \(provenance[name] ?? "unnamed")",
                hint: "ckpt probe rm PROBE --record \(key.id.short) begins it anew")
        }
    }

    mutating func insert(_ index: Int) { done[index / 8] |= 1 << (index % 8) }

    /// A record of nothing yet.
    init(key: EntropyKey, columns: [EntropyColumn], provenance: [String: String], samplesTotal: Int, created: Int64) {
        self.key = key
        self.provenance = provenance
        self.columns = columns
        self.created = created
        self.samplesTotal = samplesTotal
        tokens = 0
        bytes = 0
        done = [UInt8](repeating: 0, count: (samplesTotal + 7) / 8)
        chunks = 0
    }

    /// The key's own encoding comes first, so that the record's id is the hash of its first bytes.
    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: key.encoded)
        writer.put(settings: provenance)
        writer.put(columns.reduce(UInt32(0)) { $0 | 1 << UInt32($1.rawValue) })
        writer.put(created)
        writer.put(UInt64(tokens))
        writer.put(bytes)
        writer.put(chunks)
        writer.put(UInt32(samplesTotal))
        writer.put(raw: done)
        return writer.bytes
    }

    init(_ bytes: [UInt8], id: ContentID) throws {
        var reader = ByteReader(bytes, "store: entropy record \(id)")
        guard try reader.takeBytes(8) == EntropyKey.magic else { throw reader.damage("not an entropy record") }
        key = EntropyKey(snapshot: try reader.takeID(), probe: try reader.takeID(), settings: try reader.takeSettings())
        guard key.id == id else { throw reader.damage("does not match its id") }
        guard key.settings["weak"] == nil || key.weak != nil else { throw reader.damage("its weak snapshot is no id") }
        provenance = try reader.takeSettings()
        let mask: UInt32 = try reader.take()
        columns = EntropyColumn.allCases.filter { mask & 1 << UInt32($0.rawValue) != 0 }
        guard mask != 0, mask.nonzeroBitCount == columns.count else { throw reader.damage("columns 0x\(String(mask, radix: 16))") }
        created = try reader.take()
        let tokens: UInt64 = try reader.take()
        self.bytes = try reader.take()
        chunks = try reader.take()
        // A token is at least a word of a chunk. Lists add these up and show them.
        guard tokens <= UInt64(chunks) * UInt64(Chunk.maximumBytes / 4), self.bytes <= EntropyRecord.maximumBytes else {
            throw reader.damage("\(tokens) tokens and \(self.bytes) bytes in \(chunks) chunks")
        }
        self.tokens = Int(tokens)
        samplesTotal = Int(try reader.take(UInt32.self))
        done = try reader.takeBytes((samplesTotal + 7) / 8)
        try reader.finish()
        guard samplesTotal % 8 == 0 || done.last! >> (samplesTotal % 8) == 0 else { throw reader.damage("bits past the last sample") }
    }
}

extension Transaction where Self: ~Copyable {
    func entropyRecord(_ tables: Tables, _ id: ContentID) throws -> EntropyRecord? {
        try record(tables, .entropyRecord, id.bytes).map { bytes in try EntropyRecord(bytes, id: id) }
    }

    /// Visits all entropy records, in the order of their ids.
    func entropyRecords(_ tables: Tables, _ body: (_ id: ContentID, _ record: EntropyRecord) throws -> Void) throws {
        try records(tables, .entropyRecord) { key, value in
            let id = try ContentID(key)
            try body(id, EntropyRecord(value, id: id))
            return true
        }
    }
}
