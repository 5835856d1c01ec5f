import CKernels
import TestSupport
import Testing

/// The products of every instruction set that this processor runs, against plain loops.
@Suite struct GramKernelTests {
    private let width = Int(ck_gram_width), panelRows = Int(ck_gram_rows)

    private func numbers(_ count: Int, _ generator: inout SeededGenerator) -> [Double] {
        (0..<count).map { _ in Double(generator.below(2_000_001)) / 1e6 - 1 }
    }

    private func isClose(_ a: [Double], _ b: [Double]) -> Bool { a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-9 } }

    @Test(arguments: [(1, 1), (8, 3), (9, 17), (24, 100), (50, 8)])
    func kernelsAgree(rows: Int, columns: Int) {
        var generator = SeededGenerator(test: "gram \(rows) \(columns)")
        let d = numbers(rows * columns, &generator).map { Float($0) }
        let v = numbers(columns * width, &generator), start = numbers(columns * width, &generator)
        var wanted = start
        for row in 0..<rows {
            for a in 0..<width {
                let y = (0..<columns).reduce(0) { $0 + Double(d[row * columns + $1]) * v[$1 * width + a] }
                for column in 0..<columns { wanted[column * width + a] += Double(d[row * columns + column]) * y }
            }
        }
        let (k, w, h) = (numbers(rows * width, &generator), numbers(rows * width, &generator), numbers(width * width, &generator))
        var inner = [Double](repeating: 0, count: width * width)
        var combined = w.map { $0 * 0.5 }
        for row in 0..<rows {
            for a in 0..<width {
                for b in 0..<width {
                    inner[a * width + b] += k[row * width + a] * w[row * width + b]
                    combined[row * width + b] += k[row * width + a] * h[a * width + b]
                }
            }
        }
        for kernels in [ck_portable_gram_kernels(), ck_avx2_gram_kernels(), ck_avx512_gram_kernels()].compactMap({ $0?.pointee }) {
            let name: Comment = "\(String(cString: kernels.name)), seed \(generator.seed)"
            let count = (rows + panelRows - 1) / panelRows
            var panels = [Float](repeating: .nan, count: count * panelRows * columns)
            for panel in 0..<count {
                d.withUnsafeBufferPointer { d in
                    panels.withUnsafeMutableBufferPointer { panels in
                        kernels.pack(
                            d.baseAddress! + panel * panelRows * columns, min(panelRows, rows - panel * panelRows), columns,
                            panels.baseAddress! + panel * panelRows * columns)
                    }
                }
            }
            var z = start
            var room = [Double](repeating: .nan, count: panelRows * columns)
            kernels.multiply(panels, count, columns, v, &z, &room)
            #expect(isClose(z, wanted), name)
            var found = [Double](repeating: .nan, count: width * width)
            kernels.inner(k, w, rows, &found)
            #expect(isClose(found, inner), name)
            var sum = w
            kernels.combine(k, h, rows, 0.5, &sum)
            #expect(isClose(sum, combined), name)
        }
    }
}
