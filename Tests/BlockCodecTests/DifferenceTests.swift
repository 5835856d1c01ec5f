@testable import BlockCodec
import CKernels
import TensorFormats
import TestSupport
import Testing

/// Blocks packed against others come back bit by bit, whatever they are packed against.
@Suite struct DifferenceTests {
    /// How a block may differ from its base.
    enum Change: CaseIterable {
        case equal, ulps, fewWords, rows, scaled, signs, unrelated, oneWord

        func apply(_ base: [UInt8], element: DType, _ generator: inout SeededGenerator) -> [UInt8] {
            var bytes = base
            let width = element.wordBytes
            let words = base.count / width
            func add(_ index: Int, _ delta: Int64) {
                var value: UInt64 = 0
                for byte in 0..<width { value |= UInt64(bytes[index * width + byte]) << UInt64(8 * byte) }
                value = value &+ UInt64(bitPattern: delta)
                for byte in 0..<width { bytes[index * width + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
            }
            switch self {
            case .equal: break
            case .ulps: for index in 0..<words { add(index, Int64(generator.normal() * 4)) }
            case .fewWords: for index in 0..<words where generator.below(100) == 0 { add(index, Int64(1 + generator.below(9))) }
            case .rows: for index in 0..<words where index / 256 % 20 == 3 { add(index, Int64(generator.normal() * 3)) }
            case .scaled: for index in 0..<words { add(index, Int64(generator.normal() * 4000)) }
            case .signs: for index in 0..<words where generator.below(3) == 0 { bytes[index * width + width - 1] ^= 0x80 }
            case .unrelated: return Content.weights.bytes(base.count, element: element, &generator)
            case .oneWord: if words > 0 { add(words - 1, 1) }
            }
            return bytes
        }
    }

    /// Packs `raw` against `bases` with both kernel sets, which must agree, and unpacks it with both and the oracle.
    @discardableResult
    private func roundTrip(
        _ raw: [UInt8], _ bases: [[UInt8]], _ element: DType, _ coders: [BlockCoder], _ comment: Comment
    ) throws -> PackedHeader {
        let guarded = bases.map { GuardedBytes($0) }
        let blocks = guarded.enumerated().map { index, bytes in
            BaseBlock(id: [UInt8](repeating: UInt8(index + 1), count: 32), bytes: bytes.readable, depth: UInt8(4 - index))
        }
        var all: [[UInt8]] = []
        for coder in coders {
            let source = GuardedBytes(raw)
            let packed = GuardedBytes(count: raw.count + 16)
            let count = try coder.pack(source.readable, element: element, packing: .delta, bases: blocks, into: packed.bytes)
            all.append(Array(packed.readable[..<count]))
            let exact = GuardedBytes(all[0])
            let target = GuardedBytes(count: raw.count)
            try coder.unpack(exact.readable, bases: guarded.map(\.readable), into: target.bytes)
            #expect(target.holds(raw), comment)
        }
        #expect(all.allSatisfy { $0 == all[0] }, comment)
        let header = try all[0].withUnsafeBytes { try PackedHeader($0) }
        if header.codec == Codec.difference.rawValue {
            #expect(header.depth == 5 && Int(header.baseCount) <= bases.count, comment)
            let named = try all[0].withUnsafeBytes { packed in try PackedHeader.bases(in: packed).map { Array($0) } }
            #expect(named == blocks.prefix(Int(header.baseCount)).map(\.id), comment)
            // Slow without optimisation: of the largest blocks one length does.
            if raw.count < 40_000 { #expect(try PlainDifference.unpack(all[0], bases: bases) == raw, comment) }
        } else {
            #expect(header.depth == 0 && header.baseCount == 0, comment)
        }
        return header
    }

    private func makeCoders() throws -> [BlockCoder] {
        [try BlockCoder(kernels: ck_portable_kernels()!.pointee), try BlockCoder(kernels: ck_active_kernels()!.pointee)]
    }

    @Test(arguments: DType.allCases)
    func shortBlocks(element: DType) throws {
        var generator = SeededGenerator(test: "shortBlocks(\(element))")
        let coders = try makeCoders()
        for content in [Content.random, .specials, .weights, .zeros] {
            for change in Change.allCases {
                for length in [0, 1, 3, 8, 40, 129, 1024] {
                    let previous = content.bytes(length, element: element, &generator)
                    let base = change.apply(previous, element: element, &generator)
                    let raw = change.apply(base, element: element, &generator)
                    let comment: Comment = "\(element) \(content) \(change) \(length), seed \(generator.seed)"
                    try roundTrip(raw, [base], element, coders, comment)
                    try roundTrip(raw, [base, previous], element, coders, comment)
                }
            }
        }
    }

    /// Lengths at which the lanes, the vectors and the units end in every way, and the largest block.
    @Test(arguments: [DType.bf16, .f16, .f32, .f64, .f8E4M3, .i8, .i32, .c64])
    func longBlocks(element: DType) throws {
        var generator = SeededGenerator(test: "longBlocks(\(element))")
        let coders = try makeCoders()
        let width = element.wordBytes
        var codecs: Set<UInt8> = []
        for change in Change.allCases {
            for words in [4095, 4128, 8192 + generator.below(100), BlockCoder.maximumBlockBytes / width] {
                let previous = Content.weights.bytes(words * width, element: element, &generator)
                let base = change.apply(previous, element: element, &generator)
                let raw = change.apply(base, element: element, &generator)
                let comment: Comment = "\(element) \(change) \(words) words, seed \(generator.seed)"
                codecs.insert(try roundTrip(raw, [base, previous], element, coders, comment).codec)
            }
        }
        #expect(codecs.contains(Codec.difference.rawValue))
    }

    /// Values of a narrow type kept in a wide one cost what they cost in the narrow one.
    @Test func lowZeroBitsAreLeftOut() throws {
        var generator = SeededGenerator(seed: 21)
        let coders = try makeCoders()
        let narrow = Content.weights.bytes(1 << 16, element: .bf16, &generator)
        let changed = Change.ulps.apply(narrow, element: .bf16, &generator)
        func widened(_ bytes: [UInt8]) -> [UInt8] {
            stride(from: 0, to: bytes.count, by: 2).flatMap { [0, 0, bytes[$0], bytes[$0 + 1]] }
        }
        let small = try roundTrip(changed, [narrow], .bf16, coders, "bf16")
        let wide = try roundTrip(widened(changed), [widened(narrow)], .f32, coders, "as fp32")
        #expect(wide.transform >> 8 & 0xFF == 16)
        #expect(abs(wide.payloadCount - small.payloadCount) < small.payloadCount / 100)
    }

    /// Rows that did not change take next to nothing.
    @Test func unchangedUnitsCostNothing() throws {
        var generator = SeededGenerator(seed: 22)
        let base = Content.weights.bytes(1 << 18, element: .bf16, &generator)
        let rows = try roundTrip(Change.rows.apply(base, element: .bf16, &generator), [base], .bf16, makeCoders(), "rows")
        // 26 of 512 rows, 256 words of at most 3.6 bits.
        #expect(rows.payloadCount < 26 * 256 * 36 / 80 + 400)
        let one = try roundTrip(Change.oneWord.apply(base, element: .bf16, &generator), [base], .bf16, makeCoders(), "one word")
        #expect(one.payloadCount < 200)
    }

    /// Of differences that the step before foretells, little is left.
    @Test func predictionPays() throws {
        var generator = SeededGenerator(seed: 23)
        let words = 1 << 16
        var values = (0..<words).map { _ in generator.normal() * 0.02 }
        var step = (0..<words).map { _ in generator.normal() * 0.0002 }
        let steps = (0..<3).map { _ -> [UInt8] in
            for index in 0..<words {
                step[index] = step[index] * 0.6 + generator.normal() * 0.00003
                values[index] += step[index]
            }
            return values.flatMap { value -> [UInt8] in
                let word = DType.bf16.word(of: value)
                return [UInt8(truncatingIfNeeded: word), UInt8(truncatingIfNeeded: word >> 8)]
            }
        }
        let coders = try makeCoders()
        let without = try roundTrip(steps[2], [steps[1]], .bf16, coders, "one base")
        let with = try roundTrip(steps[2], [steps[1], steps[0]], .bf16, coders, "two bases")
        #expect(with.baseCount == 2)
        #expect(with.payloadCount * 10 < without.payloadCount * 9)
    }

    /// Whatever is done to a packed block, or its bases: refused or filled, never a crash, in guarded memory.
    @Test func mutations() throws {
        var generator = SeededGenerator(test: "mutations")
        let coders = try makeCoders()
        var refused = 0
        for round in 0..<1500 {
            let element = [DType.bf16, .f32, .f64, .u8, .f16][round % 5]
            let words = round % 50 == 0 ? 9000 : 30 + generator.below(400)
            let base = Content.weights.bytes(words * element.wordBytes, element: element, &generator)
            let raw = [Change.ulps, .fewWords, .rows, .scaled][generator.below(4)].apply(base, element: element, &generator)
            let bytes = GuardedBytes(base)
            let block = BaseBlock(id: [UInt8](repeating: 9, count: 32), bytes: bytes.readable, depth: 0)
            let packed = GuardedBytes(count: raw.count + 16)
            let count = try raw.withUnsafeBytes {
                try coders[1].pack($0, element: element, packing: .delta, bases: [block, block], into: packed.bytes)
            }
            var mutated = Array(packed.readable[..<count])
            for _ in 0..<(1 + generator.below(3)) {
                let place = 12 + generator.below(generator.below(2) == 0 ? min(140, count - 12) : count - 12)
                if place >= 16 && place < 48 { continue }
                mutated[place] = UInt8(truncatingIfNeeded: generator.next())
            }
            let header = 16 + 32 * Int(mutated[3])
            if generator.below(4) == 0 {
                mutated.removeLast(generator.below(min(60, mutated.count - header) + 1))
                let payload = UInt32(mutated.count - header)
                for byte in 0..<4 { mutated[8 + byte] = UInt8(truncatingIfNeeded: payload >> UInt32(8 * byte)) }
            }
            let exact = GuardedBytes(mutated)
            let target = GuardedBytes(count: raw.count)
            for coder in coders {
                do throws(CodecError) {
                    try coder.unpack(exact.readable, bases: [bytes.readable, bytes.readable], into: target.bytes)
                } catch {
                    refused += 1
                    #expect(error.code == .malformed, "round \(round), seed \(generator.seed)")
                }
            }
        }
        #expect(refused > 500)
    }
}

/// Blocks of few distinct words.
@Suite struct PaletteTests {
    /// Weights quantised to `levels` steps of a scale a row, and dequantised again.
    private func quantised(_ element: DType, rows: Int, columns: Int, levels: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        (0..<rows).flatMap { _ -> [UInt8] in
            let scale = 0.001 * Double(1 + generator.below(1000))
            return (0..<columns).flatMap { _ -> [UInt8] in
                let word = element.word(of: Double(generator.below(levels) - levels / 2) * scale)
                return (0..<element.wordBytes).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
            }
        }
    }

    /// log2(levels) bits a word and the palettes.
    @Test(arguments: [(DType.bf16, 16, 4.0), (.f16, 16, 4), (.f32, 16, 4), (.f32, 255, 8), (.f64, 200, 7.7)])
    func dequantisedWeights(element: DType, levels: Int, bits: Double) throws {
        var generator = SeededGenerator(seed: 31)
        let columns = 4096, rows = 8
        let raw = quantised(element, rows: rows, columns: columns, levels: levels, &generator)
        let packed = GuardedBytes(count: raw.count + 16)
        let coder = try BlockCoder()
        let count = try raw.withUnsafeBytes { try coder.pack($0, element: element, packing: .dense, into: packed.bytes) }
        #expect(try PackedHeader(UnsafeRawBufferPointer(rebasing: packed.readable[..<count])).codec == Codec.palette.rawValue)
        let bound = Double(rows * columns) * bits / 8 + Double(rows * levels * element.wordBytes)
        #expect(Double(count) < bound * 1.03 + 300, "\(count) bytes, \(bound) expected")
        let target = GuardedBytes(count: raw.count)
        try coder.unpack(UnsafeRawBufferPointer(rebasing: packed.readable[..<count]), into: target.bytes)
        #expect(target.holds(raw))
    }

    @Test func mutations() throws {
        var generator = SeededGenerator(test: "palette mutations")
        let coder = try BlockCoder()
        let raw = quantised(.bf16, rows: 4, columns: 512, levels: 16, &generator)
        let packed = GuardedBytes(count: raw.count + 16)
        let count = try raw.withUnsafeBytes { try coder.pack($0, element: .bf16, packing: .dense, into: packed.bytes) }
        for round in 0..<2000 {
            var mutated = Array(packed.readable[..<count])
            mutated[12 + generator.below(round % 2 == 0 ? 60 : count - 12)] = UInt8(truncatingIfNeeded: generator.next())
            let exact = GuardedBytes(mutated)
            let target = GuardedBytes(count: raw.count)
            do throws(CodecError) {
                try coder.unpack(exact.readable, into: target.bytes)
            } catch {
                #expect(error.code == .malformed, "round \(round), seed \(generator.seed)")
            }
        }
    }
}
