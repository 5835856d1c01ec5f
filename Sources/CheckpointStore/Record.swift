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
    // From here on: only in stores whose superblock has `Superblock.probesFeature`.
    case probe = 13
    case probeName = 14
    case probeChunk = 15
    case entropyRecord = 16
    case outputChunk = 17
    case removal = 18

    /// The tables every store has.
    static let basic = Kind.allCases.filter { $0.rawValue <= Kind.pending.rawValue }
    /// Those of probes and entropy records, made by the first write of one.
    static let records = Kind.allCases.filter { $0.rawValue > Kind.pending.rawValue }

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
        }
    }

    /// One record of it, for people.
    var description: String {
        let name = tableName.replacing("_", with: " ")
        return name.hasSuffix("s") ? String(name.dropLast()) : name
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
        case .step, .tag, .probeName, .superblock: String(decoding: key.prefix { $0 != 0 }, as: UTF8.self)
        default: Hex.string(key)
        }
    }
}

/// The tables, opened once a generation.
struct Tables: Sendable {
    /// The basic ones, then those of probes and entropy records where the store has them.
    private let tables: [Table]

    /// A table that is there: a basic one, or any when `hasRecords`.
    subscript(_ kind: Kind) -> Table { tables[Int(kind.rawValue) - 1] }

    /// Whether the tables of probes and entropy records are among them.
    var hasRecords: Bool { tables.count == Kind.allCases.count }

    /// The table, or nil when the store has none of that kind yet.
    func find(_ kind: Kind) -> Table? { Int(kind.rawValue) <= tables.count ? self[kind] : nil }

    /// Opens the tables that the superblock's features say are there, or nil when the environment is not a store's.
    init?(_ transaction: borrowing ReadTransaction, hasRecords: Bool) throws {
        var tables: [Table] = []
        for kind in hasRecords ? Kind.allCases : Kind.basic {
            guard let table = try transaction.table(kind.tableName) else { return nil }
            tables.append(table)
        }
        self.tables = tables
    }

    /// Makes the basic tables.
    init(_ transaction: borrowing WriteTransaction) throws {
        tables = try Kind.basic.map { kind in try transaction.makeTable(kind.tableName) }
    }

    /// Makes those of probes and entropy records beside `tables`, for this transaction until it commits.
    init(addingRecordsTo tables: Tables, _ transaction: borrowing WriteTransaction) throws {
        self.tables = try Kind.basic.map { tables[$0] } + Kind.records.map { kind in try transaction.makeTable(kind.tableName) }
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
