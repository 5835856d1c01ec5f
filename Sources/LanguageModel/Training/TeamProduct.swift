internal import CKernels

/// Dense products of matrices in memory, shared out over a team: what forward and backward passes of training are made of.
///
/// Each element is summed in the same order whatever the number of threads is.
struct TeamProduct {
    let team: ThreadTeam
    let kernels = ck_active_product_kernels().pointee
    /// One for each thread.
    private let panels: [FloatBuffer]

    init(_ team: ThreadTeam) {
        self.team = team
        panels = (0..<team.count).map { _ in FloatBuffer() }
    }

    /// out (T, N) = x (T, K) weight (N, K)^T, or out += it.
    func multiply(_ x: Matrix, _ weight: Matrix, into out: Matrix, adding: Bool = false) {
        precondition(x.columns == weight.columns && out.columns == weight.rows && x.rows == out.rows)
        multiply(x, into: out, adding) { columns, inner, panel in
            kernels.pack_rows(
                weight.row(columns.lowerBound) + inner.lowerBound, weight.stride * 4, nil, columns.count, inner.count, 0, panel)
        }
    }

    /// out (T, N) = x (T, K) weight (K, N), or out += it: the gradient of what `multiply` took, from that of what it made.
    func multiply(_ x: Matrix, transposed weight: Matrix, into out: Matrix, adding: Bool = false) {
        precondition(x.columns == weight.rows && out.columns == weight.columns && x.rows == out.rows)
        multiply(x, into: out, adding) { columns, inner, panel in
            kernels.pack_columns(
                weight.row(inner.lowerBound) + columns.lowerBound, weight.stride * 4, nil, inner.count, columns.count, 0, inner.count, panel)
        }
    }

    /// Calls `pack` for a panel of so many columns of the product, over a part of the inner dimension, and multiplies with it.
    private func multiply(
        _ x: Matrix, into out: Matrix, _ adding: Bool,
        pack: (_ columns: Range<Int>, _ inner: Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) {
        forEachPart(out.rows, out.columns) { rows, columns, panel in
            for tile in Parts.of(columns, atMost: DenseProduct.panelRows) {
                for inner in Parts.of(0..<x.columns, atMost: DenseProduct.panelColumns) {
                    let packed = panel.panel(columns: tile.count, rows: inner.count, strip: kernels.strip)
                    pack(tile, inner, packed)
                    kernels.multiply(
                        x.row(rows.lowerBound) + inner.lowerBound, x.stride, rows.count, packed, kernels.strip * inner.count,
                        tile.count, inner.count, out.row(rows.lowerBound) + tile.lowerBound, out.stride,
                        adding || inner.lowerBound > 0 ? 1 : 0)
                }
            }
        }
    }

    /// out (N, K) += a (T, N)^T b (T, K): the gradient of a weight, from that of its product and what it was multiplied with.
    func addOuter(_ a: Matrix, _ b: Matrix, to out: Matrix) {
        precondition(a.rows == b.rows && out.rows == a.columns && out.columns == b.columns)
        forEachPart(out.rows, out.columns) { rows, columns, panel in
            for tile in Parts.of(columns, atMost: DenseProduct.panelRows) {
                for inner in Parts.of(0..<a.rows, atMost: DenseProduct.panelColumns) {
                    let packed = panel.panel(columns: tile.count, rows: inner.count, strip: kernels.strip)
                    kernels.pack_columns(
                        b.row(inner.lowerBound) + tile.lowerBound, b.stride * 4, nil, inner.count, tile.count, 0, inner.count, packed)
                    kernels.multiply_transposed(
                        a.row(inner.lowerBound) + rows.lowerBound, a.stride, rows.count, packed, kernels.strip * inner.count,
                        tile.count, inner.count, out.row(rows.lowerBound) + tile.lowerBound, out.stride, 1)
                }
            }
        }
    }

    /// Cuts (rows, columns) into a part for each thread: by columns, which each thread then packs for itself alone, as long as they
    /// come out even; else by rows.
    private func forEachPart(_ rows: Int, _ columns: Int, _ body: (Range<Int>, Range<Int>, FloatBuffer) -> Void) {
        guard rows > 0, columns > 0 else { return }
        let strips = (columns + kernels.strip - 1) / kernels.strip
        // What packing a strip costs, as so many rows of products; and what the slowest thread has to do.
        let packing = 64
        let counts = (1...team.count).filter { team.count % $0 == 0 && $0 <= strips }
        let columnParts = counts.min { cost($0) < cost($1) } ?? 1
        func cost(_ columnParts: Int) -> Int {
            let rowParts = team.count / columnParts
            return (strips + columnParts - 1) / columnParts * ((rows + rowParts - 1) / rowParts + packing)
        }
        let rowParts = team.count / columnParts
        team.run { thread in
            let (row, column) = (thread / columnParts, thread % columnParts)
            let from = strips * column / columnParts * kernels.strip
            let to = min(columns, strips * (column + 1) / columnParts * kernels.strip)
            body(rows * row / rowParts..<rows * (row + 1) / rowParts, from..<to, panels[thread])
        }
    }
}
