/// Words of floating-point types as numbers, and numbers rounded to them: to the nearest, of two as near to the even one.
package enum FloatWords {
    /// Bytes of a word; nil for a type that is no plain floating-point number.
    package static func byteCount(_ dtype: DType) -> Int? {
        switch dtype {
        case .bf16, .f16: 2
        case .f32: 4
        case .f64: 8
        default: nil
        }
    }

    /// Adds `weight` times each word to `sums`, or with `isFirst` sets them.
    package static func add(
        _ bytes: UnsafeRawBufferPointer, _ dtype: DType, weight: Double, to sums: UnsafeMutableBufferPointer<Double>, isFirst: Bool
    ) {
        func each<Word: FixedWidthInteger>(_: Word.Type, _ value: (Word) -> Double) {
            for index in sums.indices {
                let word = Word(littleEndian: bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self))
                let product = weight * value(word)
                sums[index] = isFirst ? product : sums[index] + product
            }
        }
        switch dtype {
        case .bf16: each(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
        case .f16: each(UInt16.self) { half($0) }
        case .f32: each(UInt32.self) { Double(Float(bitPattern: $0)) }
        case .f64: each(UInt64.self) { Double(bitPattern: $0) }
        default: preconditionFailure("\(dtype.name) is no floating-point type")
        }
    }

    /// Rounds each of `sums` into a word.
    package static func round(_ sums: UnsafeMutableBufferPointer<Double>, _ dtype: DType, into bytes: UnsafeMutableRawBufferPointer) {
        func each<Word: FixedWidthInteger>(_: Word.Type, _ word: (Double) -> Word) {
            for index in sums.indices {
                bytes.storeBytes(of: word(sums[index]).littleEndian, toByteOffset: index * MemoryLayout<Word>.size, as: Word.self)
            }
        }
        switch dtype {
        case .bf16: each(UInt16.self) { bfloat($0) }
        case .f16: each(UInt16.self) { half($0) }
        case .f32: each(UInt32.self) { Float($0).bitPattern }
        case .f64: each(UInt64.self) { $0.bitPattern }
        default: preconditionFailure("\(dtype.name) is no floating-point type")
        }
    }

    /// The nearest Float, but for one that is not exact the neighbour whose last bit is set: rounded once more to a type of fewer bits it is
    /// what rounding the Double at once would be (Boldo and Melquiond 2008).
    package static func odd(_ value: Double) -> Float {
        let nearest = Float(value)
        guard nearest.isFinite, Double(nearest) != value else { return nearest }
        let below = Double(nearest.magnitude) > value.magnitude ? nearest.magnitude.nextDown : nearest.magnitude
        let odd = Float(bitPattern: below.bitPattern | 1)
        return value < 0 ? -odd : odd
    }

    package static func bfloat(_ value: Double) -> UInt16 { bfloat(odd(value)) }

    package static func bfloat(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        // NaN stays NaN.
        if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16) & 1) >> 16)
    }

    /// The value of an IEEE half.
    package static func half(_ word: UInt16) -> Double {
        let (exponent, fraction) = (Int(word >> 10 & 0x1F), Double(word & 0x3FF))
        let magnitude: Double =
            switch exponent {
            case 0: fraction * 0x1p-24
            case 31: fraction == 0 ? .infinity : .nan
            default: Double(sign: .plus, exponent: exponent - 25, significand: 1024 + fraction)
            }
        return word & 0x8000 == 0 ? magnitude : -magnitude
    }

    /// The nearest IEEE half.
    package static func half(_ value: Double) -> UInt16 {
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        guard value == value else { return sign | 0x7E00 }
        let magnitude = value.magnitude
        // Half way between the largest and what would follow it.
        if magnitude >= 65520 { return sign | 0x7C00 }
        let unit = magnitude < 0x1p-14 ? 0x1p-24 : Double(sign: .plus, exponent: Int(magnitude.exponent) - 10, significand: 1)
        let count = (magnitude / unit).rounded(.toNearestOrEven)
        guard magnitude >= 0x1p-14 else { return sign | UInt16(count) }
        let exponent = UInt16(Int(magnitude.exponent) + 15)
        // 2,048 units are the next power of two: the carry is the exponent's.
        return sign | (exponent << 10 + UInt16(count - 1024))
    }
}
