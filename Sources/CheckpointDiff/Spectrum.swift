internal import CKernels
public import CheckpointStore
internal import TensorFormats

/// The leading singular values of how a tensor moved, as a matrix: its last dimension is the columns, all others are the rows.
public struct Spectrum: Sendable {
    /// The largest first, each right to 1 %; of more than eight that are exactly equal perhaps only eight. Fewer than were asked for where d has a lower rank, or the rest is below some millionth of the largest.
    public var values: [Double]
    /// Whether that accuracy was reached; else they are too low, by how much is not known.
    public var isSettled: Bool
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
    ///   - first: what was compared.
    ///   - second: likewise.
    ///   - count: how many values; `spectrum` of each tensor's delta is set.
    ///   - progress: called with bytes of tensors done and all, of one side.
    /// - Throws: `StoreError`; `.interrupted`.
    /// - Complexity: some 10 to 20 products of each tensor with 8 vectors, on all processors: on the order of 10 ns a word. Memory: 400 MiB, and
    ///   200 bytes a column and processor. Tensors of more than 64 million words are read again for each product; those of them whose rows have more
    ///   than 180,000 are left out.
    public mutating func addSpectra(
        _ first: CheckpointContents, _ second: CheckpointContents, count: Int, monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        // What was compared may have been filtered or put into another order since.
        struct Key: Hashable {
            var part: PartKind
            var file: ExactName
            var name: ExactName
        }
        var places: [Key: Int] = [:]
        for (index, delta) in compared.enumerated() {
            places[Key(part: delta.part, file: ExactName(delta.file), name: ExactName(delta.name))] = index
        }
        let pairs = TensorPairs(first.tensors, second.tensors).different
        let total = pairs.reduce(0) { $0 + $1.first.byteCount }
        var done: UInt64 = 0
        do {
            let readers = try Lanes {
                let recent = RecentBlocks()
                return MatrixLane(try first.makeReader(remembering: recent), try second.makeReader(remembering: recent))
            }
            let room = KeptRoom()
            for pair in pairs {
                let key = Key(part: pair.first.part, file: ExactName(pair.first.file), name: ExactName(pair.first.name))
                if let index = places[key], compared[index].changed > 0 {
                    let matrix = try DeltaMatrix(pair.first, pair.second, maxAbs: compared[index].maxAbs, room: room, readers, monitor)
                    if let found = try matrix?.leadingSingularValues(count) {
                        compared[index].spectrum = Spectrum(values: found.values, isSettled: found.isSettled, squares: compared[index].sumDelta)
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
