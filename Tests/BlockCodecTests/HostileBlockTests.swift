import BlockCodec
import TensorFormats
import TestSupport
import Testing

/// Packed bytes from nowhere good: unpacking throws or fills the target, and touches nothing else.
@Suite struct HostileBlockTests {
    private struct Verdicts {
        var accepted = 0
        var refused = 0
    }

    /// Blocks of every codec, width and plane mode.
    private func samples(_ generator: inout SeededGenerator) throws -> [(packed: [UInt8], raw: [UInt8], name: String)] {
        let coder = try BlockCoder()
        var samples: [(packed: [UInt8], raw: [UInt8], name: String)] = []
        for element in [DType.u8, .f4, .bf16, .i16, .f32, .f64, .i64] {
            for content in [Content.weights, .text, .constantWord, .sparse, .random] {
                let raw = content.bytes(960, element: element, &generator)
                let packed = GuardedBytes(count: raw.count + 16)
                let count = try raw.withUnsafeBytes {
                    try coder.pack($0, element: element, packing: .dense, into: packed.bytes)
                }
                samples.append((Array(packed.readable[..<count]), raw, "\(element) \(content)"))
            }
        }
        return samples
    }

    /// Unpacks `packed` between guard pages.
    private func attempt(_ packed: [UInt8], count: Int, _ coder: BlockCoder, _ verdicts: inout Verdicts, _ comment: Comment) {
        let source = GuardedBytes(packed)
        let target = GuardedBytes(count: count)
        do throws(CodecError) {
            try coder.unpack(source.readable, into: target.bytes)
            verdicts.accepted += 1
        } catch {
            verdicts.refused += 1
            #expect(error.code == .malformed || error.code == .unknownCodec, comment)
            #expect(!error.description.isEmpty, comment)
        }
        // Whatever the verdict, the bytes of a raw block are asked for in place too.
        if let bytes = try? BlockCoder.rawBytes(of: source.readable) { #expect(bytes.count == packed.count - 16, comment) }
    }

    @Test func randomMutations() throws {
        var generator = SeededGenerator(test: "randomMutations")
        let coder = try BlockCoder()
        var verdicts = Verdicts()
        for sample in try samples(&generator) {
            for round in 0..<150 {
                var packed = sample.packed
                for _ in 0..<(1 + generator.below(4)) {
                    let place = generator.below(2) == 0 ? generator.below(min(56, packed.count)) : generator.below(packed.count)
                    packed[place] =
                        generator.below(2) == 0 ? packed[place] ^ 1 << UInt8(generator.below(8)) : UInt8(truncatingIfNeeded: generator.next())
                }
                attempt(
                    packed, count: sample.raw.count, coder, &verdicts, "\(sample.name) round \(round), seed \(generator.seed)")
            }
        }
        // Both happen: a mutated mantissa is another block, a mutated length is none.
        #expect(verdicts.accepted > 100 && verdicts.refused > 100)
    }

    /// Every byte of the headers set to every value.
    @Test func everyHeaderByte() throws {
        var generator = SeededGenerator(seed: 3)
        let coder = try BlockCoder()
        var verdicts = Verdicts()
        for sample in try samples(&generator) where sample.name.hasSuffix("weights") || sample.name.hasSuffix("sparse") {
            let header = try sample.packed.withUnsafeBytes { try PackedHeader($0) }
            let width = header.codec == Codec.raw.rawValue ? 0 : header.element.wordBytes
            for place in 0..<(16 + 5 * width) {
                for value in [0, 1, 2, 3, 4, 5, 23, 24, 0x7F, 0x80, 0xFE, 0xFF] as [UInt8] {
                    var packed = sample.packed
                    packed[place] = value
                    attempt(packed, count: sample.raw.count, coder, &verdicts, "\(sample.name): byte \(place) = \(value)")
                }
            }
        }
        #expect(verdicts.refused > verdicts.accepted)
    }

    /// A block cut at any length is refused, as its header says how long it is.
    @Test func everyTruncation() throws {
        var generator = SeededGenerator(seed: 4)
        let coder = try BlockCoder()
        for sample in try samples(&generator) {
            for length in stride(from: 0, to: sample.packed.count, by: sample.packed.count > 200 ? 7 : 1) {
                let source = GuardedBytes(Array(sample.packed[..<length]))
                let target = GuardedBytes(count: sample.raw.count)
                let error = #expect(throws: CodecError.self, "\(sample.name) at \(length)") {
                    try coder.unpack(source.readable, into: target.bytes)
                }
                #expect(error?.code == .malformed, "\(sample.name) at \(length)")
            }
            let longer = GuardedBytes(sample.packed + [0])
            let target = GuardedBytes(count: sample.raw.count)
            #expect(throws: CodecError.self, "\(sample.name) and a byte") {
                try coder.unpack(longer.readable, into: target.bytes)
            }
        }
    }

    /// Cut with lengths made to agree again: only the planes can tell.
    @Test func truncationsWithAHonestHeader() throws {
        var generator = SeededGenerator(seed: 5)
        let coder = try BlockCoder()
        for sample in try samples(&generator) {
            for length in stride(from: 16, to: sample.packed.count, by: sample.packed.count > 200 ? 11 : 1) {
                var packed = Array(sample.packed[..<length])
                withUnsafeBytes(of: UInt32(length - 16).littleEndian) { packed.replaceSubrange(8..<12, with: $0) }
                let source = GuardedBytes(packed)
                let target = GuardedBytes(count: sample.raw.count)
                #expect(throws: CodecError.self, "\(sample.name) at \(length)") {
                    try coder.unpack(source.readable, into: target.bytes)
                }
            }
        }
    }

    /// The target is the caller's word on the length: another one is refused, not filled in part.
    @Test func aTargetOfAnotherLength() throws {
        var generator = SeededGenerator(seed: 6)
        let coder = try BlockCoder()
        for sample in try samples(&generator) {
            for count in [0, 1, sample.raw.count - 1, sample.raw.count + 1, 2 * sample.raw.count] {
                let source = GuardedBytes(sample.packed)
                let target = GuardedBytes(count: count)
                #expect(throws: CodecError.self, "\(sample.name) into \(count)") {
                    try coder.unpack(source.readable, into: target.bytes)
                }
            }
        }
    }

    @Test func randomBytes() throws {
        var generator = SeededGenerator(test: "randomBytes")
        let coder = try BlockCoder()
        var verdicts = Verdicts()
        for round in 0..<4000 {
            var packed = (0..<generator.below(120)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            let count = generator.below(64)
            // Most of them past the first look at the header.
            if packed.count >= 16, round % 8 != 0 {
                let header: [UInt8] = [UInt8(generator.below(2)), UInt8(1 + generator.below(23)), 0, 0]
                packed.replaceSubrange(0..<4, with: header)
                withUnsafeBytes(of: UInt32(count).littleEndian) { packed.replaceSubrange(4..<8, with: $0) }
                withUnsafeBytes(of: UInt32(packed.count - 16).littleEndian) { packed.replaceSubrange(8..<12, with: $0) }
                packed.replaceSubrange(12..<16, with: [0, 0, 0, 0])
            }
            attempt(packed, count: count, coder, &verdicts, "round \(round), seed \(generator.seed)")
        }
    }
}
