import CKernels
import Foundation
import TestSupport
import Testing

/// The comparison kernels of this processor against the portable ones, and those against a plain loop.
@Suite struct KernelTests {
    typealias Kind = FloatKind

    /// What kind of words are in the buffers.
    enum Words: CaseIterable {
        case random, specials, finite, nearlyEqual, zeros
    }

    private func words(_ kind: Kind, _ words: Words, _ count: Int, _ generator: inout SeededGenerator) -> ([UInt64], [UInt64]) {
        let all = kind.sign | (kind.sign - 1)
        func finite(_ generator: inout SeededGenerator) -> UInt64 {
            var word = generator.next() & all
            // Doubles so large that their squares overflow are left to other tests.
            if kind == .f64 { word = word & ~kind.exponent | (0x3FF - 400 + generator.next() % 800) << 52 }
            return word & kind.exponent == kind.exponent ? word ^ kind.exponent : word
        }
        var (first, second) = ([UInt64](), [UInt64]())
        for _ in 0..<count {
            switch words {
            case .random:
                first.append(kind == .f64 ? finite(&generator) : generator.next() & all)
                second.append(kind == .f64 ? finite(&generator) : generator.next() & all)
            case .specials:
                first.append(kind.specials.randomElement(using: &generator)!)
                second.append(kind.specials.randomElement(using: &generator)!)
            case .finite:
                first.append(finite(&generator))
                second.append(finite(&generator))
            case .nearlyEqual:
                first.append(finite(&generator))
                second.append(generator.below(2) == 0 ? first.last! : first.last! ^ 1)
            case .zeros:
                first.append(generator.below(2) == 0 ? 0 : kind.sign)
                second.append(generator.below(3) == 0 ? 0 : generator.below(2) == 0 ? kind.sign : finite(&generator))
            }
        }
        return (first, second)
    }

    /// Counts to the last bit. Sums and the maximum of the portable kernel but for the order of additions and fused
    /// products; those of the others to the accuracy that diff_kernels.h states.
    private func agree(_ a: ck_comparison, _ b: ck_comparison, portable: Bool) -> Bool {
        let tolerance = portable ? 1e-13 : 1e-6
        func close(_ x: Double, _ y: Double) -> Bool { x == y || abs(x - y) <= tolerance * max(abs(x), abs(y)) }
        // By Cauchy and Schwarz the sum of magnitudes is below this.
        // Where the squares overflow, the products may or may not.
        let product = a.sum_ab == b.sum_ab || !(a.sum_aa * a.sum_bb).isFinite || abs(a.sum_ab - b.sum_ab) <= tolerance * (a.sum_aa * a.sum_bb).squareRoot()
        return a.changed == b.changed && a.sign_flips == b.sign_flips && a.nonfinite == b.nonfinite
            && (a.max_abs == b.max_abs || !portable && abs(a.max_abs - b.max_abs) <= 0x1p-24 * b.max_abs) && close(a.sum_aa, b.sum_aa) && close(a.sum_bb, b.sum_bb) && close(a.sum_dd, b.sum_dd)
            && product
    }

    @Test(arguments: Kind.allCases)
    func kernelsAgree(kind: Kind) {
        var generator = SeededGenerator(test: "kernelsAgree(\(kind))")
        for words in Words.allCases {
            for count in Array(0...67) + [100, 127, 128, 129, 1000, 4099] {
                let (first, second) = self.words(kind, words, count, &generator)
                let wanted = kind.plainSums(first, second)
                let (left, right) = (kind.guarded(first), kind.guarded(second))
                for kernels in [ck_portable_kernels()!.pointee, ck_active_kernels()!.pointee] {
                    var sums = ck_comparison()
                    kind.function(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, count, &sums)
                    let name = String(cString: kernels.name)
                    #expect(agree(sums, wanted, portable: name == "portable"), "\(name) \(kind) \(words) \(count), seed \(generator.seed): \(sums) \(wanted)")
                }
            }
        }
    }

    /// Sums are added to what is there, and addresses may be odd.
    @Test(arguments: Kind.allCases)
    func kernelsAddUpAtAnyAddress(kind: Kind) {
        var generator = SeededGenerator(test: "kernelsAddUpAtAnyAddress(\(kind))")
        for shift in 0..<16 {
            let (first, second) = words(kind, .finite, 700, &generator)
            let wanted = kind.plainSums(first, second)
            let (left, right) = (kind.guarded(first), kind.guarded(second))
            let room = UnsafeMutableRawPointer.allocate(byteCount: 8192, alignment: 64)
            let other = UnsafeMutableRawPointer.allocate(byteCount: 8192, alignment: 64)
            defer {
                room.deallocate()
                other.deallocate()
            }
            memcpy(room + shift, left.bytes.baseAddress!, left.bytes.count)
            memcpy(other + 3 * shift, right.bytes.baseAddress!, right.bytes.count)
            for kernels in [ck_portable_kernels()!.pointee, ck_active_kernels()!.pointee] {
                var sums = ck_comparison()
                // In three parts.
                var done = 0
                for count in [21, 612, 67] {
                    kind.function(kernels)(room + shift + done * kind.bytes, other + 3 * shift + done * kind.bytes, count, &sums)
                    done += count
                }
                #expect(agree(sums, wanted, portable: String(cString: kernels.name) == "portable"), "\(String(cString: kernels.name)) \(kind) at \(shift), seed \(generator.seed)")
            }
        }
    }

    /// Every half against zero, one and its neighbour: all 65,536 of both 16-bit types.
    @Test(arguments: [Kind.bf16, .f16])
    func everyHalf(kind: Kind) {
        let every = (0..<65536).map { UInt64($0) }
        let one = kind == .bf16 ? UInt64(0x3F80) : 0x3C00
        for second in [every.map { _ in 0 }, every.map { _ in one }, every.map { $0 ^ 1 }, every.map { $0 ^ kind.sign }] {
            let wanted = kind.plainSums(every, second)
            let (left, right) = (kind.guarded(every), kind.guarded(second))
            for kernels in [ck_portable_kernels()!.pointee, ck_active_kernels()!.pointee] {
                var sums = ck_comparison()
                kind.function(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, every.count, &sums)
                #expect(agree(sums, wanted, portable: String(cString: kernels.name) == "portable"), "\(String(cString: kernels.name)) \(kind): \(sums) \(wanted)")
            }
        }
    }
}

extension FloatKind {
    fileprivate func function(_ kernels: ck_kernels) -> ck_compare_fn {
        switch self {
        case .bf16: kernels.compare_bf16
        case .f16: kernels.compare_f16
        case .f32: kernels.compare_f32
        case .f64: kernels.compare_f64
        }
    }
}
