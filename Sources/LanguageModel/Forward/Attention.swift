internal import CKernels

/// Where the heads of queries, keys and values lie in a row of projections, and how they attend.
struct AttentionHeads: Sendable {
    var count: Int
    /// Heads of keys and values; `count` is a multiple of it.
    var keyCount: Int
    var size: Int
    /// Floats from the start of a row to the first head of each, and from head to head.
    var queryOffset: Int
    var queryStride: Int
    var keyOffset: Int
    var valueOffset: Int
    var keyStride: Int
    /// Scores are products times this.
    var scale: Float

    /// Columns of queries, keys and values together.
    var columns: Int { (count + 2 * keyCount) * size }

    /// Queries, keys and values one behind the other: (count + 2 keyCount) * size columns.
    init(count: Int, keyCount: Int, size: Int, scale: Float? = nil) {
        self.count = count
        self.keyCount = keyCount
        self.size = size
        queryOffset = 0
        queryStride = size
        keyOffset = count * size
        valueOffset = (count + keyCount) * size
        keyStride = size
        self.scale = scale ?? 1 / Float(size).squareRoot()
    }

    /// Query, key and value of each head side by side: count * 3 * size columns.
    init(interleaved count: Int, size: Int) {
        self.init(count: count, keyCount: count, size: size)
        (keyOffset, valueOffset) = (size, 2 * size)
        (queryStride, keyStride) = (3 * size, 3 * size)
    }
}

extension ForwardPass {
    /// Queries that are scored together: few tiles of the product kernel, so that few keys past the last they see are scored.
    static let queryRows = 28

    /// Causal attention within each sequence, for the queries of rows `rows`; tokens that a cache holds come before the batch's.
    ///
    /// Keys and values of a head are packed once for all queries and all heads that share them. One query that follows a cache
    /// reads them where they are.
    ///
    /// - Parameters:
    ///   - window: positions a token sees, itself included; nil: all before it.
    ///   - out: (rows, count * size)
    /// - Complexity: O(rows * keys seen * heads * size); memory for the keys and values of one head, and for 28 rows of scores.
    func attend(_ heads: AttentionHeads, window: Int?, rows: Range<Int>, into out: Matrix) {
        let group = heads.count / heads.keyCount
        for (index, sequence) in batch.sequences.enumerated() where sequence.overlaps(rows) {
            let queries = sequence.clamped(to: rows)
            let known = batch.caches.isEmpty ? rowsOfBatch(heads, sequence) : keep(heads, sequence, queries, batch.caches[index])
            let first = max(known.first, window.map { queries.lowerBound - $0 + 1 } ?? known.first)
            let keys = first..<queries.upperBound
            if queries.count == 1, !batch.caches.isEmpty {
                for keyHead in 0..<heads.keyCount {
                    attend(heads, keyHead, queries.lowerBound, keys, known, out.row(queries.lowerBound - rows.lowerBound))
                }
                continue
            }
            for keyHead in 0..<heads.keyCount {
                let packed = pack(heads, keyHead, keys, known)
                for head in keyHead * group..<(keyHead + 1) * group {
                    for tile in Parts.of(queries, atMost: ForwardPass.queryRows) {
                        let places = tile.lowerBound - rows.lowerBound..<tile.upperBound - rows.lowerBound
                        attend(heads, head, tile, keys, packed, window, out[rows: places])
                    }
                }
            }
        }
    }

    /// Where the keys and values of a sequence lie.
    private struct KeyRows {
        /// The batch's row that its first token has, or would have if all of them were in the batch.
        var first: Int
        /// Head 0 of that token.
        var keys: UnsafeMutablePointer<Float>
        var values: UnsafeMutablePointer<Float>
        /// Floats from token to token, and from head to head.
        var stride: Int
        var headStride: Int

        func offset(_ row: Int, _ head: Int) -> Int { (row - first) * stride + head * headStride }
    }

    private func rowsOfBatch(_ heads: AttentionHeads, _ sequence: Range<Int>) -> KeyRows {
        let row = projected.row(sequence.lowerBound)
        return KeyRows(
            first: sequence.lowerBound, keys: row + heads.keyOffset, values: row + heads.valueOffset, stride: projected.stride,
            headStride: heads.keyStride)
    }

    /// Copies keys and values of rows `rows` behind those that the cache has of this layer.
    private func keep(_ heads: AttentionHeads, _ sequence: Range<Int>, _ rows: Range<Int>, _ cache: KeyValueCache) -> KeyRows {
        let kept = cache.layer(layer, heads)
        let first = sequence.lowerBound - cache.count
        for row in rows {
            for head in 0..<heads.keyCount {
                let from = projected.row(row) + head * heads.keyStride
                (kept.keys.row(row - first) + head * heads.size).update(from: from + heads.keyOffset, count: heads.size)
                (kept.values.row(row - first) + head * heads.size).update(from: from + heads.valueOffset, count: heads.size)
            }
        }
        return KeyRows(
            first: first, keys: kept.keys.data, values: kept.values.data, stride: kept.keys.stride, headStride: heads.size)
    }

    /// What one query's heads that share `keyHead` see: their rows are the rows of a product.
    private func attend(
        _ heads: AttentionHeads, _ keyHead: Int, _ query: Int, _ keys: Range<Int>, _ known: KeyRows,
        _ out: UnsafeMutablePointer<Float>
    ) {
        let product = product.kernels
        let group = heads.count / heads.keyCount
        let scores = scores.matrix(group, keys.count)
        let queries = projected.row(query) + heads.queryOffset + keyHead * group * heads.queryStride
        let at = known.offset(keys.lowerBound, keyHead)
        product.multiply_rows(
            queries, heads.queryStride, group, known.keys + at, known.stride * 4, nil, keys.count, heads.size, scores.data,
            scores.stride, 0)
        for row in 0..<group { kernels.softmax(scores.row(row), 0, keys.count, keys.count, heads.scale) }
        let mixed = out + keyHead * group * heads.size
        mixed.update(repeating: 0, count: group * heads.size)
        product.accumulate_columns(
            scores.data, scores.stride, group, known.values + at, known.stride * 4, nil, keys.count, heads.size, mixed, heads.size)
    }

    /// The keys and the values of one head as panels: (size, keys) and (keys, size).
    private func pack(
        _ heads: AttentionHeads, _ head: Int, _ keys: Range<Int>, _ known: KeyRows
    ) -> (keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>) {
        let kernels = product.kernels
        let at = known.offset(keys.lowerBound, head)
        let rowBytes = known.stride * 4
        let packedKeys = packedKeys.panel(columns: keys.count, rows: heads.size, strip: kernels.strip)
        kernels.pack_rows(known.keys + at, rowBytes, nil, keys.count, heads.size, 0, packedKeys)
        let packedValues = packedValues.panel(columns: heads.size, rows: keys.count, strip: kernels.strip)
        kernels.pack_columns(known.values + at, rowBytes, nil, keys.count, heads.size, 0, keys.count, packedValues)
        return (packedKeys, packedValues)
    }

    /// out (queries, size) of one head = softmax(Q K^T) V, over the keys that `queries` see.
    private func attend(
        _ heads: AttentionHeads, _ head: Int, _ queries: Range<Int>, _ keys: Range<Int>,
        _ packed: (keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>), _ window: Int?, _ out: Matrix
    ) {
        let product = product.kernels
        // Whole strips before the first key that any of them sees are left out.
        let hidden = window.map { max(0, queries.lowerBound - $0 + 1 - keys.lowerBound) } ?? 0
        let skipped = hidden / product.strip * product.strip
        let first = keys.lowerBound + skipped
        let scores = scores.matrix(queries.count, queries.upperBound - first)
        product.multiply(
            projected.row(queries.lowerBound) + heads.queryOffset + head * heads.queryStride, projected.stride, queries.count,
            packed.keys + skipped * heads.size, product.strip * heads.size, scores.columns, heads.size, scores.data,
            scores.stride, 0)
        for (index, query) in queries.enumerated() {
            let start = window.map { max(first, query - $0 + 1) - first } ?? 0
            kernels.softmax(scores.row(index), start, query + 1 - first, scores.columns, heads.scale)
        }
        product.multiply(
            scores.data, scores.stride, queries.count, packed.values + skipped * product.strip, product.strip * keys.count,
            heads.size, scores.columns, out.data + head * heads.size, out.stride, 0)
    }
}
