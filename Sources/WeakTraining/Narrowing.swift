internal import TensorFormats

/// Single precision to the words of a checkpoint: to the nearest, of two equally near the even one. NaN stays NaN.
enum Narrowing {
    /// Writes the words of `values` to `bytes`.
    static func words(_ values: UnsafeBufferPointer<Float>, _ dtype: DType, into bytes: UnsafeMutableRawBufferPointer) {
        switch dtype {
        case .bf16: narrow(values, into: bytes, FloatWords.bfloat)
        case .f16: narrow(values, into: bytes) { FloatWords.half(Double($0)) }
        default: bytes.copyMemory(from: UnsafeRawBufferPointer(values))
        }
    }

    private static func narrow(_ values: UnsafeBufferPointer<Float>, into bytes: UnsafeMutableRawBufferPointer, _ word: (Float) -> UInt16) {
        let words = bytes.assumingMemoryBound(to: UInt16.self)
        for (index, value) in values.enumerated() { words[index] = word(value) }
    }
}
