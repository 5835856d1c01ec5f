internal import CKernels

/// One thread's causal attention of training, forward and backward: one key head of one sequence at a time, with all query
/// heads that share it.
///
/// Nothing but the output is kept for the backward pass: scores are computed again.
final class AttentionWorker {
    private let product = ck_active_product_kernels().pointee
    private let kernels = ck_active_forward_kernels().pointee
    private let backwardKernels = ck_active_backward_kernels().pointee
    private let packedKeys = FloatBuffer()
    private let packedValues = FloatBuffer()
    private let otherKeys = FloatBuffer()
    private let packedQueries = FloatBuffer()
    private let scores = FloatBuffer()
    private let scoreGradients = FloatBuffer()

    /// Queries that are scored together: few, so that few keys past the last they see are scored.
    private static let queryRows = 28

    /// A tile of queries, and the keys it is scored against: those from the first strip that any of them sees.
    private struct Tile {
        var queries: Range<Int>
        /// Keys of the sequence left out, a multiple of the strip.
        var skipped: Int
        var firstKey: Int
        var keyCount: Int

        init(_ queries: Range<Int>, _ sequence: Range<Int>, _ window: Int?, strip: Int) {
            self.queries = queries
            let hidden = window.map { max(0, queries.lowerBound - $0 + 1 - sequence.lowerBound) } ?? 0
            skipped = hidden / strip * strip
            firstKey = sequence.lowerBound + skipped
            keyCount = queries.upperBound - firstKey
        }

        /// The keys that a query sees, counted from the first.
        func seen(_ query: Int, _ window: Int?) -> Range<Int> {
            (window.map { max(firstKey, query - $0 + 1) } ?? firstKey) - firstKey..<query + 1 - firstKey
        }
    }

    func attend(
        _ heads: AttentionHeads, _ keyHead: Int, _ sequence: Range<Int>, _ window: Int?, _ projected: Matrix, _ out: Matrix
    ) {
        let strip = product.strip
        let keys = packRows(projected, sequence, heads.keyOffset + keyHead * heads.keyStride, heads.size, packedKeys)
        let values = packColumns(projected, sequence, heads.valueOffset + keyHead * heads.keyStride, heads.size, packedValues)
        let group = heads.count / heads.keyCount
        for head in keyHead * group..<(keyHead + 1) * group {
            for queries in Parts.of(sequence, atMost: AttentionWorker.queryRows) {
                let tile = Tile(queries, sequence, window, strip: strip)
                let probabilities = probabilities(heads, head, tile, window, projected, keys)
                product.multiply(
                    probabilities.data, probabilities.stride, queries.count, values + tile.skipped * strip, strip * sequence.count,
                    heads.size, tile.keyCount, out.row(queries.lowerBound) + head * heads.size, out.stride, 0)
            }
        }
    }

    /// With P = softmax(scale Q K^T) and O = P V: dV = P^T dO, dP = dO V^T, dS = scale P (dP - sum(P dP)), dQ = dS K, dK = dS^T Q.
    func attendBackward(
        _ heads: AttentionHeads, _ keyHead: Int, _ sequence: Range<Int>, _ window: Int?, _ projected: Matrix, _ dOut: Matrix,
        _ dProjected: Matrix
    ) {
        let (strip, size) = (product.strip, heads.size)
        let (keyColumn, valueColumn) = (heads.keyOffset + keyHead * heads.keyStride, heads.valueOffset + keyHead * heads.keyStride)
        let keys = packRows(projected, sequence, keyColumn, size, packedKeys)
        let keyRows = packColumns(projected, sequence, keyColumn, size, otherKeys)
        let values = packRows(projected, sequence, valueColumn, size, packedValues)
        for row in sequence {
            (dProjected.row(row) + keyColumn).update(repeating: 0, count: size)
            (dProjected.row(row) + valueColumn).update(repeating: 0, count: size)
        }
        let group = heads.count / heads.keyCount
        for head in keyHead * group..<(keyHead + 1) * group {
            let queryColumn = heads.queryOffset + head * heads.queryStride
            for queries in Parts.of(sequence, atMost: AttentionWorker.queryRows) {
                let tile = Tile(queries, sequence, window, strip: strip)
                let p = probabilities(heads, head, tile, window, projected, keys)  // (queries, keys)
                let dOutPacked = packColumns(dOut, queries, head * size, size, packedQueries)
                product.multiply_transposed(
                    p.data, p.stride, tile.keyCount, dOutPacked, strip * queries.count, size, queries.count,
                    dProjected.row(tile.firstKey) + valueColumn, dProjected.stride, 1)
                let dp = scoreGradients.matrix(queries.count, tile.keyCount)
                product.multiply(
                    dOut.row(queries.lowerBound) + head * size, dOut.stride, queries.count, values + tile.skipped * size, strip * size,
                    tile.keyCount, size, dp.data, dp.stride, 0)
                for (index, query) in queries.enumerated() {
                    let seen = tile.seen(query, window)
                    backwardKernels.softmax(p.row(index), dp.row(index), seen.lowerBound, seen.upperBound, dp.columns, heads.scale)
                }
                product.multiply(
                    dp.data, dp.stride, queries.count, keyRows + tile.skipped * strip, strip * sequence.count, size, tile.keyCount,
                    dProjected.row(queries.lowerBound) + queryColumn, dProjected.stride, 0)
                let queriesPacked = packColumns(projected, queries, queryColumn, size, packedQueries)
                product.multiply_transposed(
                    dp.data, dp.stride, tile.keyCount, queriesPacked, strip * queries.count, size, queries.count,
                    dProjected.row(tile.firstKey) + keyColumn, dProjected.stride, 1)
            }
        }
    }

    /// (queries, keys) of one head.
    private func probabilities(
        _ heads: AttentionHeads, _ head: Int, _ tile: Tile, _ window: Int?, _ projected: Matrix, _ keys: UnsafeMutablePointer<Float>
    ) -> Matrix {
        let strip = product.strip
        let scores = scores.matrix(tile.queries.count, tile.keyCount)
        product.multiply(
            projected.row(tile.queries.lowerBound) + heads.queryOffset + head * heads.queryStride, projected.stride, tile.queries.count,
            keys + tile.skipped * heads.size, strip * heads.size, tile.keyCount, heads.size, scores.data, scores.stride, 0)
        for (index, query) in tile.queries.enumerated() {
            let seen = tile.seen(query, window)
            kernels.softmax(scores.row(index), seen.lowerBound, seen.upperBound, scores.columns, heads.scale)
        }
        return scores
    }

    /// `size` columns of `rows` as a panel of (size, rows): their products with other rows are scores.
    private func packRows(_ x: Matrix, _ rows: Range<Int>, _ column: Int, _ size: Int, _ buffer: FloatBuffer) -> UnsafeMutablePointer<Float> {
        let panel = buffer.panel(columns: rows.count, rows: size, strip: product.strip)
        product.pack_rows(x.row(rows.lowerBound) + column, x.stride * 4, nil, rows.count, size, 0, panel)
        return panel
    }

    /// The same as a panel of (rows, size), to be summed over rows.
    private func packColumns(_ x: Matrix, _ rows: Range<Int>, _ column: Int, _ size: Int, _ buffer: FloatBuffer) -> UnsafeMutablePointer<Float> {
        let panel = buffer.panel(columns: size, rows: rows.count, strip: product.strip)
        product.pack_columns(x.row(rows.lowerBound) + column, x.stride * 4, nil, rows.count, size, 0, rows.count, panel)
        return panel
    }
}
