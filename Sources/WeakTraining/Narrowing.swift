internal import TensorFormats

/// Single precision to the words of a checkpoint: to the nearest, of two equally near the even one. NaN stays NaN.
enum Narrowing {
    /// Appends the words of `values` to `bytes`.
    static func words(_ values: UnsafeBufferPointer<Float>, _ dtype: DType, into bytes: UnsafeMutableRawBufferPointer) {
        switch dtype {
        case .bf16:
            let words = bytes.assumingMemoryBound(to: UInt16.self)
            for (index, value) in values.enumerated() { words[index] = bf16(value) }
        case .f16:
            #if arch(x86_64) && os(macOS)
            preconditionFailure("no Float16 here")
            #else
            let words = bytes.assumingMemoryBound(to: Float16.self)
            for (index, value) in values.enumerated() { words[index] = Float16(value) }
            #endif
        default: bytes.copyMemory(from: UnsafeRawBufferPointer(values))
        }
    }

    static func bf16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16) & 1) >> 16)
    }
}
