internal import CKernels
internal import COpenBLAS

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
    /// Queries that are scored together: their scores against a few hundred keys stay in the cache.
    private static let queryRows = 64

    /// Causal attention within each sequence, for the queries of rows `rows`.
    ///
    /// - Parameters:
    ///   - window: positions a token sees, itself included; nil: all before it.
    ///   - out: (rows, count * size)
    /// - Complexity: O(rows * keys seen * heads * size); memory for 64 times the keys of a sequence.
    func attend(_ heads: AttentionHeads, window: Int?, rows: Range<Int>, into out: Matrix) {
        let group = heads.count / heads.keyCount
        for sequence in batch.sequences where sequence.overlaps(rows) {
            let part = sequence.clamped(to: rows)
            var start = part.lowerBound
            while start < part.upperBound {
                let queries = start..<min(start + ForwardPass.queryRows, part.upperBound)
                let firstKey = max(sequence.lowerBound, window.map { queries.lowerBound - $0 + 1 } ?? sequence.lowerBound)
                let keys = firstKey..<queries.upperBound
                let scores = scores.matrix(queries.count, keys.count)
                for head in 0..<heads.count {
                    let keyHead = head / group
                    score(heads, head, keyHead, queries, keys, into: scores)
                    for (index, query) in queries.enumerated() {
                        let first = window.map { max(firstKey, query - $0 + 1) - firstKey } ?? 0
                        kernels.softmax(
                            scores.row(index), first, query + 1 - firstKey, keys.count, heads.scale)
                    }
                    mix(heads, head, keyHead, scores, queries, keys, rows.lowerBound, into: out)
                }
                start = queries.upperBound
            }
        }
    }

    /// scores (queries, keys) = Q K^T of one head.
    private func score(
        _ heads: AttentionHeads, _ head: Int, _ keyHead: Int, _ queries: Range<Int>, _ keys: Range<Int>, into scores: Matrix
    ) {
        let stride = blasint(projected.stride)
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, blasint(queries.count), blasint(keys.count), blasint(heads.size), 1,
            projected.row(queries.lowerBound) + heads.queryOffset + head * heads.queryStride, stride,
            projected.row(keys.lowerBound) + heads.keyOffset + keyHead * heads.keyStride, stride, 0, scores.data,
            blasint(scores.stride))
    }

    /// out (queries, size) = P V of one head.
    private func mix(
        _ heads: AttentionHeads, _ head: Int, _ keyHead: Int, _ weights: Matrix, _ queries: Range<Int>, _ keys: Range<Int>,
        _ firstRow: Int, into out: Matrix
    ) {
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(queries.count), blasint(heads.size), blasint(keys.count), 1,
            weights.data, blasint(weights.stride),
            projected.row(keys.lowerBound) + heads.valueOffset + keyHead * heads.keyStride, blasint(projected.stride), 0,
            out.row(queries.lowerBound - firstRow) + head * heads.size, blasint(out.stride))
    }
}
