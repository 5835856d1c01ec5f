import Foundation
import TensorFormats
import TestSupport

/// What the bytes of a block may look like.
enum Content: CaseIterable {
    case random, specials, weights, constantByte, constantWord, zeros, sparse, text, counting

    /// `count` bytes, words of `element` where there are whole ones.
    func bytes(_ count: Int, element: DType, _ generator: inout SeededGenerator) -> [UInt8] {
        switch self {
        case .random: return Content.words(count, 8) { _ in generator.next() }
        case .zeros: return [UInt8](repeating: 0, count: count)
        case .constantByte: return [UInt8](repeating: UInt8(truncatingIfNeeded: generator.next()), count: count)
        case .constantWord:
            let word = generator.next()
            return Content.words(count, element.wordBytes) { _ in word }
        case .sparse:
            var bytes = [UInt8](repeating: 0, count: count)
            for _ in 0..<(count / 100) { bytes[generator.below(count)] = UInt8(truncatingIfNeeded: generator.next()) }
            return bytes
        case .text:
            let line = Array("the loss of step \(generator.below(1000)) is smaller than the one before it; ".utf8)
            return Array([[UInt8]](repeating: line, count: count / line.count + 1).joined().prefix(count))
        case .counting: return Content.words(count, element.wordBytes) { UInt64($0) }
        case .specials:
            let specials = element.specialWords
            return Content.words(count, element.wordBytes) { _ in
                // Now and then the random low bits of a payload.
                let special = specials[generator.below(specials.count)]
                return generator.below(4) == 0 ? special ^ (generator.next() & 7) : special
            }
        case .weights:
            return Content.words(count, element.wordBytes) { _ in element.word(of: generator.normal() * 0.02) }
        }
    }

    /// `count` bytes of little-endian words; the last may be cut.
    private static func words(_ count: Int, _ width: Int, _ word: (Int) -> UInt64) -> [UInt8] {
        let words = (count + width - 1) / width
        return [UInt8](unsafeUninitializedCapacity: words * width) { target, initialized in
            for index in 0..<words {
                var value = word(index).littleEndian
                memcpy(target.baseAddress! + index * width, &value, width)
            }
            initialized = count
        }
    }
}

extension DType {
    /// Bytes of the words planes are made of: complex numbers are two.
    var wordBytes: Int {
        switch self {
        case .c64: 4
        case .c128: 8
        default: max(1, bits / 8)
        }
    }

    var isRotated: Bool { [.f16, .bf16, .f32, .f64, .c64, .c128].contains(self) }

    /// (exponent bits, mantissa bits) of the wide floats.
    private var fields: (exponent: Int, mantissa: Int)? {
        switch self {
        case .f16: (5, 10)
        case .bf16: (8, 7)
        case .f32, .c64: (8, 23)
        case .f64, .c128: (11, 52)
        default: nil
        }
    }

    /// Zeros of both signs, infinities, quiet and signalling NaNs with payloads, subnormals, the largest and smallest;
    /// of integers the ends of their ranges.
    var specialWords: [UInt64] {
        let all = UInt64.max >> UInt64(64 - wordBytes * 8)
        guard let (exponent, mantissa) = fields else { return [0, 1, all, all >> 1, all >> 1 + 1, all - 1] }
        let top: UInt64 = ((1 << UInt64(exponent)) - 1) << UInt64(mantissa)
        let quiet: UInt64 = 1 << UInt64(mantissa - 1)
        let implicit = quiet * 2
        var positive: [UInt64] = [0, 1, 2, quiet, implicit - 1, implicit]
        positive += [top, top | 1, top | quiet, top | quiet | 5, top | (implicit - 1)]
        positive += [top - 1, top - implicit, (top >> 1) & top]
        let sign: UInt64 = 1 << UInt64(exponent + mantissa)
        return positive + positive.map { $0 | sign }
    }

    /// The word nearest to `value`, or below it.
    func word(of value: Double) -> UInt64 {
        switch self {
        case .bf16: return UInt64(Float(value).bitPattern >> 16)
        case .f16:
            // By hand: Float16 is missing on some machines. Truncates; small values become subnormals.
            let bits = Float(value).bitPattern
            let exponent = Int(bits >> 23 & 0xFF) - 112
            let mantissa = UInt64(bits & 0x7F_FFFF | 0x80_0000)
            let size = exponent > 0 ? UInt64(exponent) << 10 | mantissa >> 13 & 0x3FF : mantissa >> UInt64(min(63, 14 - exponent))
            return UInt64(bits >> 31) << 15 | size
        case .f32, .c64: return UInt64(Float(value).bitPattern)
        case .f64, .c128: return value.bitPattern
        default: return UInt64(bitPattern: Int64(value * 1000))
        }
    }
}
