internal import LMDB

/// What is stored of a snapshot beside its parts: the canonical manifest, and sums over the parts so that lists
/// need not read them.
struct SnapshotRecord: Equatable {
    var manifest: SnapshotManifest
    /// Parts that were dropped: only their ids are left.
    var dropped: Set<PartKind> = []
    var files: UInt32
    var tensors: UInt32
    var rawBytes: UInt64

    init(manifest: SnapshotManifest, parts: [PartManifest]) {
        self.manifest = manifest
        files = parts.reduce(0) { $0 + UInt32($1.files.count) }
        tensors = parts.reduce(0) { $0 + UInt32($1.files.reduce(0) { $0 + $1.tensors.count }) }
        rawBytes = parts.reduce(0) { $0 + $1.byteCount }
    }

    /// Parts that were not dropped.
    var here: [SnapshotManifest.Part] { manifest.parts.filter { !dropped.contains($0.kind) } }

    /// Bit n for the part of kind n.
    private static func mask(_ parts: Set<PartKind>) -> UInt8 { parts.reduce(0) { $0 | 1 << $1.rawValue } }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(SnapshotRecord.mask(dropped))
        writer.put(files)
        writer.put(tensors)
        writer.put(rawBytes)
        writer.put(raw: manifest.encoded())
        return writer.bytes
    }

    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        let mask: UInt8 = try reader.take()
        dropped = Set(PartKind.allCases.filter { mask & 1 << $0.rawValue != 0 })
        guard mask == SnapshotRecord.mask(dropped) else { throw reader.damage("unknown parts dropped") }
        files = try reader.take()
        tensors = try reader.take()
        rawBytes = try reader.take()
        manifest = try SnapshotManifest(reader.takeBytes(reader.remaining), what: what)
        guard dropped.isSubset(of: manifest.parts.map(\.kind)) else { throw reader.damage("a part dropped that never was") }
    }
}

/// One entry of a run: which snapshot stands at a step, and how it came there.
struct StepRecord: Equatable {
    var snapshot: ContentID
    /// The snapshot it was trained from, as far as is known.
    var parent: ContentID?
    /// Nanoseconds since 1970.
    var ingested: Int64
    /// The path it was ingested from.
    var source: String
    /// Optimizer files that `--no-optimizer` left out.
    var leftOutFiles: UInt32
    var leftOutBytes: UInt64

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(snapshot)
        writer.put(UInt8(parent == nil ? 0 : 1))
        if let parent { writer.put(parent) }
        writer.put(ingested)
        writer.put(source)
        writer.put(leftOutFiles)
        writer.put(leftOutBytes)
        return writer.bytes
    }

    init(
        snapshot: ContentID, parent: ContentID?, ingested: Int64, source: String, leftOutFiles: UInt32,
        leftOutBytes: UInt64
    ) {
        self.snapshot = snapshot
        self.parent = parent
        self.ingested = ingested
        self.source = source
        self.leftOutFiles = leftOutFiles
        self.leftOutBytes = leftOutBytes
    }

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: step record")
        snapshot = try reader.takeID()
        parent = try reader.takeFlag() ? try reader.takeID() : nil
        ingested = try reader.take()
        source = try reader.takeString()
        leftOutFiles = try reader.take()
        leftOutBytes = try reader.take()
        try reader.finish()
    }
}

/// The key of a step: run name, a zero byte, the step most significant byte first, so that LMDB's order is the
/// order of runs and of steps in them.
enum StepKey {
    static func encode(run: String, step: UInt64) -> [UInt8] {
        Array(run.utf8) + [0] + withUnsafeBytes(of: step.bigEndian) { Array($0) }
    }

    static func decode(_ key: [UInt8]) throws -> (run: String, step: UInt64) {
        guard key.count >= 10, key[key.count - 9] == 0,
            let run = String(validating: key[..<(key.count - 9)], as: UTF8.self), !run.utf8.contains(0)
        else { throw StoreError(.damaged, "store: step key \(Hex.string(key))", hint: "run ckpt verify") }
        return (run, key.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
    }
}

extension Transaction where Self: ~Copyable {
    func tensorRecord(_ tables: Tables, _ id: ContentID) throws -> TensorRecord? {
        try record(tables, .tensor, id.bytes).map { bytes in try TensorRecord(bytes, what: "store: tensor \(id)") }
    }

    func partManifest(_ tables: Tables, _ id: ContentID) throws -> PartManifest? {
        try record(tables, .part, id.bytes).map { bytes in try PartManifest(bytes, what: "store: part \(id)") }
    }

    func snapshotRecord(_ tables: Tables, _ id: ContentID) throws -> SnapshotRecord? {
        try record(tables, .snapshot, id.bytes).map { bytes in
            try SnapshotRecord(bytes, what: "store: snapshot \(id)")
        }
    }

    func stepRecord(_ tables: Tables, run: String, step: UInt64) throws -> StepRecord? {
        try record(tables, .step, StepKey.encode(run: run, step: step)).map { bytes in try StepRecord(bytes) }
    }

    /// Visits the steps of `run` (nil: of all runs) in order.
    func steps(
        _ tables: Tables, of run: String? = nil,
        _ body: (_ run: String, _ step: UInt64, _ record: StepRecord) throws -> Bool
    ) throws {
        let prefix = run.map { Array($0.utf8) + [0] }
        try records(tables, .step, from: prefix) { key, value in
            // The zero byte ends the name, so no other run's keys start with the prefix; the step may.
            if let prefix, !key.starts(with: prefix) || key.count != prefix.count + 8 { return false }
            let (run, step) = try StepKey.decode(key)
            return try body(run, step, StepRecord(value))
        }
    }

    /// The newest step of `run`, or nil when there is no such run.
    func head(_ tables: Tables, of run: String) throws -> (step: UInt64, record: StepRecord)? {
        let key = try withCursor(tables[.step]) { cursor -> [UInt8]? in
            // The last key before the one that follows every step of the run.
            let bound = Array(run.utf8) + [1]
            let found = try cursor.seek(atLeast: bound) ? try cursor.previous() : try cursor.last()
            return found ? cursor.key.withUnsafeBytes { Array($0) } : nil
        }
        guard let key, let (name, step) = try? StepKey.decode(key), name == run,
            let value = try record(tables, .step, key)
        else { return nil }
        return (step, try StepRecord(value))
    }

    /// The names of all runs, in byte order.
    func runNames(_ tables: Tables) throws -> [String] {
        try withCursor(tables[.step]) { cursor in
            var names: [String] = []
            var more = try cursor.first()
            while more {
                let (run, _) = try StepKey.decode(cursor.key.withUnsafeBytes { Array($0) })
                names.append(run)
                more = try cursor.seek(atLeast: Array(run.utf8) + [1])
            }
            return names
        }
    }

    /// The tags of `snapshot`, in byte order; of all snapshots when nil.
    func tags(_ tables: Tables) throws -> [(name: String, snapshot: ContentID)] {
        var tags: [(name: String, snapshot: ContentID)] = []
        try records(tables, .tag) { key, value in
            tags.append((String(decoding: key, as: UTF8.self), try ContentID(value)))
            return true
        }
        return tags
    }

    func isPinned(_ tables: Tables, _ id: ContentID) throws -> Bool {
        try contains(tables[.pin], id.bytes)
    }
}
