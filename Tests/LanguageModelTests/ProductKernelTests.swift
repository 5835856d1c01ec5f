import CKernels
import TestSupport
import Testing

/// Dense products, the portable ones and all that this processor runs, against plain sums in Double.
@Suite struct ProductKernelTests {
    static let sets = [ck_portable_product_kernels(), ck_avx2_product_kernels(), ck_avx512_product_kernels()]
        .compactMap { $0?.pointee }

    /// (m, n, k): below, at and beyond tiles, strips and blocks of the inner dimension.
    static let shapes = [
        (1, 1, 1), (2, 3, 5), (6, 16, 8), (7, 17, 9), (12, 33, 31), (14, 32, 384), (15, 31, 385), (29, 65, 400), (40, 8, 769),
        (3, 100, 0),
    ]

    /// What the kernels get: numbers, and the same as 16-bit words that stand for them.
    enum Words: CaseIterable {
        case f32, bf16, f16

        func encode(_ values: [Float]) -> (bytes: [UInt8], values: [Float]) {
            switch self {
            case .f32: return (values.withUnsafeBytes { Array($0) }, values)
            case .bf16:
                let words = values.map { UInt16($0.bitPattern >> 16) }
                return (words.withUnsafeBytes { Array($0) }, words.map { Float(bitPattern: UInt32($0) << 16) })
            case .f16:
                // Small multiples of 1/64 are halves, exactly.
                let halves = values.map { ($0 * 64).rounded() / 64 }
                let words = halves.map { value -> UInt16 in
                    guard value != 0 else { return 0 }
                    let sign: UInt16 = value < 0 ? 0x8000 : 0
                    return sign | UInt16(value.exponent + 15) << 10 | UInt16(value.significandBitPattern >> 13)
                }
                return (words.withUnsafeBytes { Array($0) }, halves)
            }
        }

        var bytes: Int { self == .f32 ? 4 : 2 }

        func widener() -> (@convention(c) (UnsafeRawPointer?, Int, UnsafeMutablePointer<Float>?) -> Void)? {
            let kernels = ck_portable_forward_kernels()!.pointee
            return switch self {
            case .f32: nil
            case .bf16: kernels.widen_bf16
            case .f16: kernels.widen_f16
            }
        }
    }

    static func plain(
        _ a: [Float], _ stride: Int, _ m: Int, _ n: Int, _ k: Int, _ b: (Int, Int) -> Float
    ) -> [(sum: Double, size: Double)] {
        (0..<m).flatMap { row in
            (0..<n).map { column in
                (0..<k).reduce((0.0, 0.0)) { total, inner in
                    let product = Double(a[row * stride + inner]) * Double(b(inner, column))
                    return (total.0 + product, total.1 + abs(product))
                }
            }
        }
    }

    /// Both ways of packing, pieces that start anywhere, rows far apart, sums added to what is there; nothing written around C.
    @Test(arguments: Words.allCases) func productsAreThoseOfPlainSums(_ words: Words) {
        for kernels in ProductKernelTests.sets {
            for (index, (m, n, k)) in ProductKernelTests.shapes.enumerated() {
                let strides = (a: k + 3, b: max(n, k) + 5, c: n + 2)
                let seed = UInt64(index)
                let a = ForwardKernelTests.numbers(m * strides.a, 3, seed: seed)
                let b = words.encode(ForwardKernelTests.numbers(max(n, k, 1) * strides.b, 3, seed: seed + 100))
                let strips = (n + kernels.strip - 1) / kernels.strip
                for transposed in [false, true] {
                    // A byte in front, so that nothing is aligned.
                    let bytes = [0] + b.bytes
                    var panel = [Float](repeating: 0, count: max(1, strips * kernels.strip * k))
                    let count = transposed ? k : n
                    for piece in [0..<count / 3, count / 3..<count] where !piece.isEmpty {
                        bytes.withUnsafeBytes { bytes in
                            let from = bytes.baseAddress! + 1 + piece.lowerBound * strides.b * words.bytes
                            if transposed {
                                kernels.pack_columns(
                                    from, strides.b * words.bytes, words.widener(), piece.count, n, piece.lowerBound, k, &panel)
                            } else {
                                kernels.pack_rows(
                                    from, strides.b * words.bytes, words.widener(), piece.count, k, piece.lowerBound, &panel)
                            }
                        }
                    }
                    let wanted = ProductKernelTests.plain(a, strides.a, m, n, k) { inner, column in
                        b.values[transposed ? inner * strides.b + column : column * strides.b + inner]
                    }
                    for adding in [false, true] {
                        var c = [Float](repeating: 7.5, count: m * strides.c)
                        kernels.multiply(a, strides.a, m, panel, kernels.strip * k, n, k, &c, strides.c, adding ? 1 : 0)
                        for row in 0..<m {
                            for column in 0..<n {
                                let (sum, size) = wanted[row * n + column]
                                let expected = adding ? sum + 7.5 : sum
                                #expect(abs(Double(c[row * strides.c + column]) - expected) <= 1e-6 * (size + 7.5))
                            }
                            #expect(c[row * strides.c + n..<(row + 1) * strides.c].allSatisfy { $0 == 7.5 })
                        }
                    }
                }
            }
        }
    }

    /// A given the other way round: a^T b, of rows far apart, up to the last float that is there.
    @Test func transposedProductsAreThoseOfPlainSums() {
        for kernels in ProductKernelTests.sets {
            for (index, (m, n, k)) in ProductKernelTests.shapes.enumerated() {
                let strides = (a: m + 3, c: n + 2)
                let seed = UInt64(index)
                // Nothing behind the last row.
                let a = ForwardKernelTests.numbers(max(0, k - 1) * strides.a + m, 3, seed: seed)
                let b = ForwardKernelTests.numbers(max(1, k * n), 3, seed: seed + 100)
                let strips = (n + kernels.strip - 1) / kernels.strip
                var panel = [Float](repeating: 0, count: max(1, strips * kernels.strip * k))
                kernels.pack_columns(b, n * 4, nil, k, n, 0, k, &panel)
                let turned = (0..<m * k).map { a[$0 % max(1, k) * strides.a + $0 / max(1, k)] }
                let wanted = ProductKernelTests.plain(turned, k, m, n, k) { b[$0 * n + $1] }
                for adding in [false, true] {
                    let (from, c) = (GuardedFloats(a), GuardedFloats([Float](repeating: 7.5, count: (m - 1) * strides.c + n)))
                    kernels.multiply_transposed(
                        from.pointer, strides.a, m, panel, kernels.strip * k, n, k, c.pointer, strides.c, adding ? 1 : 0)
                    for (place, value) in c.values.enumerated() {
                        let (row, column) = (place / strides.c, place % strides.c)
                        if column < n {
                            let (sum, size) = wanted[row * n + column]
                            #expect(abs(Double(value) - (adding ? sum + 7.5 : sum)) <= 1e-6 * (size + 7.5))
                        } else {
                            #expect(value == 7.5)
                        }
                    }
                }
            }
        }
    }

    /// Weights read where they lie: the same bits as packed ones, nothing read past the last row, nothing written around C.
    @Test(arguments: Words.allCases) func fewRowsGiveTheBitsOfPackedProducts(_ words: Words) {
        for kernels in ProductKernelTests.sets {
            for (index, (_, n, k)) in ProductKernelTests.shapes.enumerated() {
                for m in [1, 2, 3, 4, 7] {
                    let strides = (a: k + 3, c: n + 2)
                    let a = ForwardKernelTests.numbers(m * strides.a, 3, seed: UInt64(index))
                    let w = words.encode(ForwardKernelTests.numbers(max(1, n * k), 3, seed: UInt64(index) + 100)).bytes
                    let bytes = GuardedBytes(Array(w.prefix(n * k * words.bytes)))
                    let strips = (n + kernels.strip - 1) / kernels.strip
                    var panel = [Float](repeating: 0, count: max(1, strips * kernels.strip * k))
                    for adding: Int32 in [0, 1] {
                        var wanted = [Float](repeating: 7.5, count: m * strides.c)
                        var found = wanted
                        kernels.pack_rows(bytes.bytes.baseAddress!, k * words.bytes, words.widener(), n, k, 0, &panel)
                        kernels.multiply(a, strides.a, m, panel, kernels.strip * k, n, k, &wanted, strides.c, adding)
                        kernels.multiply_rows(
                            a, strides.a, m, bytes.bytes.baseAddress!, k * words.bytes, words.widener(), n, k, &found, strides.c, adding)
                        #expect(found == wanted, "\(words) \(m) \(n) \(k) \(adding)")
                    }
                    // The other way round, (k, n), a block of the inner dimension in two pieces.
                    guard k <= 384 else { continue }
                    var wanted = [Float](repeating: 7.5, count: m * strides.c)
                    var found = wanted
                    for row in 0..<m { for column in 0..<n { found[row * strides.c + column] = 0 } }
                    kernels.pack_columns(bytes.bytes.baseAddress!, n * words.bytes, words.widener(), k, n, 0, k, &panel)
                    kernels.multiply(a, strides.a, m, panel, kernels.strip * k, n, k, &wanted, strides.c, 0)
                    for piece in [0..<k / 3, k / 3..<k] {
                        a.withUnsafeBufferPointer { a in
                            kernels.accumulate_columns(
                                a.baseAddress! + piece.lowerBound, strides.a, m,
                                bytes.bytes.baseAddress! + piece.lowerBound * n * words.bytes, n * words.bytes, words.widener(),
                                piece.count, n, &found, strides.c)
                        }
                    }
                    #expect(found == wanted, "\(words) \(m) \(n) \(k)")
                }
            }
        }
    }

    @Test func whatIsNoNumberStaysInItsRowAndColumn() {
        for kernels in ProductKernelTests.sets {
            var a = [Float](repeating: 1, count: 20 * 10)
            a[13 * 10 + 4] = .nan
            let b = [Float](repeating: 2, count: 40 * 10)
            var panel = [Float](repeating: 0, count: 2 * 64 * 10)
            kernels.pack_rows(b, 40, nil, 40, 10, 0, &panel)
            var c = [Float](repeating: 0, count: 20 * 40)
            kernels.multiply(a, 10, 20, panel, kernels.strip * 10, 40, 10, &c, 40, 0)
            for (index, value) in c.enumerated() { #expect(index / 40 == 13 ? value.isNaN : value == 20) }
        }
    }

    @Test func nothingIsReadPastTheLastRow() {
        for kernels in ProductKernelTests.sets {
            for count in [1, 5, 8, 9, 17] {
                let bytes = GuardedBytes([UInt8](repeating: 0, count: count * 11 * 4))
                var panel = [Float](repeating: 1, count: 64 * 32)
                kernels.pack_rows(bytes.bytes.baseAddress!, 44, nil, count, 11, 0, &panel)
                kernels.pack_columns(bytes.bytes.baseAddress!, 44, nil, count, 11, 0, count, &panel)
            }
        }
    }
}
