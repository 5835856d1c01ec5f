internal import CXXHash
internal import LMDB

/// The tables of a store. The raw value enters every checksum: a number is never reused.
enum Kind: UInt8, CaseIterable {
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
        }
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
        case .step, .tag, .superblock: String(decoding: key.prefix { $0 != 0 }, as: UTF8.self)
        default: Hex.string(key)
        }
    }
}

/// The tables, opened once a generation.
struct Tables: Sendable {
    private let tables: [Table]

    subscript(_ kind: Kind) -> Table { tables[Int(kind.rawValue) - 1] }

    /// Opens all tables, or nil when the environment is not a store's.
    init?(_ transaction: borrowing ReadTransaction) throws {
        var tables: [Table] = []
        for kind in Kind.allCases {
            guard let table = try transaction.table(kind.tableName) else { return nil }
            tables.append(table)
        }
        self.tables = tables
    }

    /// Makes all tables.
    init(_ transaction: borrowing WriteTransaction) throws {
        tables = try Kind.allCases.map { kind in try transaction.makeTable(kind.tableName) }
    }
}

extension Transaction where Self: ~Copyable {
    /// The value of a record, copied, its checksum checked; nil when there is none.
    func record(_ tables: Tables, _ kind: Kind, _ key: [UInt8]) throws -> [UInt8]? {
        guard let span = try get(tables[kind], key) else { return nil }
        return try span.withUnsafeBytes { bytes in Array(try Checksum.open(bytes, kind, key: key)) }
    }

    /// Visits the records of a kind from `start` on, checked and copied, until `body` returns false.
    func records(
        _ tables: Tables, _ kind: Kind, from start: [UInt8]? = nil,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws {
        try scan(tables[kind], from: start) { key, value in
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
