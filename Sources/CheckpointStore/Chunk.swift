internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// A piece of a probe or of an entropy record's outputs: at most 256 KiB, packed as a block is, against nothing.
enum Chunk {
    static let maximumBytes = BlockCoder.maximumBlockBytes

    /// The id of the probe or entropy record, then the number most significant byte first: LMDB's order is theirs.
    static func key(_ id: ContentID, _ number: Int) -> [UInt8] {
        id.bytes + withUnsafeBytes(of: UInt32(number).bigEndian) { Array($0) }
    }

    static func decodeKey(_ key: [UInt8]) throws -> (id: ContentID, number: Int) {
        guard key.count == ContentID.byteCount + 4 else {
            throw StoreError(.damaged, "store: chunk key \(Hex.string(key))", hint: "run ckpt verify")
        }
        return (try ContentID(Array(key.prefix(ContentID.byteCount))), key.suffix(4).reduce(0) { $0 << 8 | Int($1) })
    }

    /// Packs `raw`, which is not empty.
    static func pack(_ raw: [UInt8], element: DType, _ coder: BlockCoder) throws -> [UInt8] {
        try raw.withUnsafeBytes { raw in
            var failure: CodecError?
            let packed = [UInt8](unsafeUninitializedCapacity: BlockCoder.maximumPackedBytes) { target, count in
                do throws(CodecError) {
                    count = try coder.pack(raw, element: element, packing: .dense, into: UnsafeMutableRawBufferPointer(target))
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            return packed
        }
    }

    /// The raw bytes of `packed`.
    static func unpack(_ packed: [UInt8], _ coder: BlockCoder) throws -> [UInt8] {
        try packed.withUnsafeBytes { packed in
            let header = try PackedHeader(packed)
            guard header.baseCount == 0, (1...maximumBytes).contains(header.rawCount) else {
                throw CodecError(.malformed, "a chunk of \(header.rawCount) bytes and \(header.baseCount) bases")
            }
            var raw = [UInt8](repeating: 0, count: header.rawCount)
            var failure: CodecError?
            raw.withUnsafeMutableBytes { target in
                do throws(CodecError) { try coder.unpack(packed, into: target) } catch { failure = error }
            }
            if let failure { throw failure }
            return raw
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// Visits the chunks of a probe or an entropy record in order: their raw bytes, and how many they take packed.
    ///
    /// - Throws: `.damaged` when one is missing before the last that is there.
    func chunks(
        _ tables: Tables, _ kind: Kind, of id: ContentID, _ coder: BlockCoder,
        _ body: (_ raw: [UInt8], _ packedBytes: Int) throws -> Void
    ) throws {
        var next = 0
        try records(tables, kind, from: id.bytes) { key, value in
            guard key.starts(with: id.bytes) else { return false }
            let number = try Chunk.decodeKey(key).number
            guard number == next else {
                throw StoreError(.damaged, "store: chunk \(next) of \(kind) \(id) is missing", hint: "run ckpt verify")
            }
            do {
                try body(Chunk.unpack(value, coder), value.count)
            } catch let error as CodecError {
                throw StoreError(.damaged, "store: chunk \(number) of \(kind) \(id): \(error)", hint: "run ckpt verify")
            }
            next += 1
            return true
        }
    }
}

extension WriteTransaction {
    /// Deletes up to `budget` chunks of `id`; false when none is left.
    func deleteChunks(_ tables: Tables, _ kind: Kind, of id: ContentID, budget: Int) throws -> Bool {
        var keys: [[UInt8]] = []
        try scan(tables[kind], from: id.bytes) { key, _ in
            let key = key.withUnsafeBytes { Array($0) }
            guard key.starts(with: id.bytes), keys.count <= budget else { return false }
            keys.append(key)
            return true
        }
        for key in keys.prefix(budget) { try delete(tables[kind], key) }
        return keys.count > budget
    }
}
