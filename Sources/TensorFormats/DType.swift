/// The element type of a tensor, by the names safetensors gives them.
///
/// The raw value is written into stores: a number is never reused and never changes its meaning.
public enum DType: UInt8, Sendable, CaseIterable {
    case bool = 1
    case u8 = 2
    case i8 = 3
    case u16 = 4
    case i16 = 5
    case u32 = 6
    case i32 = 7
    case u64 = 8
    case i64 = 9
    case f16 = 10
    case bf16 = 11
    case f32 = 12
    case f64 = 13
    case c64 = 14
    case c128 = 15
    case f8E4M3 = 16
    case f8E5M2 = 17
    case f8E8M0 = 18
    case f8E4M3FNUZ = 19
    case f8E5M2FNUZ = 20
    case f6E2M3 = 21
    case f6E3M2 = 22
    case f4 = 23

    /// The name in a safetensors header. `C128` exists in PyTorch only and has no safetensors name of its own.
    public var name: String {
        switch self {
        case .bool: "BOOL"
        case .u8: "U8"
        case .i8: "I8"
        case .u16: "U16"
        case .i16: "I16"
        case .u32: "U32"
        case .i32: "I32"
        case .u64: "U64"
        case .i64: "I64"
        case .f16: "F16"
        case .bf16: "BF16"
        case .f32: "F32"
        case .f64: "F64"
        case .c64: "C64"
        case .c128: "C128"
        case .f8E4M3: "F8_E4M3"
        case .f8E5M2: "F8_E5M2"
        case .f8E8M0: "F8_E8M0"
        case .f8E4M3FNUZ: "F8_E4M3FNUZ"
        case .f8E5M2FNUZ: "F8_E5M2FNUZ"
        case .f6E2M3: "F6_E2M3"
        case .f6E3M2: "F6_E3M2"
        case .f4: "F4"
        }
    }

    /// Bits of one element: 4 or 6 for the sub-byte types, else a multiple of 8.
    public var bits: Int {
        switch self {
        case .f4: 4
        case .f6E2M3, .f6E3M2: 6
        case .bool, .u8, .i8, .f8E4M3, .f8E5M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
        case .u16, .i16, .f16, .bf16: 16
        case .u32, .i32, .f32: 32
        case .u64, .i64, .f64, .c64: 64
        case .c128: 128
        }
    }

    /// The dtype a safetensors header calls `name`, or nil. `C128` is not accepted there.
    ///
    /// - Complexity: O(1).
    public init?(safetensorsName name: String) {
        guard let found = DType.safetensorsNames[name] else { return nil }
        self = found
    }

    private static let safetensorsNames: [String: DType] = Dictionary(
        uniqueKeysWithValues: allCases.filter { $0 != .c128 }.map { ($0.name, $0) })

    /// Bytes of a tensor of this type, or nil when the product overflows or does not end on a whole byte.
    ///
    /// - Complexity: O(rank).
    public func byteCount(shape: [UInt64]) -> UInt64? {
        guard let count = DType.elementCount(shape: shape) else { return nil }
        let (bitCount, overflow) = count.multipliedReportingOverflow(by: UInt64(bits))
        guard !overflow, bitCount % 8 == 0 else { return nil }
        return bitCount / 8
    }

    /// The product of the dimensions (1 for a scalar), or nil when it overflows on the way, as in the
    /// reference safetensors reader: `[2^40, 2^40, 0]` overflows although the product is zero.
    public static func elementCount(shape: [UInt64]) -> UInt64? {
        var count: UInt64 = 1
        for dim in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: dim)
            guard !overflow else { return nil }
            count = product
        }
        return count
    }
}
