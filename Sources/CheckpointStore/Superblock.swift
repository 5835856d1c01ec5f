#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Tables that a store has since they were first needed. The raw value is a bit of `Superblock.readCompatible`.
enum Feature: UInt64, CaseIterable {
    /// Probes and entropy records.
    case probes = 1
    /// Metrics of snapshots, and policies of retention.
    case retention = 2
}

/// The record that says what a store is and which features a reader must know.
struct Superblock: Equatable {
    static let magic = Array("ckptsto1".utf8)
    static let key = Array("store".utf8)
    static let formatVersion: UInt32 = 1
    /// Features without which the store cannot be read. None yet.
    static let knownIncompatible: UInt64 = 0
    /// Features without which it must not be written: a writer that does not know their tables would remove snapshots and leave
    /// what they say of them.
    static let knownReadCompatible = Feature.allCases.reduce(0) { $0 | $1.rawValue }

    var version: UInt32
    var incompatible: UInt64
    var readCompatible: UInt64
    /// Random; tells two stores apart.
    var identifier: [UInt8]
    /// Nanoseconds since 1970.
    var created: Int64
    /// Deepest chain of deltas a block may hang on.
    var depthLimit: UInt8

    static func new(depthLimit: UInt8) -> Superblock {
        var generator = SystemRandomNumberGenerator()
        return Superblock(
            version: formatVersion, incompatible: 0, readCompatible: 0,
            identifier: (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) },
            created: FileSystem.now(), depthLimit: depthLimit)
    }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: Superblock.magic)
        writer.put(version)
        writer.put(incompatible)
        writer.put(readCompatible)
        writer.put(raw: identifier)
        writer.put(created)
        writer.put(depthLimit)
        return writer.bytes
    }

    private init(
        version: UInt32, incompatible: UInt64, readCompatible: UInt64, identifier: [UInt8], created: Int64,
        depthLimit: UInt8
    ) {
        self.version = version
        self.incompatible = incompatible
        self.readCompatible = readCompatible
        self.identifier = identifier
        self.created = created
        self.depthLimit = depthLimit
    }

    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes, "store: superblock")
        guard try reader.takeBytes(8) == Superblock.magic else { throw reader.damage("not a ckpt store") }
        self.init(
            version: try reader.take(), incompatible: try reader.take(), readCompatible: try reader.take(),
            identifier: try reader.takeBytes(16), created: try reader.take(), depthLimit: try reader.take())
        guard version > 0 else { throw reader.damage("format version 0") }
    }

    /// Those whose tables the store has.
    var features: Set<Feature> { Set(Feature.allCases.filter { readCompatible & $0.rawValue != 0 }) }

    /// Refuses a store that needs features this version does not know.
    func checkReadable() throws {
        let unknown = incompatible & ~Superblock.knownIncompatible
        guard unknown == 0, version <= Superblock.formatVersion else {
            throw StoreError(
                .incompatible, "store: format \(version) with features 0x\(String(unknown, radix: 16)) unknown here",
                hint: "use a newer ckpt")
        }
    }

    func checkWritable() throws {
        let unknown = readCompatible & ~Superblock.knownReadCompatible
        guard unknown == 0 else {
            throw StoreError(
                .incompatible,
                "store: written by a newer ckpt (features 0x\(String(unknown, radix: 16))); it can only be read here",
                hint: "use a newer ckpt")
        }
    }
}
