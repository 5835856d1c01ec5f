import CKernels
import Testing
import TestSupport

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The kernels of a forward pass, the portable ones and all that this processor runs, against plain sums in Double.
@Suite struct ForwardKernelTests {
    static let sets = [ck_portable_forward_kernels(), ck_avx2_forward_kernels(), ck_avx512_forward_kernels()].compactMap { $0?.pointee }
    static let counts = [1, 3, 7, 8, 9, 31, 64, 513, 1500]

    static func numbers(_ count: Int, _ scale: Double, seed: UInt64) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in Float(Double.random(in: -scale...scale, using: &generator)) }
    }

    @Test func entropyOfADistributionSeenInPieces() {
        for kernels in ForwardKernelTests.sets {
            for count in ForwardKernelTests.counts {
                for scale in [0.01, 3, 60, 4000] {
                    let logits = ForwardKernelTests.numbers(count, scale, seed: UInt64(count))
                    var state = ck_distribution(largest: -.infinity, top: 0, sum: 0, weighted: 0)
                    for start in stride(from: 0, to: count, by: 100) {
                        let end = min(start + 100, count)
                        logits.withUnsafeBufferPointer {
                            kernels.observe($0.baseAddress! + start, end - start, Int32(start), &state)
                        }
                    }
                    let most = Double(logits.max()!)
                    let sum = logits.reduce(0) { $0 + exp(Double($1) - most) }
                    let entropy = logits.reduce(0) { total, z in
                        let p = exp(Double(z) - most) / sum
                        return p > 0 ? total - p * log(p) : total
                    }
                    #expect(abs(log(state.sum) - state.weighted / state.sum - entropy) < 2e-6 * (1 + entropy))
                    #expect(abs(state.sum - sum) < 1e-6 * sum)
                    #expect(Int(state.top) == logits.firstIndex(of: logits.max()!))
                }
            }
        }
    }

    @Test func aLogitThatIsNoNumberSpoilsTheSum() {
        for kernels in ForwardKernelTests.sets {
            for place in [0, 5, 11] {
                for bad in [Float.nan, .infinity] {
                    var logits = [Float](repeating: 1, count: 12)
                    logits[place] = bad
                    var state = ck_distribution(largest: -.infinity, top: 0, sum: 0, weighted: 0)
                    kernels.observe(logits, 12, 0, &state)
                    #expect(state.sum.isNaN)
                }
            }
        }
    }

    @Test func softmaxKeepsToItsRange() {
        for kernels in ForwardKernelTests.sets {
            for count in ForwardKernelTests.counts {
                let row = ForwardKernelTests.numbers(count, 20, seed: 3)
                let first = count / 3
                var out = row
                kernels.softmax(&out, first, count, count, 0.37)
                let most = Double(row[first...].max()!) * 0.37
                let sum = row[first...].reduce(0) { $0 + exp(Double($1) * 0.37 - most) }
                for index in 0..<count {
                    let wanted = index < first ? 0 : exp(Double(row[index]) * 0.37 - most) / sum
                    #expect(abs(Double(out[index]) - wanted) < 2e-6)
                }
            }
        }
    }

    @Test func activationsFollowTheirFormulas() {
        for kernels in ForwardKernelTests.sets {
            for scale in [0.1, 2, 12, 200] {
                let x = ForwardKernelTests.numbers(37, scale, seed: 5)
                func check(_ kernel: ck_activate_fn_pointer, _ formula: (Double) -> Double) {
                    var out = x
                    kernel(&out, nil, x.count)
                    for (a, z) in zip(out, x) { #expect(abs(Double(a) - formula(Double(z))) < 1e-6 * (1 + abs(Double(z)))) }
                }
                check(kernels.silu) { $0 / (1 + exp(-$0)) }
                check(kernels.gelu) { 0.5 * $0 * (1 + erf($0 / 2.0.squareRoot())) }
                check(kernels.gelu_tanh) { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
                check(kernels.relu) { max(0, $0) }
            }
        }
    }

    typealias ck_activate_fn_pointer = @convention(c) (UnsafeMutablePointer<Float>?, UnsafePointer<Float>?, Int) -> Void

    @Test func everyHalfAndEveryBrainFloatWidensExactly() {
        let words = (0..<65536).map { UInt16($0) }
        for kernels in ForwardKernelTests.sets {
            var out = [Float](repeating: 0, count: words.count)
            kernels.widen_bf16(words, words.count, &out)
            #expect(zip(out, words).allSatisfy { $0.bitPattern == UInt32($1) << 16 })
            kernels.widen_f16(words, words.count, &out)
            for (value, word) in zip(out, words) {
                let (exponent, mantissa) = (Int(word >> 10 & 31), Float(word & 1023))
                let sign: Float = word & 0x8000 == 0 ? 1 : -1
                if exponent == 31 {
                    #expect(mantissa == 0 ? value == sign * .infinity : value.isNaN)
                } else {
                    let size = exponent == 0 ? mantissa * 0x1p-24 : (1 + mantissa / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
                    #expect(value == sign * size)
                }
            }
        }
    }
}
