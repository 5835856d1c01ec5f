internal import CXXHash
internal import LMDB

/// The tables of a store. The raw value enters every checksum: a number is never reused.
enum Kind: UInt8, CaseIterable, CustomStringConvertible {
    case superblock = 1
    case block = 2
    case tensor = 3
    case part = 4
    case snapshot = 5
    case count = 6
    case step = 7
    case tag = 8
    case pin = 9
    case source = 10
    case image = 11
    case pending = 12
    // From here on: only in stores whose superblock has `Feature.probes`.
    case probe = 13
    case probeName = 14
    case probeChunk = 15
    case entropyRecord = 16
    case outputChunk = 17
    case removal = 18
    // From here on: only in stores whose superblock has `Feature.retention`.
    case metric = 19
    case policy = 20

    /// What the superblock says of a store that has this table; nil for those that every store has.
    var feature: Feature? {
        switch self {
        case .probe, .probeName, .probeChunk, .entropyRecord, .outputChunk, .removal: .probes
        case .metric, .policy: .retention
        default: nil
        }
    }

    /// The name of the LMDB table.
    var tableName: String {
        switch self {
        case .superblock: "superblock"
        case .block: "blocks"
        case .tensor: "tensors"
        case .part: "parts"
        case .snapshot: "snapshots"
        case .count: "counts"
        case .step: "steps"
        case .tag: "tags"
        case .pin: "pins"
        case .source: "sources"
        case .image: "images"
        case .pending: "pending"
        case .probe: "probes"
        case .probeName: "probe_names"
        case .probeChunk: "probe_chunks"
        case .entropyRecord: "entropy_records"
        case .outputChunk: "output_chunks"
        case .removal: "removals"
        case .metric: "metrics"
        case .policy: "policies"
        }
    }

    /// One record of it, for people.
    var description: String {
        let name = tableName.replacing("_", with: " ")
        return name.hasSuffix("ies") ? name.dropLast(3) + "y" : name.hasSuffix("s") ? String(name.dropLast()) : name
    }
}

/// The checksum that ends every record: XXH3-64 of the value, seeded with XXH3-64 of kind and key, so that a
/// record that turns up under another key is damage too.
enum Checksum {
    static let byteCount = 8

    static func of(_ kind: Kind, key: [UInt8], value: UnsafeRawBufferPointer) -> UInt64 {
        let seed = ([kind.rawValue] + key).withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) }
        return XXH3_64bits_withSeed(value.baseAddress, value.count, seed)
    }

    /// The value inside `record`, its checksum checked and cut off.
    static func open(_ record: UnsafeRawBufferPointer, _ kind: Kind, key: [UInt8]) throws -> UnsafeRawBufferPointer {
        let value = try unchecked(record, kind, key: key)
        let stored = UInt64(littleEndian: record.loadUnaligned(fromByteOffset: value.count, as: UInt64.self))
        guard stored == of(kind, key: key, value: value) else {
            throw StoreError(
                .damaged, "store: \(kind) record \(Checksum.name(kind, key)) does not match its checksum",
                hint: "run ckpt verify")
        }
        return value
    }

    /// The value inside `record`, its checksum cut off unchecked: for bytes used in place, whose check is the
    /// business of `verify`.
    static func unchecked(
        _ record: UnsafeRawBufferPointer, _ kind: Kind, key: [UInt8]
    ) throws -> UnsafeRawBufferPointer {
        guard record.count >= byteCount else {
            throw StoreError(
                .damaged, "store: \(kind) record \(Checksum.name(kind, key)) is \(record.count) bytes long",
                hint: "run ckpt verify")
        }
        return UnsafeRawBufferPointer(rebasing: record[..<(record.count - byteCount)])
    }

    /// A key as people read it.
    static func name(_ kind: Kind, _ key: [UInt8]) -> String {
        switch kind {
        case .step, .tag, .probeName, .superblock, .policy: String(decoding: key.prefix { $0 != 0 }, as: UTF8.self)
        default: Hex.string(key)
        }
    }
}

/// The tables, opened once a generation.
struct Tables: Sendable {
    /// By the kind's number less one; nil where the store has no such table.
    private var tables: [Table?]
    /// Those whose tables are among these.
    private(set) var features: Set<Feature>

    /// A table that is there: a basic one, or one of a feature among `features`.
    subscript(_ kind: Kind) -> Table { tables[Int(kind.rawValue) - 1]! }

    /// The table, or nil when the store has none of that kind yet.
    func find(_ kind: Kind) -> Table? { tables[Int(kind.rawValue) - 1] }

    /// Opens the basic tables and those of `features`, or nil when the environment is not a store's.
    init?(_ transaction: borrowing ReadTransaction, _ features: Set<Feature>) throws {
        self.features = features
        tables = []
        for kind in Kind.allCases {
            let isThere = kind.feature.map(features.contains) ?? true
            let table = isThere ? try transaction.table(kind.tableName) : nil
            guard !isThere || table != nil else { return nil }
            tables.append(table)
        }
    }

    /// Makes the basic tables.
    init(_ transaction: borrowing WriteTransaction) throws {
        features = []
        tables = try Kind.allCases.map { kind in kind.feature == nil ? try transaction.makeTable(kind.tableName) : nil }
    }

    /// Makes those of `feature` beside `tables`, for this transaction until it commits.
    init(adding feature: Feature, to tables: Tables, _ transaction: borrowing WriteTransaction) throws {
        self = tables
        features.insert(feature)
        for kind in Kind.allCases where kind.feature == feature {
            self.tables[Int(kind.rawValue) - 1] = try transaction.makeTable(kind.tableName)
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// The value of a record, copied, its checksum checked; nil when there is none, or no such table yet.
    func record(_ tables: Tables, _ kind: Kind, _ key: [UInt8]) throws -> [UInt8]? {
        guard let table = tables.find(kind), let span = try get(table, key) else { return nil }
        return try span.withUnsafeBytes { bytes in Array(try Checksum.open(bytes, kind, key: key)) }
    }

    /// Visits the records of a kind from `start` on, checked and copied, until `body` returns false.
    func records(
        _ tables: Tables, _ kind: Kind, from start: [UInt8]? = nil,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws {
        guard let table = tables.find(kind) else { return }
        try scan(table, from: start) { key, value in
            let key = key.withUnsafeBytes { Array($0) }
            return try body(key, value.withUnsafeBytes { Array(try Checksum.open($0, kind, key: key)) })
        }
    }
}

extension WriteTransaction {
    /// Writes a record with its checksum behind it.
    func putRecord(_ tables: Tables, _ kind: Kind, _ key: [UInt8], _ value: UnsafeRawBufferPointer) throws {
        let checksum = Checksum.of(kind, key: key, value: value)
        try put(tables[kind], key, count: value.count + Checksum.byteCount) { target in
            target.copyMemory(from: value)
            target.storeBytes(of: checksum.littleEndian, toByteOffset: value.count, as: UInt64.self)
        }
    }

    func putRecord(_ tables: Tables, _ kind: Kind, _ key: [UInt8], _ value: [UInt8]) throws {
        try value.withUnsafeBytes { try putRecord(tables, kind, key, $0) }
    }
}
