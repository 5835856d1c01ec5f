import Foundation

/// SplitMix64: the same numbers from the same seed on every machine.
public struct SeededGenerator: RandomNumberGenerator {
    /// Named in the comment of every expectation, so that a failure can be run again.
    public let seed: UInt64
    private var state: UInt64

    /// From `CKPT_TEST_SEED`, else a new one every run. Printed, with the name of the test.
    public init(test: String) {
        let seed = ProcessInfo.processInfo.environment["CKPT_TEST_SEED"].flatMap { UInt64($0) }
        self.init(seed: seed ?? UInt64.random(in: 0...UInt64(UInt32.max)))
        print("\(test): CKPT_TEST_SEED=\(self.seed)")
    }

    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// Normal, by Box and Muller.
    public mutating func normal() -> Double {
        let u = (Double(next() >> 11) + 1) * 0x1p-53
        let v = Double(next() >> 11) * 0x1p-53
        return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
    }
}
