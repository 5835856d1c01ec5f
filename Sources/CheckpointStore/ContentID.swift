internal import CKernels
internal import Crypto

/// A SHA-256: the identity of a block, tensor, part or snapshot.
public struct ContentID: Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// Of a SHA-256.
    public static let byteCount = 32
    /// The bytes in order, eight to a lane, as they lie in memory.
    private var lanes: SIMD4<UInt64>

    private init(lanes: SIMD4<UInt64>) { self.lanes = lanes }

    /// The first 32 bytes of `bytes`, at any alignment.
    public init(_ bytes: UnsafeRawBufferPointer) {
        lanes = bytes.loadUnaligned(as: SIMD4<UInt64>.self)
    }

    /// The id that a key or value of the store is.
    ///
    /// - Throws: `.damaged` when it is not 32 bytes.
    init(_ bytes: [UInt8]) throws {
        guard bytes.count == ContentID.byteCount else {
            throw StoreError(.damaged, "store: an id of \(bytes.count) bytes: \(Hex.string(bytes))", hint: "run ckpt verify")
        }
        self = bytes.withUnsafeBytes { ContentID($0) }
    }

    /// The id with these 64 lower-case hexadecimal digits; nil for other text.
    public init?(digits: String) {
        guard digits.utf8.count == 2 * ContentID.byteCount, let nibbles = Hex.nibbles(digits) else { return nil }
        let bytes = (0..<ContentID.byteCount).map { nibbles[2 * $0] << 4 | nibbles[2 * $0 + 1] }
        self = bytes.withUnsafeBytes { ContentID($0) }
        guard description == digits else { return nil }
    }

    /// The hash of `bytes`. O(n).
    public static func hash(of bytes: UnsafeRawBufferPointer) -> ContentID {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        return hash.finalize().withUnsafeBytes { ContentID($0) }
    }

    /// The hashes of two runs of bytes: side by side where the processor gains by it, else one after the other.
    static func hashes(of a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> (ContentID, ContentID) {
        var digests = (SIMD4<UInt64>(), SIMD4<UInt64>())
        let isDone = withUnsafeMutableBytes(of: &digests) { digests in
            let first = digests.baseAddress!.assumingMemoryBound(to: UInt8.self)
            return ck_sha256_pair(a.baseAddress, a.count, first, b.baseAddress, b.count, first + byteCount) != 0
        }
        guard isDone else { return (hash(of: a), hash(of: b)) }
        return (ContentID(lanes: digests.0), ContentID(lanes: digests.1))
    }

    /// SHA-256 of `bytes`.
    public static func hash(of bytes: [UInt8]) -> ContentID {
        bytes.withUnsafeBytes { hash(of: $0) }
    }

    /// The 32 bytes, in the order of the digits.
    public var bytes: [UInt8] { withUnsafeBytes(of: lanes) { Array($0) } }

    /// 64 lower-case hexadecimal digits.
    public var description: String { Hex.string(bytes) }

    /// The first 12 digits, as shown to people.
    public var short: String { Hex.string(Array(bytes.prefix(6))) }

    /// In the order of their bytes.
    public static func < (a: ContentID, b: ContentID) -> Bool {
        withUnsafeBytes(of: a.lanes) { a in
            withUnsafeBytes(of: b.lanes) { b in a.lexicographicallyPrecedes(b) }
        }
    }
}

/// Hexadecimal, lower case.
enum Hex {
    private static let digits = Array("0123456789abcdef".utf8)

    static func string(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The values of the digits of `text`, or nil when one is none.
    static func nibbles(_ text: String) -> [UInt8]? {
        var values: [UInt8] = []
        for unit in text.utf8 {
            switch unit {
            case 0x30...0x39: values.append(unit - 0x30)
            case 0x61...0x66: values.append(unit - 0x61 + 10)
            case 0x41...0x46: values.append(unit - 0x41 + 10)
            default: return nil
            }
        }
        return values
    }
}
