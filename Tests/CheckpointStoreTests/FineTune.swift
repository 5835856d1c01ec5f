import TensorFormats
import TestSupport

/// A made-up fine-tune: every step moves every word a little, mostly the way it moved before.
struct FineTune {
    private var source = SeededBytes(17)
    private var values: [[Double]]
    private var momentum: [[Double]]
    let shape: [UInt64] = [200, 96]

    init(tensors: Int = 2) {
        let count = 200 * 96
        var source = SeededBytes(5)
        values = (0..<tensors).map { _ in source.bytes(count).map { (Double($0) - 127.5) / 4000 } }
        momentum = values.map { $0.map { _ in 0 } }
    }

    /// The weights after one more step.
    mutating func next() -> [UInt8] {
        for tensor in values.indices {
            let noise = source.bytes(values[tensor].count)
            for index in values[tensor].indices {
                momentum[tensor][index] = 0.7 * momentum[tensor][index] + (Double(noise[index]) - 127.5) * 4e-7
                values[tensor][index] += momentum[tensor][index]
            }
        }
        return SafetensorsFixture(
            values.enumerated().map { index, values in
                let bytes = values.flatMap { value -> [UInt8] in
                    let bits = Float(value).bitPattern
                    return [UInt8(truncatingIfNeeded: bits >> 16), UInt8(truncatingIfNeeded: bits >> 24)]
                }
                return .init("layer.\(index)", .bf16, shape, bytes)
            }
        ).bytes
    }
}
