internal import CKernels
public import CheckpointStore
internal import TensorFormats

/// The leading singular values of how a tensor moved, as a matrix: its last dimension is the columns, all others are the rows.
public struct Spectrum: Sendable {
    /// The largest first. Fewer than were asked for where d has a lower rank, or the rest is below a ten millionth of the largest.
    public var values: [Double]
    /// The sum of all squared singular values: the square of the Frobenius norm of d.
    public var squares: Double

    /// ||d||_F^2 / the largest value squared: at most the rank, and hardly moved by small values.
    public var stableRank: Double { values.first.map { squares / ($0 * $0) } ?? 0 }

    /// The share of the squares that the first `count` values have.
    public func energy(_ count: Int) -> Double {
        squares > 0 ? min(1, values.prefix(count).reduce(0) { $0 + $1 * $1 } / squares) : 0
    }
}

extension CheckpointDelta {
    /// Finds the leading singular values of d for each tensor of two dimensions or more that was compared, is of floating-point numbers and moved.
    /// Words that are not finite count as not moved.
    ///
    /// - Parameters:
    ///   - first, second: what was compared.
    ///   - count: how many values; `spectrum` of each tensor's delta is set.
    ///   - progress: called with bytes of tensors done and all, of one side.
    /// - Throws: `StoreError`; `.interrupted`.
    /// - Complexity: some 10 to 20 products of each tensor with 8 vectors, on all processors: on the order of 10 ns a word. Memory: 350 MiB at
    ///   most. Tensors of more than 64 million words are read again for each product; those whose rows have more than 400,000 are left out.
    public mutating func addSpectra(
        _ first: CheckpointContents, _ second: CheckpointContents, count: Int, monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        let pairs = TensorPairs(first.tensors, second.tensors).different
        let total = pairs.reduce(0) { $0 + $1.first.byteCount }
        var done: UInt64 = 0
        do {
            let readers = try Lanes {
                let recent = RecentBlocks()
                return MatrixLane(try first.makeReader(remembering: recent), try second.makeReader(remembering: recent))
            }
            // Pairs are compared in their order.
            for (index, pair) in pairs.enumerated() {
                if compared[index].changed > 0 {
                    let matrix = try DeltaMatrix(pair.first, pair.second, maxAbs: compared[index].maxAbs, readers, monitor)
                    if let values = try matrix?.leadingSingularValues(count) {
                        compared[index].spectrum = Spectrum(values: values, squares: compared[index].sumDelta)
                    }
                }
                done += pair.first.byteCount
                progress(ByteProgress(doneBytes: done, totalBytes: total))
            }
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.failed, "\(error)")
        }
    }
}
