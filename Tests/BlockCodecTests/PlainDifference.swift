import CZstd
import TensorFormats

/// Codec 2 read word by word as the format describes it, with wide integers and no tables: the oracle of the kernels.
enum PlainDifference {
    struct Malformed: Error {}

    private struct Reader {
        let bytes: [UInt8]
        var at = 0

        mutating func take(_ count: Int) throws -> [UInt8] {
            guard count <= bytes.count - at else { throw Malformed() }
            defer { at += count }
            return Array(bytes[at..<(at + count)])
        }

        mutating func number(_ count: Int) throws -> Int { try take(count).reversed().reduce(0) { $0 << 8 | Int($1) } }
    }

    private struct Fields {
        var word: Int
        var exponent: Int
        var mantissa: Int

        init(_ element: DType) {
            word = element.wordBytes
            switch element {
            case .f16: (exponent, mantissa) = (5, 10)
            case .bf16: (exponent, mantissa) = (8, 7)
            case .f32, .c64: (exponent, mantissa) = (8, 23)
            case .f64, .c128: (exponent, mantissa) = (11, 52)
            case .f8E4M3, .f8E4M3FNUZ: (exponent, mantissa) = (4, 3)
            case .f8E5M2, .f8E5M2FNUZ: (exponent, mantissa) = (5, 2)
            default: (exponent, mantissa) = (0, 0)
            }
        }
    }

    /// The raw bytes of a packed block, given those of its bases.
    static func unpack(_ packed: [UInt8], bases: [[UInt8]]) throws -> [UInt8] {
        var reader = Reader(bytes: packed)
        guard try reader.number(1) == 2, let element = DType(rawValue: UInt8(try reader.number(1))) else { throw Malformed() }
        _ = try reader.number(1)
        let baseCount = try reader.number(1)
        let rawCount = try reader.number(4)
        _ = try reader.number(4)
        let precision = try reader.number(1), shift = try reader.number(1), mask = try reader.number(1)
        _ = try reader.take(1 + 32 * baseCount)

        let fields = Fields(element)
        let words = rawCount / fields.word
        let coded = try codedWords(&reader, mask, words)
        var raw = bases[0]
        guard coded.contains(true) else { return raw }
        let top = try reader.number(2), starts = try reader.number(4)
        let indices = coded.indices.filter { coded[$0] }
        let values = bases.prefix(baseCount).map { base in indices.map { word(base, $0, fields.word) >> UInt64(shift) } }
        let contexts = indices.indices.map { index -> Int in
            var key = 0
            if fields.exponent > 0 {
                let exponent = Int(values[0][index] >> UInt64(fields.mantissa - shift)) & (1 << fields.exponent - 1)
                key = exponent > top ? 0 : min(top - exponent, 31)
            }
            let classOfKey = (1..<32).filter { $0 <= key && starts >> $0 & 1 == 1 }.count
            return baseCount == 1 ? classOfKey : 2 * classOfKey + (values[0][index] == values[1][index] ? 0 : 1)
        }
        let tokens = try readTokens(&reader, contexts, precision)
        let bits = 8 * fields.word - shift
        let folded = try unfoldTokens(tokens, extra: Array(packed[reader.at...]), fields.word)
        for (index, word) in indices.enumerated() {
            let value = restore(folded[index], values.map { $0[index] }, bits, isFloat: fields.exponent > 0) << UInt64(shift)
            for byte in 0..<fields.word { raw[word * fields.word + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
        }
        return raw
    }

    private static func word(_ bytes: [UInt8], _ index: Int, _ width: Int) -> UInt64 {
        (0..<width).reduce(0) { $0 | UInt64(bytes[index * width + $1]) << UInt64(8 * $1) }
    }

    private static func codedWords(_ reader: inout Reader, _ mask: Int, _ words: Int) throws -> [Bool] {
        let units = (words + 63) / 64
        var isCoded = [Bool](repeating: mask == 0, count: units)
        if mask == 1 {
            let bits = try reader.take((units + 7) / 8)
            for unit in 0..<units { isCoded[unit] = bits[unit / 8] >> UInt8(unit % 8) & 1 == 1 }
        } else if mask == 2 {
            var unit = 0
            for run in 0..<(try reader.number(2)) {
                let length = try reader.number(2)
                guard length <= units - unit else { throw Malformed() }
                for _ in 0..<length {
                    isCoded[unit] = run % 2 == 1
                    unit += 1
                }
            }
        }
        return (0..<words).map { isCoded[$0 / 64] }
    }

    private static func frequency(_ code: UInt8) -> Int { code < 8 ? Int(code) : (4 + Int(code) % 4) << (Int(code) / 4 - 1) }

    private static func readTokens(_ reader: inout Reader, _ contexts: [Int], _ precision: Int) throws -> [Int] {
        let lanes = try reader.number(1)
        let tableBytes = try reader.number(2)
        var table = try reader.take(reader.number(2))
        if table.count < tableBytes {
            var unpacked = [UInt8](repeating: 0, count: tableBytes)
            guard ZSTD_decompress(&unpacked, tableBytes, table, table.count) == tableBytes else { throw Malformed() }
            table = unpacked
        }
        var frequencies: [[Int]] = []
        var tableReader = Reader(bytes: table)
        while tableReader.at < table.count {
            let last = try tableReader.number(1), commonest = try tableReader.number(1)
            var own = try tableReader.take(last + 1).map(frequency)
            own[commonest] = 1 << precision - own.reduce(0, +)
            frequencies.append(own)
        }
        var stream = Reader(bytes: try reader.take(reader.number(4)))
        var states = try (0..<lanes).map { _ in try stream.number(4) }
        let tokens = try contexts.enumerated().map { index, context -> Int in
            var x = states[index % lanes]
            let slot = x % (1 << precision)
            var start = 0, token = 0
            while start + frequencies[context][token] <= slot {
                start += frequencies[context][token]
                token += 1
            }
            x = frequencies[context][token] * (x >> precision) + slot - start
            if x < 1 << 15 { x = x << 16 | (try stream.number(2)) }
            states[index % lanes] = x
            return token
        }
        guard states.allSatisfy({ $0 == 1 << 15 }), stream.at == stream.bytes.count else { throw Malformed() }
        return tokens
    }

    private static func unfoldTokens(_ tokens: [Int], extra: [UInt8], _ width: Int) throws -> [UInt64] {
        let direct = width == 1 ? 8 : width == 2 ? 5 : 4
        var at = 0
        func bit() throws -> UInt64 {
            guard at / 8 < extra.count else { throw Malformed() }
            defer { at += 1 }
            return UInt64(extra[at / 8] >> UInt8(at % 8) & 1)
        }
        let folded = try tokens.map { token -> UInt64 in
            guard token >= 1 << direct else { return UInt64(token) }
            let top = direct + (token - 1 << direct) / 4
            var value: UInt64 = 1 << UInt64(top) | UInt64(token & 1) | UInt64(token >> 1 & 1) << UInt64(top - 1)
            for position in 1..<(top - 1) { value |= try bit() << UInt64(position) }
            return value
        }
        guard (at + 7) / 8 == extra.count else { throw Malformed() }
        return folded
    }

    private static func restore(_ folded: UInt64, _ bases: [UInt64], _ bits: Int, isFloat: Bool) -> UInt64 {
        let mask: UInt64 = bits == 64 ? .max : 1 << UInt64(bits) - 1
        let half: UInt64 = 1 << UInt64(bits - 1)
        func ordered(_ value: UInt64) -> UInt64 { !isFloat ? value : value >= half ? mask - value : value + half }
        let base = ordered(bases[0])
        // d, and the sum of all, modulo 2^bits.
        let d = folded & 1 == 0 ? folded / 2 : 0 &- (folded / 2) &- 1
        var target = base &+ d
        if bases.count == 2 {
            let g = (base &- ordered(bases[1])) & mask
            let isNegative = g >= half
            let size = isNegative ? (0 &- g) & mask : g
            let step = size / 2 + size % 2
            target = isNegative ? base &- (d &+ step) : base &+ d &+ step
        }
        target &= mask
        return !isFloat ? target : target >= half ? target - half : mask - target
    }
}
