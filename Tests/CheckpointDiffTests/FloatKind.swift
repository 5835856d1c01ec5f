import CKernels
import Foundation
import TestSupport

/// The floats that have kernels of their own.
enum FloatKind: String, CaseIterable {
    case bf16, f16, f32, f64

    var bytes: Int { self == .f64 ? 8 : self == .f32 ? 4 : 2 }
    var exponent: UInt64 {
        switch self {
        case .bf16: 0x7F80
        case .f16: 0x7C00
        case .f32: 0x7F80_0000
        case .f64: 0x7FF0_0000_0000_0000
        }
    }
    var sign: UInt64 { 1 << UInt64(bytes * 8 - 1) }

    func value(_ word: UInt64) -> Double {
        switch self {
        case .bf16: return Double(Float(bitPattern: UInt32(word) << 16))
        case .f32: return Double(Float(bitPattern: UInt32(word)))
        case .f64: return Double(bitPattern: word)
        case .f16:
            let (exponent, mantissa) = (Int(word >> 10 & 0x1F), Double(word & 0x3FF) / 1024)
            let size = exponent == 0 ? scalbn(mantissa, -14) : scalbn(1 + mantissa, exponent - 15)
            return word & sign == 0 ? size : -size
        }
    }

    /// Zeros, infinities, NaNs, subnormals, the ends of the range, and neighbours of all.
    var specials: [UInt64] {
        let one = exponent >> 1 & exponent
        let lowest: UInt64 = exponent & (~exponent + 1)
        let positive: [UInt64] = [
            0, 1, 2, exponent, exponent | 1, exponent | 3, exponent - 1, one, one | 1, lowest, lowest - 1,
        ]
        return positive + positive.map { $0 | sign }
    }
}

extension FloatKind {
    /// The sums of two runs of words by a plain loop.
    func plainSums(_ first: [UInt64], _ second: [UInt64]) -> ck_comparison {
        var sums = ck_comparison()
        for (x, y) in zip(first, second) {
            if x != y { sums.changed += 1 }
            if x & exponent == exponent || y & exponent == exponent {
                sums.nonfinite += 1
                continue
            }
            let (u, v) = (value(x), value(y))
            if (u < 0 && v > 0) || (u > 0 && v < 0) { sums.sign_flips += 1 }
            sums.sum_aa += u * u
            sums.sum_bb += v * v
            sums.sum_ab += u * v
            sums.sum_dd += (v - u) * (v - u)
            sums.max_abs = max(sums.max_abs, abs(v - u))
        }
        return sums
    }

    /// Little-endian words that end at a page no one may touch.
    func guarded(_ words: [UInt64]) -> GuardedBytes {
        let guarded = GuardedBytes(count: words.count * bytes)
        for (index, word) in words.enumerated() {
            var word = word.littleEndian
            memcpy(guarded.bytes.baseAddress! + index * bytes, &word, bytes)
        }
        return guarded
    }
}
