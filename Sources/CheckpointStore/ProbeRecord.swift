internal import BlockCodec
internal import LMDB

/// What is stored of a probe beside its chunks: sums, so that lists need not read them.
struct ProbeRecord: Equatable {
    /// Bytes of the encoding.
    var byteCount: UInt64
    var samples: UInt32
    var tokens: UInt64
    var supervisedTokens: UInt64
    /// Bytes of the chunks as they are stored.
    var packedBytes: UInt64
    /// Nanoseconds since 1970.
    var created: Int64

    init(_ probe: Probe, byteCount: Int, packedBytes: Int, created: Int64) {
        self.byteCount = UInt64(byteCount)
        samples = UInt32(probe.samples.count)
        tokens = probe.samples.reduce(0) { $0 + UInt64($1.tokens.count) }
        supervisedTokens = probe.samples.reduce(0) { $0 + UInt64($1.supervisedCount) }
        self.packedBytes = UInt64(packedBytes)
        self.created = created
    }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(byteCount)
        writer.put(samples)
        writer.put(tokens)
        writer.put(supervisedTokens)
        writer.put(packedBytes)
        writer.put(created)
        return writer.bytes
    }

    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        byteCount = try reader.take()
        samples = try reader.take()
        tokens = try reader.take()
        supervisedTokens = try reader.take()
        packedBytes = try reader.take()
        created = try reader.take()
        try reader.finish()
        // Lists add them up and show them.
        guard byteCount <= UInt64(Probe.maximumBytes), tokens <= byteCount, supervisedTokens <= tokens,
            packedBytes <= 2 * UInt64(Probe.maximumBytes)
        else { throw reader.damage("impossible sums") }
    }
}

extension Transaction where Self: ~Copyable {
    func probeRecord(_ tables: Tables, _ id: ContentID) throws -> ProbeRecord? {
        try record(tables, .probe, id.bytes).map { bytes in try ProbeRecord(bytes, what: "store: probe \(id)") }
    }

    /// The probe `id` with its record, everything in it checked against the id.
    ///
    /// Memory grows with the chunks that are there, never with what the record says.
    func probe(_ tables: Tables, _ id: ContentID) throws -> (probe: Probe, record: ProbeRecord)? {
        guard let record = try probeRecord(tables, id) else { return nil }
        let coder = try BlockCoder()
        var bytes: [UInt8] = []
        var packedBytes = 0
        try chunks(tables, .probeChunk, of: id, coder) { raw, packed in
            guard bytes.count % Chunk.maximumBytes == 0, bytes.count + raw.count <= Probe.maximumBytes else {
                throw StoreError(.damaged, "store: probe \(id): chunks of the wrong size", hint: "run ckpt verify")
            }
            bytes += raw
            packedBytes += packed
        }
        guard ContentID.hash(of: bytes) == id else {
            throw StoreError(.damaged, "store: probe \(id) does not match its id", hint: "run ckpt verify")
        }
        let probe = try Probe(bytes, what: "store: probe \(id)")
        guard record == ProbeRecord(probe, byteCount: bytes.count, packedBytes: packedBytes, created: record.created) else {
            throw StoreError(.damaged, "store: probe \(id): its sums are not those of its samples", hint: "run ckpt verify")
        }
        return (probe, record)
    }

    /// The names of all probes, in byte order.
    func probeNames(_ tables: Tables) throws -> [(name: String, id: ContentID)] {
        var names: [(name: String, id: ContentID)] = []
        try records(tables, .probeName) { key, value in
            guard let name = String(validating: key, as: UTF8.self) else {
                throw StoreError(.damaged, "store: probe name \(Hex.string(key))", hint: "run ckpt verify")
            }
            names.append((name, try ContentID(value)))
            return true
        }
        return names
    }

    /// The id of the probe called `name`, or nil when there is none.
    func probeID(_ tables: Tables, named name: String) throws -> ContentID? {
        guard !name.isEmpty, name.utf8.count <= 500 else { return nil }
        return try record(tables, .probeName, Array(name.utf8)).map { bytes in try ContentID(bytes) }
    }
}
