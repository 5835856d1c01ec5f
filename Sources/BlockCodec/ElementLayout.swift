internal import TensorFormats

/// How the words of an element type are split into byte planes, and where their exponents are.
struct ElementLayout {
    /// Bytes of a word: 1, 2, 4 or 8. Complex numbers are two words.
    var width: Int
    /// Rotate each word left by one first: a float's exponent then fills the top plane and its sign joins the
    /// lowest mantissa bits, which nothing compresses anyway.
    var rotates: Bool
    var mode: Zstd.Mode
    /// Of signed floats; 0 for everything else.
    var exponentBits: Int
    var mantissaBits: Int

    init(_ element: DType) {
        (exponentBits, mantissaBits) = (0, 0)
        switch element {
        case .f16, .bf16: (width, rotates, mode) = (2, true, .entropy)
        case .f32, .c64: (width, rotates, mode) = (4, true, .entropy)
        case .f64, .c128: (width, rotates, mode) = (8, true, .entropy)
        case .f8E4M3, .f8E5M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .f6E2M3, .f6E3M2, .f4:
            (width, rotates, mode) = (1, false, .entropy)
        case .bool, .u8, .i8: (width, rotates, mode) = (1, false, .general)
        case .u16, .i16: (width, rotates, mode) = (2, false, .general)
        case .u32, .i32: (width, rotates, mode) = (4, false, .general)
        case .u64, .i64: (width, rotates, mode) = (8, false, .general)
        }
        switch element {
        case .f16: (exponentBits, mantissaBits) = (5, 10)
        case .bf16: (exponentBits, mantissaBits) = (8, 7)
        case .f32, .c64: (exponentBits, mantissaBits) = (8, 23)
        case .f64, .c128: (exponentBits, mantissaBits) = (11, 52)
        case .f8E4M3, .f8E4M3FNUZ: (exponentBits, mantissaBits) = (4, 3)
        case .f8E5M2, .f8E5M2FNUZ: (exponentBits, mantissaBits) = (5, 2)
        default: break
        }
    }
}
