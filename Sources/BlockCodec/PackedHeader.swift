public import TensorFormats

/// The codecs a packed block may name. Ids are never reused.
public enum Codec: UInt8, Sendable {
    /// The raw bytes themselves.
    case raw = 0
    /// Byte planes, each raw, constant or a zstd frame.
    case planes = 1
    /// The difference from one or two other blocks.
    case difference = 2
    /// Palettes of few distinct words.
    case palette = 3

    /// Whether blocks of it are packed against nothing.
    var isDense: Bool { self != .difference }
}

/// The first 16 bytes of a packed block; `format-spec/store-format.md` has the layout.
public struct PackedHeader: Sendable, Equatable {
    public static let byteCount = 16
    /// Bytes of one base id, between header and payload.
    public static let baseByteCount = 32
    public static let maximumBases = 2

    public var codec: UInt8
    /// The element type the block was coded as.
    public var element: DType
    /// 0 for dense blocks; deltas 1 + their deepest base.
    public var depth: UInt8
    public var baseCount: UInt8
    public var rawCount: Int
    public var payloadCount: Int
    /// Parameters of the codec; zero for raw bytes and planes.
    public var transform: UInt32

    init(
        codec: Codec, element: DType, depth: UInt8 = 0, baseCount: Int = 0, rawCount: Int, payloadCount: Int,
        transform: UInt32 = 0
    ) {
        self.codec = codec.rawValue
        self.element = element
        self.depth = depth
        self.baseCount = UInt8(baseCount)
        self.rawCount = rawCount
        self.payloadCount = payloadCount
        self.transform = transform
    }

    /// Bytes from the start of the packed block to its payload.
    public var payloadOffset: Int { PackedHeader.byteCount + Int(baseCount) * PackedHeader.baseByteCount }

    /// Reads and checks the header of `packed`.
    ///
    /// - Throws: `.malformed` when a field is impossible or the lengths do not add up to `packed.count`.
    public init(_ packed: UnsafeRawBufferPointer) throws(CodecError) {
        guard packed.count >= PackedHeader.byteCount else {
            throw CodecError(.malformed, "packed block of \(packed.count) bytes has no header")
        }
        guard let element = DType(rawValue: packed[1]) else {
            throw CodecError(.malformed, "unknown element type \(packed[1])")
        }
        codec = packed[0]
        self.element = element
        depth = packed[2]
        baseCount = packed[3]
        rawCount = Int(UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        payloadCount = Int(UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
        transform = UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        guard Int(baseCount) <= PackedHeader.maximumBases, payloadOffset + payloadCount == packed.count else {
            throw CodecError(.malformed, "packed block's lengths do not add up to its \(packed.count) bytes")
        }
        guard let known = Codec(rawValue: codec) else { return }
        guard known.isDense ? depth == 0 && baseCount == 0 : depth > 0 && baseCount > 0 else {
            throw CodecError(.malformed, "a block of codec \(codec) with depth \(depth) and \(baseCount) bases")
        }
        guard transform == 0 || known == .difference || known == .palette else {
            throw CodecError(.malformed, "a dense block with a transform")
        }
    }

    /// The base ids that follow the header of `packed`, 32 bytes each.
    public static func bases(in packed: UnsafeRawBufferPointer) throws(CodecError) -> [UnsafeRawBufferPointer] {
        let header = try PackedHeader(packed)
        return (0..<Int(header.baseCount)).map { index in
            let start = byteCount + index * baseByteCount
            return UnsafeRawBufferPointer(rebasing: packed[start..<(start + baseByteCount)])
        }
    }

    func write(to target: UnsafeMutableRawBufferPointer) {
        target[0] = codec
        target[1] = element.rawValue
        target[2] = depth
        target[3] = baseCount
        target.storeBytes(of: UInt32(rawCount).littleEndian, toByteOffset: 4, as: UInt32.self)
        target.storeBytes(of: UInt32(payloadCount).littleEndian, toByteOffset: 8, as: UInt32.self)
        target.storeBytes(of: transform.littleEndian, toByteOffset: 12, as: UInt32.self)
    }
}
