#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011): random numbers by counting, so that any of them can be had by its place
/// and no state has to be kept. `format-spec/random.md` has the layout and test vectors.
///
/// A stream is named by (seed, purpose, round, pass): key = the two halves of the seed, low word first; counter = (block of four
/// words, purpose, round, pass).
public struct Philox: Sendable {
    /// What numbers are drawn for: streams of different purposes have nothing in common.
    public enum Purpose: UInt32, Sendable {
        /// Which samples a pass trains on.
        case draw = 0
        /// In which order.
        case shuffle = 1
        /// Weights of a model that starts from nothing.
        case weights = 2
        /// Tokens of generated text.
        case generate = 3
        /// How far a weak model's logits are rotated.
        case rotate = 4
    }

    private let key: (UInt32, UInt32)
    private let stream: (UInt32, UInt32, UInt32)
    private var block = SIMD4<UInt32>()
    /// Words drawn so far.
    public private(set) var place: UInt64 = 0

    public init(seed: UInt64, _ purpose: Purpose, round: UInt32 = 0, pass: UInt32 = 0) {
        key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        stream = (purpose.rawValue, round, pass)
    }

    /// The four words of one counter under one key.
    static func words(_ counter: SIMD4<UInt32>, key: (UInt32, UInt32)) -> SIMD4<UInt32> {
        var c = counter
        var (k0, k1) = key
        for _ in 0..<10 {
            let a = UInt64(c[0]) * 0xD251_1F53
            let b = UInt64(c[2]) * 0xCD9E_8D57
            c = SIMD4(
                UInt32(truncatingIfNeeded: b >> 32) ^ c[1] ^ k0, UInt32(truncatingIfNeeded: b),
                UInt32(truncatingIfNeeded: a >> 32) ^ c[3] ^ k1, UInt32(truncatingIfNeeded: a))
            k0 &+= 0x9E37_79B9
            k1 &+= 0xBB67_AE85
        }
        return c
    }

    /// The next 32 bits. A stream has 2^34 words and begins anew after them.
    public mutating func word() -> UInt32 {
        let index = Int(place % 4)
        if index == 0 { block = Philox.words(SIMD4(UInt32(truncatingIfNeeded: place / 4), stream.0, stream.1, stream.2), key: key) }
        place += 1
        return block[index]
    }

    /// Uniform in 0 ..< 1, a multiple of 2^-53: of two words the upper 27 and 26 bits, as numpy and Python make theirs.
    public mutating func uniform() -> Double {
        let high = Double(word() >> 5)
        let low = Double(word() >> 6)
        return (high * 67_108_864 + low) / 9_007_199_254_740_992
    }

    /// Normal with mean 0 and deviation 1: sqrt(-2 ln(1 - u)) cos(2 pi v) of two uniforms (Box and Muller 1958).
    public mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * .pi * uniform())
    }

    /// Uniform in 0 ..< count: `uniform() * count`, rounded down.
    public mutating func index(below count: Int) -> Int { min(count - 1, Int(uniform() * Double(count))) }

    /// The order 0 ..< count is shuffled into: Fisher and Yates from the end, place i with one of 0 ... i.
    public mutating func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        for place in stride(from: count - 1, to: 0, by: -1) { order.swapAt(place, index(below: place + 1)) }
        return order
    }
}
