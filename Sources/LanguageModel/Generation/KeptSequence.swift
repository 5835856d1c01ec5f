internal import CKernels

/// The keys and values of a sequence's tokens so far, layer by layer, so that each further token is run alone.
final class KeptSequence {
    /// Tokens whose keys and values are there.
    private(set) var count = 0
    /// (capacity, 2 * key heads * size) of each layer: the keys of all heads, then the values.
    private let layers: [FloatBuffer]
    private let capacity: Int

    /// - Parameter capacity: tokens there is room for.
    init(layerCount: Int, capacity: Int) {
        layers = (0..<layerCount).map { _ in FloatBuffer() }
        self.capacity = capacity
    }

    /// Forgets what is there, for another sequence.
    func clear() { count = 0 }

    func rows(_ layer: Int, _ heads: AttentionHeads) -> Matrix { layers[layer].matrix(capacity, 2 * heads.keyCount * heads.size) }

    /// Takes over the keys and values of `rows` behind those that are there.
    func keep(_ rows: Range<Int>, of projected: Matrix, _ layer: Int, _ heads: AttentionHeads) {
        precondition(count + rows.count <= capacity)
        let kept = self.rows(layer, heads)
        let half = heads.keyCount * heads.size
        for (index, row) in rows.enumerated() {
            let (from, to) = (projected.row(row), kept.row(count + index))
            for head in 0..<heads.keyCount {
                let place = head * heads.size
                (to + place).update(from: from + heads.keyOffset + head * heads.keyStride, count: heads.size)
                (to + half + place).update(from: from + heads.valueOffset + head * heads.keyStride, count: heads.size)
            }
        }
    }

    /// Counts tokens that all layers have taken over.
    func advance(_ tokens: Int) { count += tokens }
}

extension ForwardPass {
    /// `attend` for sequences that go on: queries of rows `rows` see what is kept, and what came with them.
    ///
    /// - Complexity: O(rows * keys seen * heads * size).
    func attend(_ heads: AttentionHeads, _ window: Int?, _ rows: Range<Int>, _ kept: [KeptSequence], _ out: Matrix) {
        let group = heads.count / heads.keyCount
        for (sequence, past) in zip(batch.sequences, kept) where sequence.overlaps(rows) {
            let own = sequence.clamped(to: rows)
            // A chunk may end inside a sequence: the whole of it is projected by now.
            if own.lowerBound == sequence.lowerBound { past.keep(sequence, of: projected, layer, heads) }
            let keys = past.rows(layer, heads)
            let half = heads.keyCount * heads.size
            let scores = scores.matrix(1, past.count + sequence.count).data
            for row in own {
                let end = past.count + row - sequence.lowerBound + 1
                let first = window.map { max(0, end - $0) } ?? 0
                for head in 0..<heads.count {
                    let keyHead = keys.row(first) + head / group * heads.size
                    kernels.attend(
                        projected.row(row) + heads.queryOffset + head * heads.queryStride, keyHead, keyHead + half, keys.stride,
                        end - first, heads.size, heads.scale, scores, out.row(row - rows.lowerBound) + head * heads.size)
                }
            }
        }
    }
}
