import BlockCodec
import TensorFormats
import TestSupport
import Testing

@Suite struct PackingTests {
    private static let headerBytes = 16

    /// Packs and unpacks `raw` and checks all that holds for any block. Returns the packed bytes.
    @discardableResult
    private func roundTrip(
        _ raw: [UInt8], _ element: DType, _ packing: Packing, _ coder: BlockCoder, _ comment: Comment
    ) throws -> [UInt8] {
        let source = GuardedBytes(raw)
        let packed = GuardedBytes(count: raw.count + Self.headerBytes)
        let count = try coder.pack(source.readable, element: element, packing: packing, into: packed.bytes)
        #expect(count <= raw.count + Self.headerBytes, comment)
        #expect(source.holds(raw), comment)

        let header = try PackedHeader(UnsafeRawBufferPointer(rebasing: packed.readable[..<count]))
        #expect(header.rawCount == raw.count, comment)
        #expect(header.payloadCount == count - Self.headerBytes, comment)
        #expect(header.element == element, comment)
        #expect(header.depth == 0 && header.baseCount == 0, comment)
        #expect(header.transform == 0 || header.codec == Codec.palette.rawValue, comment)
        // Planes are only used where they are shorter.
        #expect(header.codec == Codec.raw.rawValue || count < raw.count + Self.headerBytes, comment)

        let exact = GuardedBytes(Array(packed.readable[..<count]))
        let unpacked = GuardedBytes(count: raw.count)
        try coder.unpack(exact.readable, into: unpacked.bytes)
        #expect(unpacked.holds(raw), comment)

        let inPlace = try BlockCoder.rawBytes(of: exact.readable)
        if header.codec == Codec.raw.rawValue {
            #expect(inPlace?.count == raw.count && inPlace?.baseAddress == exact.readable.baseAddress! + Self.headerBytes, comment)
        } else {
            #expect(inPlace == nil && packing == .dense, comment)
        }
        if packing == .raw { #expect(header.codec == Codec.raw.rawValue, comment) }
        return Array(exact.readable)
    }

    /// Every element type, every kind of content, short lengths one by one: whole words and not.
    @Test func shortBlocksOfEveryKind() throws {
        var generator = SeededGenerator(test: "shortBlocksOfEveryKind")
        let coder = try BlockCoder()
        for element in DType.allCases {
            for content in Content.allCases {
                for length in Array(0...17) + [31, 32, 33, 64, 65, 257] {
                    let raw = content.bytes(length, element: element, &generator)
                    for packing in [Packing.dense, .raw] {
                        try roundTrip(
                            raw, element, packing, coder, "\(element) \(content) \(length) \(packing), seed \(generator.seed)")
                    }
                }
            }
        }
    }

    /// Lengths around the sample size of the entropy estimate, and the largest block.
    @Test(arguments: DType.allCases)
    func longBlocksOfEveryKind(element: DType) throws {
        var generator = SeededGenerator(test: "longBlocksOfEveryKind(\(element))")
        let coder = try BlockCoder()
        let largest = BlockCoder.maximumBlockBytes
        for content in Content.allCases {
            for length in [4097 * element.wordBytes, element.isRotated ? largest : 12_345, largest - generator.below(64)] {
                let raw = content.bytes(length, element: element, &generator)
                try roundTrip(raw, element, .dense, coder, "\(element) \(content) \(length), seed \(generator.seed)")
            }
        }
    }

    /// A coder that packed and unpacked other blocks, good and bad, goes on as a new one would.
    @Test func codersCanBeUsedAgain() throws {
        var generator = SeededGenerator(test: "codersCanBeUsedAgain")
        let used = try BlockCoder()
        for round in 0..<60 {
            let element = DType.allCases.randomElement(using: &generator)!
            let content = Content.allCases.randomElement(using: &generator)!
            let raw = content.bytes(generator.below(20_000), element: element, &generator)
            let comment: Comment = "round \(round): \(element) \(content) \(raw.count), seed \(generator.seed)"
            let packed = try roundTrip(raw, element, .dense, used, comment)
            var damaged = packed
            damaged[generator.below(damaged.count)] ^= 1 << UInt8(generator.below(8))
            let target = GuardedBytes(count: raw.count)
            damaged.withUnsafeBytes { try? used.unpack($0, into: target.bytes) }
            try packed.withUnsafeBytes { try used.unpack($0, into: target.bytes) }
            #expect(target.holds(raw), comment)
        }
    }

    /// Constant planes take six bytes each: of a block of one word all planes are constant.
    @Test(arguments: DType.allCases)
    func constantBlocksShrinkToTheirHeaders(element: DType) throws {
        var generator = SeededGenerator(seed: 7)
        let coder = try BlockCoder()
        for content in [Content.zeros, .constantByte, .constantWord] {
            let raw = content.bytes(64 << 10, element: element, &generator)
            let packed = try roundTrip(raw, element, .dense, coder, "\(element) \(content)")
            #expect(packed.count == Self.headerBytes + element.wordBytes * 6, "\(element) \(content)")
        }
    }

    /// Bounds from the entropy of the exponents of a normal distribution (2.6 bits), sign and mantissa kept raw.
    @Test(arguments: [(DType.bf16, 0.70), (.f16, 0.92), (.f32, 0.86), (.f64, 0.95)])
    func weightsShrink(element: DType, most: Double) throws {
        var generator = SeededGenerator(seed: 11)
        let raw = Content.weights.bytes(BlockCoder.maximumBlockBytes, element: element, &generator)
        let packed = try roundTrip(raw, element, .dense, BlockCoder(), "\(element)")
        #expect(Double(packed.count) < most * Double(raw.count), "\(element): \(packed.count) of \(raw.count)")
    }

    /// Random bits cannot be packed and are kept as they are.
    @Test func randomBitsAreKeptRaw() throws {
        var generator = SeededGenerator(test: "randomBitsAreKeptRaw")
        let raw = Content.random.bytes(100_000, element: .u8, &generator)
        for element in [DType.u8, .bf16, .f32, .f64, .f4] {
            let packed = try roundTrip(raw, element, .dense, BlockCoder(), "\(element), seed \(generator.seed)")
            #expect(packed.count == raw.count + Self.headerBytes, "\(element), seed \(generator.seed)")
        }
    }
}
