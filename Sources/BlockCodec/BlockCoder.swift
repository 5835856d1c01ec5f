internal import CKernels
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// How the blocks of an ingest are kept.
public enum Packing: UInt8, Sendable {
    /// Packed against the same block of the snapshot before, where that is shorter than packed against nothing.
    case delta = 0
    /// Packed against nothing.
    case dense = 1
    /// As they are, so that they can be read in place.
    case raw = 2
}

/// Packs and unpacks blocks. Pure functions of their input; the object only keeps buffers and zstd contexts.
/// One a thread.
public final class BlockCoder {
    /// The largest block, in bytes of raw data.
    public static let maximumBlockBytes = 256 << 10

    /// Planes as they lie in a payload: mode and length of each, then their bytes.
    private enum PlaneMode: UInt8 {
        case raw = 0
        /// One byte, repeated.
        case constant = 1
        case zstd = 2
    }
    private static let planeHeaderBytes = 5

    /// Above this entropy in bits a byte, a sample's plane is kept as it is: Huffman coding would save under 2 %.
    private static let incompressibleEntropy = 7.85
    /// Below this, repeats are worth a search: Huffman coding spends a bit a byte at least.
    private static let repetitiveEntropy = 1.2

    private let zstd: Zstd
    private let kernels: ck_kernels
    private let tokenCoder: TokenCoder
    private let differences: DifferenceCoder
    private let palettes: PaletteCoder
    private let planes: UnsafeMutableRawBufferPointer
    private let check: UnsafeMutableRawBufferPointer

    public convenience init() throws(CodecError) {
        try self.init(kernels: ck_active_kernels()!.pointee)
    }

    init(kernels: ck_kernels) throws(CodecError) {
        zstd = try Zstd()
        self.kernels = kernels
        tokenCoder = TokenCoder(kernels, zstd, maximumTokens: BlockCoder.maximumBlockBytes)
        differences = DifferenceCoder(kernels, tokenCoder)
        palettes = PaletteCoder(tokenCoder)
        planes = .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
        check = .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
    }

    deinit {
        tokenCoder.deallocate()
        planes.deallocate()
        check.deallocate()
    }

    /// The room that `pack` needs for a block of any content.
    public static let maximumPackedBytes = PackedHeader.byteCount + maximumBlockBytes

    /// Packs `raw`, at most `maximumBlockBytes`, into `target`, and proves that it unpacks to the same bytes.
    ///
    /// - Parameters:
    ///   - bases: what it may be packed against: none, a block of as many bytes, or that one and its own first base. Used
    ///     when `packing` is `.delta` and it pays.
    ///   - target: room for the raw bytes and a header.
    /// - Returns: bytes written, never more than the raw bytes and a header.
    /// - Complexity: O(n).
    public func pack(
        _ raw: UnsafeRawBufferPointer, element: DType, packing: Packing, bases: [BaseBlock] = [],
        into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        precondition(raw.count <= BlockCoder.maximumBlockBytes, "block over the largest size")
        precondition(target.count >= PackedHeader.byteCount + raw.count, "no room for a block kept raw")
        precondition(bases.count <= PackedHeader.maximumBases && bases.allSatisfy { $0.bytes.count == raw.count }, "unfit bases")
        if packing != .raw, let count = packShorter(raw, element, packing == .delta ? bases : [], into: target) {
            let proof = UnsafeMutableRawBufferPointer(rebasing: check[..<raw.count])
            try unpack(UnsafeRawBufferPointer(rebasing: target[..<count]), bases: bases.map(\.bytes), into: proof)
            guard memcmp(proof.baseAddress!, raw.baseAddress!, raw.count) == 0 else {
                throw CodecError(.library, "a packed block did not unpack to the same bytes")
            }
            return count
        }
        let header = PackedHeader(codec: .raw, element: element, rawCount: raw.count, payloadCount: raw.count)
        header.write(to: target)
        UnsafeMutableRawBufferPointer(rebasing: target[PackedHeader.byteCount...]).copyMemory(from: raw)
        return PackedHeader.byteCount + raw.count
    }

    /// Expected bytes of `raw` packed against nothing, and against `bases`; told by samples.
    public func expectedBytes(_ raw: UnsafeRawBufferPointer, element: DType, bases: [BaseBlock]) -> (dense: Int, delta: Int?) {
        let layout = ElementLayout(element)
        let delta = bases.first.flatMap { base in
            differences.expectedBytes(raw, base.bytes, bases.count > 1 ? bases[1].bytes : nil, layout)
        }
        return (expectedDenseBytes(raw, layout), delta)
    }

    /// The best of difference, palette and planes, or nil when the raw bytes are shorter.
    private func packShorter(
        _ raw: UnsafeRawBufferPointer, _ element: DType, _ bases: [BaseBlock], into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let layout = ElementLayout(element)
        guard !raw.isEmpty, raw.count % layout.width == 0 else { return nil }
        let palette = palettes.plan(raw, width: layout.width)
        let dense = bases.isEmpty && palette == nil ? 0 : expectedDenseBytes(raw, layout)
        let bestDense = min(dense, palette?.expectedBytes ?? .max)
        if !bases.isEmpty, let count = packDifference(raw, element, layout, bases, limit: bestDense, into: target) { return count }
        if let palette, palette.expectedBytes < dense,
            let count = packPalette(raw, element, layout, palette.segment, into: target)
        {
            return count
        }
        return packPlanes(raw, element: element, into: target)
    }

    private func packDifference(
        _ raw: UnsafeRawBufferPointer, _ element: DType, _ layout: ElementLayout, _ bases: [BaseBlock], limit: Int,
        into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        // Behind two base ids; when one does, the payload moves up.
        let start = PackedHeader.byteCount + bases.count * PackedHeader.baseByteCount
        guard start < raw.count else { return nil }
        let room = UnsafeMutableRawBufferPointer(rebasing: target[start..<(PackedHeader.byteCount + raw.count)])
        guard let packed = differences.pack(raw, bases: bases, layout, limit: limit, into: room) else { return nil }
        let header = PackedHeader(
            codec: .difference, element: element, depth: bases[0].depth + 1, baseCount: packed.bases, rawCount: raw.count,
            payloadCount: packed.bytes, transform: packed.transform)
        header.write(to: target)
        for (index, base) in bases.prefix(packed.bases).enumerated() {
            let place = PackedHeader.byteCount + index * PackedHeader.baseByteCount
            base.id.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[place...]).copyMemory(from: $0) }
        }
        if header.payloadOffset < start {
            memmove(target.baseAddress! + header.payloadOffset, target.baseAddress! + start, packed.bytes)
        }
        return header.payloadOffset + packed.bytes
    }

    private func packPalette(
        _ raw: UnsafeRawBufferPointer, _ element: DType, _ layout: ElementLayout, _ segment: Int,
        into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let room = UnsafeMutableRawBufferPointer(rebasing: target[PackedHeader.byteCount..<(PackedHeader.byteCount + raw.count)])
        guard let packed = palettes.pack(raw, width: layout.width, segment: segment, into: room) else { return nil }
        let header = PackedHeader(
            codec: .palette, element: element, rawCount: raw.count, payloadCount: packed.bytes, transform: packed.transform)
        header.write(to: target)
        return PackedHeader.byteCount + packed.bytes
    }

    /// What planes would take, told by a sample of the block.
    private func expectedDenseBytes(_ raw: UnsafeRawBufferPointer, _ layout: ElementLayout) -> Int {
        let words = raw.count / layout.width
        guard words > 0 else { return raw.count }
        let piece = 128, pieces = 32
        var sampled = words
        var source = raw
        if words > piece * pieces {
            sampled = piece * pieces
            let bytes = piece * layout.width
            let step = (words - piece) / (pieces - 1) * layout.width
            for index in 0..<pieces {
                UnsafeMutableRawBufferPointer(rebasing: check[(index * bytes)..<((index + 1) * bytes)]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: raw[(index * step)..<(index * step + bytes)]))
            }
            source = UnsafeRawBufferPointer(rebasing: check[..<(pieces * bytes)])
        }
        let target = planes.baseAddress!.assumingMemoryBound(to: UInt8.self)
        kernels.split_planes(source.baseAddress!, sampled, Int32(layout.width), layout.rotates ? 1 : 0, target)
        let bits = (0..<layout.width).reduce(0.0) { $0 + ck_sampled_entropy(target + $1 * sampled, sampled) }
        return min(raw.count, Int(bits * Double(words) / 8))
    }

    /// The block as planes, or nil when that is no shorter than the raw bytes.
    private func packPlanes(
        _ raw: UnsafeRawBufferPointer, element: DType, into packed: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let layout = ElementLayout(element)
        guard !raw.isEmpty, raw.count % layout.width == 0 else { return nil }
        let words = raw.count / layout.width
        kernels.split_planes(
            raw.baseAddress!, words, Int32(layout.width), layout.rotates ? 1 : 0,
            planes.baseAddress!.assumingMemoryBound(to: UInt8.self))

        let start = PackedHeader.byteCount + layout.width * BlockCoder.planeHeaderBytes
        let limit = PackedHeader.byteCount + raw.count
        var end = start
        for index in 0..<layout.width {
            let plane = UnsafeRawBufferPointer(rebasing: planes[(index * words)..<((index + 1) * words)])
            guard end < limit else { return nil }
            let room = UnsafeMutableRawBufferPointer(rebasing: packed[end..<limit])
            guard let (mode, count) = packPlane(plane, into: room, layout.mode) else { return nil }
            let header = PackedHeader.byteCount + index * BlockCoder.planeHeaderBytes
            packed[header] = mode.rawValue
            packed.storeBytes(of: UInt32(count).littleEndian, toByteOffset: header + 1, as: UInt32.self)
            end += count
        }
        guard end < limit else { return nil }
        let header = PackedHeader(
            codec: .planes, element: element, rawCount: raw.count, payloadCount: end - PackedHeader.byteCount)
        header.write(to: packed)
        return end
    }

    /// Writes one plane in its shortest form; nil when even that does not fit.
    private func packPlane(
        _ plane: UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer, _ mode: Zstd.Mode
    ) -> (PlaneMode, Int)? {
        let bytes = plane.baseAddress!.assumingMemoryBound(to: UInt8.self)
        if ck_is_constant(bytes, plane.count) != 0 {
            room[0] = plane[0]
            return (.constant, 1)
        }
        if let mode = compression(of: plane, mode), let count = zstd.compress(plane, into: room, mode: mode),
            count < plane.count
        {
            return (.zstd, count)
        }
        guard plane.count <= room.count else { return nil }
        room.copyMemory(from: plane)
        return (.raw, plane.count)
    }

    /// How a plane is best compressed, told by a sample; nil: not at all.
    private func compression(of plane: UnsafeRawBufferPointer, _ mode: Zstd.Mode) -> Zstd.Mode? {
        guard mode == .entropy else { return mode }
        let entropy = ck_sampled_entropy(plane.baseAddress!.assumingMemoryBound(to: UInt8.self), plane.count)
        if entropy > BlockCoder.incompressibleEntropy { return nil }
        return entropy < BlockCoder.repetitiveEntropy ? .general : .entropy
    }

    /// The raw bytes of a block kept raw, in place; nil for other codecs.
    public static func rawBytes(of packed: UnsafeRawBufferPointer) throws(CodecError) -> UnsafeRawBufferPointer? {
        let header = try PackedHeader(packed)
        guard header.codec == Codec.raw.rawValue else { return nil }
        guard header.payloadCount == header.rawCount else {
            throw CodecError(.malformed, "raw block of \(header.payloadCount) bytes says it holds \(header.rawCount)")
        }
        return UnsafeRawBufferPointer(rebasing: packed[header.payloadOffset...])
    }

    /// Unpacks `packed` into `target`, which must have the block's raw length and share no memory with the bases.
    ///
    /// - Parameter bases: the raw bytes of the blocks that `PackedHeader.bases` names, in order; more are ignored.
    ///
    /// Safe on hostile bytes: every length is checked against the buffers.
    /// - Throws: `.malformed`, or `.unknownCodec` for one this version does not have.
    public func unpack(
        _ packed: UnsafeRawBufferPointer, bases: [UnsafeRawBufferPointer] = [], into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let header = try PackedHeader(packed)
        guard header.rawCount == target.count, header.rawCount <= BlockCoder.maximumBlockBytes else {
            throw CodecError(.malformed, "block of \(header.rawCount) bytes where \(target.count) belong")
        }
        let payload = UnsafeRawBufferPointer(rebasing: packed[header.payloadOffset...])
        switch Codec(rawValue: header.codec) {
        case .raw:
            guard payload.count == target.count else {
                throw CodecError(.malformed, "raw block of \(payload.count) bytes where \(target.count) belong")
            }
            target.copyMemory(from: payload)
        case .difference:
            let bases = Array(bases.prefix(Int(header.baseCount)))
            guard bases.count == Int(header.baseCount), bases.allSatisfy({ $0.count == target.count }) else {
                throw CodecError(.malformed, "a difference from \(header.baseCount) blocks; \(bases.count) of its size are there")
            }
            try differences.unpack(
                payload, transform: header.transform, bases: bases, ElementLayout(header.element), into: target)
        case .palette:
            try palettes.unpack(
                payload, transform: header.transform, width: ElementLayout(header.element).width, into: target)
        case .planes:
            try unpackPlanes(payload, layout: ElementLayout(header.element), into: target)
        case nil:
            throw CodecError(.unknownCodec, "codec \(header.codec) is not known to this version of ckpt")
        }
    }

    private func unpackPlanes(
        _ payload: UnsafeRawBufferPointer, layout: ElementLayout, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let width = layout.width
        var offset = width * BlockCoder.planeHeaderBytes
        guard target.count > 0, target.count % width == 0, payload.count >= offset else {
            throw CodecError(.malformed, "a block of \(target.count) bytes is not made of \(width) planes")
        }
        let words = target.count / width
        let sources = UnsafeMutablePointer<UnsafePointer<UInt8>?>.allocate(capacity: width)
        defer { sources.deallocate() }
        for index in 0..<width {
            let header = index * BlockCoder.planeHeaderBytes
            let count = Int(UInt32(littleEndian: payload.loadUnaligned(fromByteOffset: header + 1, as: UInt32.self)))
            guard count <= payload.count - offset else {
                throw CodecError(.malformed, "plane \(index) reaches past its block")
            }
            let source = UnsafeRawBufferPointer(rebasing: payload[offset..<(offset + count)])
            let scratch = UnsafeMutableRawBufferPointer(rebasing: planes[(index * words)..<((index + 1) * words)])
            offset += count
            switch PlaneMode(rawValue: payload[header]) {
            case .raw where count == words:
                sources[index] = source.baseAddress!.assumingMemoryBound(to: UInt8.self)
                continue
            case .constant where count == 1:
                memset(scratch.baseAddress!, Int32(source[0]), words)
            case .zstd:
                try zstd.decompress(source, into: scratch)
            default:
                throw CodecError(.malformed, "plane \(index) has mode \(payload[header]) and \(count) bytes")
            }
            sources[index] = UnsafePointer(scratch.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
        guard offset == payload.count else {
            throw CodecError(.malformed, "\(payload.count - offset) bytes follow the last plane")
        }
        kernels.join_planes(sources, words, Int32(width), layout.rotates ? 1 : 0, target.baseAddress!)
    }
}
