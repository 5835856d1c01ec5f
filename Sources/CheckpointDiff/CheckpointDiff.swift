public import CheckpointStore
internal import CKernels
internal import TensorFormats

/// Compares checkpoints tensor by tensor.
public enum CheckpointDiff {
    /// How the tensors of `second` differ from those of `first`.
    ///
    /// Tensors are paired by part and name (by file too, where a name stands in several files). Pairs with the same
    /// identity are skipped without reading a byte. The rest is read block by block on all processors, in place where
    /// it is mapped. Sums are right to 1e-6 and are added in the order of the blocks, so that results do not depend on the
    /// number of threads.
    ///
    /// - Parameter progress: called with bytes compared and bytes to compare, of one side.
    /// - Throws: `StoreError`; `.interrupted` when `monitor` says so.
    /// - Complexity: O(bytes of the tensors that differ); memory: a few blocks a processor.
    public static func compare(
        _ first: CheckpointContents, _ second: CheckpointContents, monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> CheckpointDelta {
        let pairs = TensorPairs(first.tensors, second.tensors)
        do {
            let compared = try compare(pairs.different, first, second, monitor, progress)
            return CheckpointDelta(compared: compared, identical: pairs.identical, mismatched: pairs.mismatched)
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.failed, "\(error)")
        }
    }

    /// One run of bytes of one pair.
    private struct Piece {
        var pair: Int
        var range: Range<UInt64>
    }

    /// Pieces between two looks at Ctrl-C.
    private static let batch = 2048

    private static func compare(
        _ pairs: [(first: TensorEntry, second: TensorEntry)], _ first: CheckpointContents, _ second: CheckpointContents,
        _ monitor: Monitor, _ progress: (ByteProgress) -> Void
    ) throws -> [WeightDelta] {
        let pieces = pairs.enumerated().flatMap { index, pair in
            pair.first.blockRanges.map { Piece(pair: index, range: $0) }
        }
        let total = pieces.reduce(0) { $0 + UInt64($1.range.count) }
        var deltas = pairs.map { WeightDelta($0.first) }
        let readers = try Lanes { (try first.makeReader(), try second.makeReader()) }
        var done: UInt64 = 0
        for start in stride(from: 0, to: pieces.count, by: batch) {
            if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
            let part = Array(pieces[start..<min(start + batch, pieces.count)])
            let sums = try compare(part, pairs, readers)
            for (piece, sum) in zip(part, sums) {
                deltas[piece.pair].add(sum)
                done += UInt64(piece.range.count)
            }
            progress(ByteProgress(doneBytes: done, totalBytes: total))
        }
        return deltas
    }

    /// The sums of each piece, in order, on one thread a pair of readers.
    private static func compare(
        _ pieces: [Piece], _ pairs: [(first: TensorEntry, second: TensorEntry)], _ readers: Lanes<(TensorReader, TensorReader)>
    ) throws -> [ck_comparison] {
        var sums = [ck_comparison](repeating: ck_comparison(), count: pieces.count)
        try sums.withUnsafeMutableBufferPointer { sums in
            // Each is written by one lane.
            nonisolated(unsafe) let sums = sums
            try readers.forEach(pieces.count) { readers, index in
                let pair = pairs[pieces[index].pair]
                var comparison = TensorComparison(pair.first.dtype)
                try readers.0.withBytes(of: pair.first, pieces[index].range) { left in
                    try readers.1.withBytes(of: pair.second, pieces[index].range) { right in comparison.add(left, right) }
                }
                sums[index] = comparison.sums
            }
        }
        return sums
    }
}

extension WeightDelta {
    init(_ tensor: TensorEntry) {
        let numbers: UInt64 = tensor.dtype == .c64 || tensor.dtype == .c128 ? 2 : 1
        self.init(
            name: tensor.name, file: tensor.file, part: tensor.part, dtype: tensor.dtype, shape: tensor.shape,
            words: (DType.elementCount(shape: tensor.shape) ?? 0) * numbers, changed: 0, signFlips: 0, nonfinite: 0,
            sumFirst: 0, sumSecond: 0, sumProduct: 0, sumDelta: 0, maxAbs: 0)
    }

    mutating func add(_ sums: ck_comparison) {
        changed += sums.changed
        signFlips += sums.sign_flips
        nonfinite += sums.nonfinite
        sumFirst += sums.sum_aa
        sumSecond += sums.sum_bb
        sumProduct += sums.sum_ab
        sumDelta += sums.sum_dd
        maxAbs = max(maxAbs, sums.max_abs)
    }
}
