import TestSupport

/// Floats that end where memory ends: reading or writing past them is a crash.
final class GuardedFloats {
    private let memory: GuardedBytes
    private let count: Int

    init(_ values: [Float]) {
        count = values.count
        memory = GuardedBytes(values.withUnsafeBytes { Array($0) })
    }

    /// Valid while this object lives.
    var pointer: UnsafeMutablePointer<Float> { memory.bytes.baseAddress!.assumingMemoryBound(to: Float.self) }
    var values: [Float] { Array(UnsafeBufferPointer(start: pointer, count: count)) }
}
