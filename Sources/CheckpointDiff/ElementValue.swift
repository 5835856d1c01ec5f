internal import TensorFormats

/// The values of elements that have no kernel of their own.
enum ElementValue {
    /// The bits of element `index`. Sub-byte elements lie in a stream of bits, the lowest first.
    static func bits(_ bytes: UnsafeRawBufferPointer, _ index: Int, _ dtype: DType) -> UInt64 {
        switch dtype.bits {
        case 4, 6:
            let start = index * dtype.bits
            let low = UInt64(bytes[start / 8])
            let high = start / 8 + 1 < bytes.count ? UInt64(bytes[start / 8 + 1]) : 0
            return (low | high << 8) >> UInt64(start % 8) & (1 << UInt64(dtype.bits) - 1)
        case 8: return UInt64(bytes[index])
        case 16: return UInt64(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
        case 32: return UInt64(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
        default: return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
    }

    /// b - a of 64-bit integers, whose difference a double of each would lose; nil for the other types.
    static func difference(_ a: UInt64, _ b: UInt64, _ dtype: DType) -> Double? {
        switch dtype {
        case .u64: b >= a ? Double(b - a) : -Double(a - b)
        case .i64:
            Int64(bitPattern: b) >= Int64(bitPattern: a) ? Double(b &- a) : -Double(a &- b)
        default: nil
        }
    }

    /// Where a word stands in the order of the numbers of its type, of up to 32 bits; both zeros at 0.
    static func place(_ bits: UInt64, _ dtype: DType) -> Int64 {
        switch dtype {
        case .i8, .i16, .i32: return Int64(value(bits, dtype))
        case .bool, .u8, .u16, .u32, .f8E8M0: return Int64(bits)
        default:
            let sign: UInt64 = 1 << UInt64(dtype.bits - 1)
            return bits & sign == 0 ? Int64(bits) : -Int64(bits & ~sign)
        }
    }

    /// Representable numbers from one word to the other.
    static func distance(_ a: UInt64, _ b: UInt64, _ dtype: DType) -> UInt64 {
        switch dtype {
        case .u64: return a < b ? b - a : a - b
        case .i64:
            let (p, q) = (Int64(bitPattern: a), Int64(bitPattern: b))
            return p < q ? UInt64(bitPattern: q &- p) : UInt64(bitPattern: p &- q)
        default: return (place(b, dtype) - place(a, dtype)).magnitude
        }
    }

    /// The number that `bits` stand for in `dtype`.
    static func value(_ bits: UInt64, _ dtype: DType) -> Double {
        switch dtype {
        case .bool, .u8, .u16, .u32, .u64: Double(bits)
        case .i8: Double(Int8(truncatingIfNeeded: bits))
        case .i16: Double(Int16(truncatingIfNeeded: bits))
        case .i32: Double(Int32(truncatingIfNeeded: bits))
        case .i64: Double(Int64(bitPattern: bits))
        case .f8E4M3: bits & 0x7F == 0x7F ? .nan : small(bits, exponent: 4, mantissa: 3, bias: 7)
        case .f8E5M2: e5m2(bits)
        case .f8E4M3FNUZ: bits == 0x80 ? .nan : small(bits, exponent: 4, mantissa: 3, bias: 8)
        case .f8E5M2FNUZ: bits == 0x80 ? .nan : small(bits, exponent: 5, mantissa: 2, bias: 16)
        case .f8E8M0: bits == 0xFF ? .nan : power(Int(bits) - 127)
        case .f6E2M3: small(bits, exponent: 2, mantissa: 3, bias: 1)
        case .f6E3M2: small(bits, exponent: 3, mantissa: 2, bias: 3)
        case .f4: small(bits, exponent: 2, mantissa: 1, bias: 1)
        case .f16, .bf16, .f32, .f64, .c64, .c128: .nan
        }
    }

    private static func e5m2(_ bits: UInt64) -> Double {
        guard bits & 0x7C == 0x7C else { return small(bits, exponent: 5, mantissa: 2, bias: 15) }
        return bits & 0x03 == 0 ? (bits & 0x80 == 0 ? .infinity : -.infinity) : .nan
    }

    /// A float of sign, exponent and mantissa with subnormals, whose special values the caller has dealt with.
    private static func small(_ bits: UInt64, exponent: Int, mantissa: Int, bias: Int) -> Double {
        let fraction = Double(bits & (1 << UInt64(mantissa) - 1)) / Double(1 << mantissa)
        let field = Int(bits >> UInt64(mantissa)) & (1 << exponent - 1)
        let size = field == 0 ? fraction * power(1 - bias) : (1 + fraction) * power(field - bias)
        return bits >> UInt64(mantissa + exponent) & 1 == 0 ? size : -size
    }

    private static func power(_ exponent: Int) -> Double {
        Double(sign: .plus, exponent: exponent, significand: 1)
    }
}
