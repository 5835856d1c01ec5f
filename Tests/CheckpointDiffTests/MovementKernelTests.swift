import CKernels
import Foundation
import TestSupport
import Testing

/// The movement kernels of every instruction set that this processor runs, against a plain loop.
@Suite struct MovementKernelTests {
    typealias Kind = FloatKind

    enum Words: CaseIterable {
        case random, specials, near, equal
    }

    private struct Plain {
        var sums = ck_movement()
        var counts = [UInt64](repeating: 0, count: 65)
        var rows: [Double]
        var columns: [Double]
    }

    private func words(_ kind: Kind, _ words: Words, _ count: Int, _ generator: inout SeededGenerator) -> ([UInt64], [UInt64]) {
        let all = kind.sign | (kind.sign - 1)
        let lowest = kind.exponent & (~kind.exponent + 1)
        let specials: [UInt64] = [0, 1, kind.exponent, kind.exponent | 1, kind.exponent - 1, lowest, lowest - 1].flatMap { [$0, $0 | kind.sign] }
        var (first, second) = ([UInt64](), [UInt64]())
        func random() -> UInt64 {
            let word = generator.next() & all
            // Doubles whose squares overflow are left to other tests.
            return kind == .f64 ? word & ~kind.exponent | (0x3FF - 400 + generator.next() % 800) << 52 : word
        }
        for _ in 0..<count {
            switch words {
            case .random: (first.append(random()), second.append(random())).0
            case .specials:
                first.append(specials.randomElement(using: &generator)!)
                second.append(kind == .f64 ? first.last! ^ UInt64(generator.below(2)) : specials.randomElement(using: &generator)!)
            case .near:
                first.append(random())
                second.append(generator.below(2) == 0 ? first.last! : first.last! ^ UInt64(1 << generator.below(6)))
            case .equal:
                first.append(random())
                second.append(first.last!)
            }
        }
        return (first, second)
    }

    private func plain(_ kind: Kind, _ first: [UInt64], _ second: [UInt64], _ rowWords: Int, _ firstColumn: Int) -> Plain {
        let rows = (firstColumn + first.count + rowWords - 1) / rowWords
        var plain = Plain(rows: [Double](repeating: 0, count: max(1, rows)), columns: [Double](repeating: 0, count: rowWords))
        plain.sums.sums = kind.plainSums(first, second)
        for (index, (x, y)) in zip(first, second).enumerated() where x & kind.exponent != kind.exponent && y & kind.exponent != kind.exponent {
            let square = (kind.value(y) - kind.value(x)) * (kind.value(y) - kind.value(x))
            let (p, q) = (kind.place(x), kind.place(y))
            let distance = p < q ? UInt64(bitPattern: q &- p) : UInt64(bitPattern: p &- q)
            plain.sums.ulps += Double(distance)
            plain.counts[64 - distance.leadingZeroBitCount] += 1
            plain.rows[(firstColumn + index) / rowWords] += square
            plain.columns[(firstColumn + index) % rowWords] += square
        }
        return plain
    }

    private func isClose(_ x: Double, _ y: Double) -> Bool { x == y || abs(x - y) <= 1e-12 * max(abs(x), abs(y)) }

    private var sets: [ck_movement_kernels] {
        [ck_portable_movement_kernels(), ck_avx2_movement_kernels(), ck_avx512_movement_kernels()].compactMap { $0?.pointee }
    }

    @Test(arguments: Kind.allCases)
    func kernelsAgree(kind: Kind) {
        var generator = SeededGenerator(test: "movementKernelsAgree(\(kind))")
        for words in Words.allCases {
            for count in Array(0...40) + [63, 64, 65, 100, 127, 1000, 2047, 2048, 2049, 4099, 9000] {
                let rowWords = [1, 3, 8, 16, 17, 64, 100, 2048, 5000].randomElement(using: &generator)!
                let firstColumn = generator.below(rowWords)
                let (first, second) = self.words(kind, words, count, &generator)
                let wanted = plain(kind, first, second, rowWords, firstColumn)
                let (left, right) = (kind.guarded(first), kind.guarded(second))
                for kernels in sets {
                    let name: Comment = "\(String(cString: kernels.name)) \(kind) \(words) \(count) \(rowWords) \(firstColumn), seed \(generator.seed)"
                    var found = ck_movement()
                    var rows = [Double](repeating: 0, count: wanted.rows.count)
                    var columns = [Double](repeating: 0, count: rowWords)
                    kind.function(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, count, rowWords, firstColumn, &found, &rows, &columns)
                    #expect(found.sums.changed == wanted.sums.sums.changed, name)
                    #expect(found.sums.nonfinite == wanted.sums.sums.nonfinite, name)
                    #expect(found.sums.sign_flips == wanted.sums.sums.sign_flips, name)
                    #expect(found.sums.max_abs == wanted.sums.sums.max_abs, name)
                    #expect(isClose(found.sums.sum_aa, wanted.sums.sums.sum_aa) && isClose(found.sums.sum_bb, wanted.sums.sums.sum_bb), name)
                    #expect(isClose(found.sums.sum_dd, wanted.sums.sums.sum_dd), name)
                    let magnitude = (wanted.sums.sums.sum_aa * wanted.sums.sums.sum_bb).squareRoot()
                    #expect(!magnitude.isFinite || abs(found.sums.sum_ab - wanted.sums.sums.sum_ab) <= 1e-12 * magnitude, name)
                    #expect(isClose(found.ulps, wanted.sums.ulps), name)
                    #expect(withUnsafeBytes(of: found.ulp_counts) { Array($0.bindMemory(to: UInt64.self)) } == wanted.counts, name)
                    #expect(zip(rows, wanted.rows).allSatisfy(isClose), name)
                    #expect(zip(columns, wanted.columns).allSatisfy(isClose), name)
                    // Differences, and the way over four versions, of which three are these: the same sums.
                    let differences = [Float](unsafeUninitializedCapacity: max(1, count)) { target, initialized in
                        kind.difference(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, count, 0.5, target.baseAddress)
                        initialized = count
                    }
                    #expect(
                        zip(differences, zip(first, second)).allSatisfy { found, words in
                            let (x, y) = words
                            let isFinite = x & kind.exponent != kind.exponent && y & kind.exponent != kind.exponent
                            return found == (isFinite ? Float((kind.value(y) - kind.value(x)) * 0.5) : 0)
                        }, name)
                    var trace = ck_trace()
                    kind.trace(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, left.bytes.baseAddress, right.bytes.baseAddress, count, &trace)
                    #expect(trace.changed == found.sums.changed && trace.nonfinite == found.sums.nonfinite, name)
                    #expect(isClose(trace.sum_dd, found.sums.sum_dd) && isClose(trace.sum_de, -found.sums.sum_dd) && isClose(trace.sum_ff, found.sums.sum_dd), name)
                    // Without columns: the same but for them.
                    var again = ck_movement()
                    var whole = [0.0]
                    kind.function(kernels)(left.bytes.baseAddress, right.bytes.baseAddress, count, Int.max, 0, &again, &whole, nil)
                    #expect(again.sums.changed == found.sums.changed && isClose(whole[0], found.sums.sum_dd) && isClose(again.ulps, found.ulps), name)
                    #expect(again.sums.sign_flips == found.sums.sign_flips && again.sums.max_abs == found.sums.max_abs, name)
                    #expect(withUnsafeBytes(of: again.ulp_counts) { Array($0.bindMemory(to: UInt64.self)) } == wanted.counts, name)
                }
            }
        }
    }
}

extension FloatKind {
    fileprivate func function(_ kernels: ck_movement_kernels) -> ck_move_fn {
        switch self {
        case .bf16: kernels.bf16
        case .f16: kernels.f16
        case .f32: kernels.f32
        case .f64: kernels.f64
        }
    }

    fileprivate func difference(_ kernels: ck_movement_kernels) -> ck_difference_fn {
        switch self {
        case .bf16: kernels.difference_bf16
        case .f16: kernels.difference_f16
        case .f32: kernels.difference_f32
        case .f64: kernels.difference_f64
        }
    }

    fileprivate func trace(_ kernels: ck_movement_kernels) -> ck_trace_fn {
        switch self {
        case .bf16: kernels.trace_bf16
        case .f16: kernels.trace_f16
        case .f32: kernels.trace_f32
        case .f64: kernels.trace_f64
        }
    }

    fileprivate func place(_ word: UInt64) -> Int64 { word & sign == 0 ? Int64(word) : -Int64(word & ~sign) }
}
