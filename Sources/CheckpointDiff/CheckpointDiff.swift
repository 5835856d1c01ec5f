internal import CKernels
public import CheckpointStore
internal import TensorFormats

/// Compares checkpoints tensor by tensor.
public enum CheckpointDiff {
    /// How the tensors of `second` differ from those of `first`.
    ///
    /// Tensors are paired by part and name (by file too, where a name stands in several files). Pairs with the same
    /// identity are skipped without reading a byte. The rest is read block by block on all processors, in place where
    /// it is mapped; of blocks that are known to be equal one is read, and of two of one history, of which one is packed against the other, that
    /// other is decoded once. Sums are right to 1e-6
    /// and are added in the order of the blocks, so that results do not depend on the number of threads.
    ///
    /// - Parameters:
    ///   - detail: `.full` takes about twice as long.
    ///   - progress: called with bytes compared and bytes to compare, of one side.
    /// - Throws: `StoreError`; `.interrupted` when `monitor` says so.
    /// - Complexity: O(bytes of the tensors that differ); memory: a few blocks a processor, with `.full` at most 320 MiB more for norms by
    ///   row and column; tensors with strides are gathered whole, both versions of one a processor.
    public static func compare(
        _ first: CheckpointContents, _ second: CheckpointContents, detail: DiffDetail = .basic, monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> CheckpointDelta {
        let pairs = TensorPairs(first.tensors, second.tensors)
        do {
            let compared = try compare(pairs.different, first, second, detail, monitor, progress)
            return CheckpointDelta(compared: compared, identical: pairs.identical, mismatched: pairs.mismatched)
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.failed, "\(error)")
        }
    }

    private static func compare(
        _ pairs: [(first: TensorEntry, second: TensorEntry)], _ first: CheckpointContents, _ second: CheckpointContents,
        _ detail: DiffDetail, _ monitor: Monitor, _ progress: (ByteProgress) -> Void
    ) throws -> [WeightDelta] {
        var deltas = DeltaSums(pairs.map(\.first), detail)
        let runs = BlockRun.runs(of: pairs.map(\.first))
        let total = runs.reduce(0) { $0 + $1.byteCount }
        let blocks = (try first.blockIdentities(of: pairs.map(\.first)), try second.blockIdentities(of: pairs.map(\.second)))
        let readers = try Lanes {
            let recent = RecentBlocks()
            return (try first.makeReader(remembering: recent), try second.makeReader(remembering: recent))
        }
        var done: UInt64 = 0
        for part in BlockRun.batches(runs, roomFor: { deltas.matrices[$0.tensor].map { $0.columns * $0.wordsOfElement } ?? 0 }) {
            if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
            var results = [TensorComparison?](repeating: nil, count: part.count)
            try results.withUnsafeMutableBufferPointer { results in
                // Each is written by one lane.
                nonisolated(unsafe) let results = results
                let matrices = deltas.matrices
                try readers.forEach(part.count) { readers, index in
                    let run = part[part.startIndex + index]
                    let pair = pairs[run.tensor]
                    var comparison = TensorComparison(
                        pair.first.dtype, detail, matrix: matrices[run.tensor], range: run.bytes)
                    let known = (blocks.0[run.tensor], blocks.1[run.tensor])
                    for (index, range) in zip(run.blocks.indices, run.blocks) {
                        try readers.0.withBytes(of: pair.first, range) { left in
                            if let first = known.0?[index], first == known.1?[index] {
                                comparison.add(left, left)
                            } else {
                                try readers.1.withBytes(of: pair.second, range) { right in comparison.add(left, right) }
                            }
                        }
                    }
                    results[index] = comparison
                }
            }
            for (run, result) in zip(part, results) {
                deltas.add(result!, of: run)
                done += run.byteCount
            }
            progress(ByteProgress(doneBytes: done, totalBytes: total))
        }
        return deltas.finished
    }
}

/// Blocks of one tensor that follow one another: what one lane compares at a time.
struct BlockRun {
    var tensor: Int
    var blocks: ArraySlice<Range<UInt64>>

    var bytes: Range<UInt64> { blocks.first!.lowerBound..<blocks.last!.upperBound }
    var byteCount: UInt64 { UInt64(bytes.count) }

    private static let blocksOfRun = 16
    /// Runs between two looks at Ctrl-C.
    private static let runsOfBatch = 128
    /// Numbers that the runs of a batch may take for their columns: 64 MiB.
    private static let columnsOfBatch = 8 << 20

    static func runs(of tensors: [TensorEntry]) -> [BlockRun] {
        tensors.enumerated().flatMap { index, tensor in
            // One with strides is gathered whole by whoever reads it.
            let blocks = tensor.strides == nil ? tensor.blockRanges : tensor.byteCount > 0 ? [0..<tensor.byteCount] : []
            return stride(from: 0, to: blocks.count, by: blocksOfRun).map {
                BlockRun(tensor: index, blocks: blocks[$0..<min($0 + blocksOfRun, blocks.count)])
            }
        }
    }

    /// - Parameter room: columns that a run has sums for.
    static func batches(_ runs: [BlockRun], roomFor room: (BlockRun) -> Int) -> [ArraySlice<BlockRun>] {
        var batches: [ArraySlice<BlockRun>] = []
        var (start, columns) = (0, 0)
        for (index, run) in runs.enumerated() {
            let here = room(run)
            if index > start, index - start == runsOfBatch || columns + here > columnsOfBatch {
                batches.append(runs[start..<index])
                (start, columns) = (index, 0)
            }
            columns += here
        }
        if start < runs.count { batches.append(runs[start...]) }
        return batches
    }
}

/// The sums of all tensors, run by run.
private struct DeltaSums {
    /// Of the tensors that have norms by row and column.
    let matrices: [TensorMatrix?]
    private var deltas: [WeightDelta]
    private var rows: [[Double]]
    private var columns: [[Double]]

    /// Numbers that norms may take: 128 MiB; and those of one tensor.
    private static let norms = 16 << 20
    private static let normsOfTensor = 4 << 20

    init(_ tensors: [TensorEntry], _ detail: DiffDetail) {
        deltas = tensors.map { WeightDelta($0, detail) }
        var left = DeltaSums.norms
        matrices = tensors.map { tensor in
            guard detail == .full, let matrix = TensorMatrix(tensor) else { return nil }
            let norms = max(matrix.rows, matrix.columns) <= DeltaSums.normsOfTensor ? matrix.rows + matrix.columns : Int.max
            guard norms <= left else { return nil }
            left -= norms
            return matrix
        }
        rows = matrices.map { [Double](repeating: 0, count: $0?.rows ?? 0) }
        columns = matrices.map { [Double](repeating: 0, count: $0?.columns ?? 0) }
    }

    mutating func add(_ comparison: TensorComparison, of run: BlockRun) {
        let index = run.tensor
        deltas[index].add(comparison.movement)
        guard let matrix = matrices[index] else { return }
        let dtype = deltas[index].dtype
        let first = Int(run.bytes.lowerBound * 8 / UInt64(dtype.bits)) / matrix.columns
        for (row, sum) in comparison.rows.enumerated() where sum != 0 { rows[index][first + row] += sum }
        for (word, sum) in comparison.columns.enumerated() where sum != 0 { columns[index][word / matrix.wordsOfElement] += sum }
    }

    var finished: [WeightDelta] {
        deltas.indices.map { index in
            var delta = deltas[index]
            if matrices[index] != nil {
                delta.movement?.rows = rows[index].map { $0.squareRoot() }
                delta.movement?.columns = columns[index].map { $0.squareRoot() }
            }
            return delta
        }
    }
}

extension WeightDelta {
    init(_ tensor: TensorEntry, _ detail: DiffDetail = .basic) {
        let words = (DType.elementCount(shape: tensor.shape) ?? 0) * UInt64(TensorComparison.wordsOfElement(tensor.dtype))
        self.init(
            name: tensor.name, file: tensor.file, part: tensor.part, dtype: tensor.dtype, shape: tensor.shape,
            words: words, changed: 0, signFlips: 0, nonfinite: 0,
            sumFirst: 0, sumSecond: 0, sumProduct: 0, sumDelta: 0, maxAbs: 0,
            movement: detail == .full ? Movement(ulps: 0, ulpCounts: [UInt64](repeating: 0, count: Int(ck_ulp_classes))) : nil)
    }

    mutating func add(_ other: ck_movement) {
        changed += other.sums.changed
        signFlips += other.sums.sign_flips
        nonfinite += other.sums.nonfinite
        sumFirst += other.sums.sum_aa
        sumSecond += other.sums.sum_bb
        sumProduct += other.sums.sum_ab
        sumDelta += other.sums.sum_dd
        maxAbs = max(maxAbs, other.sums.max_abs)
        if movement != nil {
            movement!.ulps += other.ulps
            for (index, count) in other.distanceCounts.enumerated() { movement!.ulpCounts[index] += count }
        }
    }
}
