internal import CKernels
internal import CheckpointStore
internal import TensorFormats

/// Products of activations with weights that stay where they are.
///
/// A weight is packed a panel at a time, a few hundred rows by a few hundred columns, from the mapped bytes, 16-bit words
/// widened on the way, into one buffer that stays in the second-level cache while all rows of the activations go by. For
/// one thread.
final class DenseProduct {
    let kernels = ck_active_product_kernels().pointee
    private let forward = ck_active_forward_kernels().pointee
    private let reader: TensorReader
    private let isMapped: Bool
    private let panel = FloatBuffer()
    private let sums = FloatBuffer()

    /// Rows of activations from which on packing a weight costs less than it saves. Either way gives the same bits.
    private static let packedRows = 4
    /// A panel's rows of a weight, and its columns: 400 KB of floats.
    static let panelRows = 256
    static let panelColumns = 384
    static let panelFloats = panelRows * panelColumns

    init(_ contents: CheckpointContents) throws(LanguageModelError) {
        isMapped = contents.isMapped
        do throws(StoreError) {
            reader = try contents.makeReader()
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    /// out (T, N) = x (T, K) weight (N, K)^T, or out += it.
    func multiply(_ x: Matrix, _ weight: Weight, into out: Matrix, adding: Bool = false) throws(LanguageModelError) {
        precondition(out.columns == weight.rows)
        try multiply(x, weight, rows: 0..<weight.rows, into: out, adding: adding)
    }

    /// out (T, rows) = x (T, K) weight[rows] (rows, K)^T, or out += it.
    func multiply(
        _ x: Matrix, _ weight: Weight, rows range: Range<Int>, into out: Matrix, adding: Bool = false
    ) throws(LanguageModelError) {
        precondition(x.columns == weight.columns && out.columns == range.count && x.rows == out.rows)
        if x.rows < DenseProduct.packedRows {
            return try forEachPiece(weight, range) { piece, bytes in
                kernels.multiply_rows(
                    x.data, x.stride, x.rows, bytes, weight.rowBytes, widener(weight), piece.count, weight.columns,
                    out.data + (piece.lowerBound - range.lowerBound), out.stride, adding ? 1 : 0)
            }
        }
        for rows in Parts.of(range, atMost: DenseProduct.panelRows) {
            for inner in Parts.of(0..<weight.columns, atMost: DenseProduct.panelColumns) {
                let packed = panel.panel(columns: rows.count, rows: inner.count, strip: kernels.strip)
                try forEachPiece(weight, rows) { piece, bytes in
                    kernels.pack_rows(
                        bytes + inner.lowerBound * weight.elementBytes, weight.rowBytes, widener(weight), piece.count,
                        inner.count, piece.lowerBound - rows.lowerBound, packed)
                }
                kernels.multiply(
                    x.data + inner.lowerBound, x.stride, x.rows, packed, kernels.strip * inner.count, rows.count, inner.count,
                    out.data + (rows.lowerBound - range.lowerBound), out.stride, adding || inner.lowerBound > 0 ? 1 : 0)
            }
        }
    }

    /// out (T, N) = x (T, K) weight (K, N), or out += it: for weights kept the other way round.
    func multiply(_ x: Matrix, transposed weight: Weight, into out: Matrix, adding: Bool = false) throws(LanguageModelError) {
        precondition(x.columns == weight.rows && out.columns == weight.columns && x.rows == out.rows)
        if x.rows < DenseProduct.packedRows { return try multiplyFew(x, transposed: weight, into: out, adding: adding) }
        for columns in Parts.of(0..<weight.columns, atMost: DenseProduct.panelRows) {
            for inner in Parts.of(0..<weight.rows, atMost: DenseProduct.panelColumns) {
                let packed = panel.panel(columns: columns.count, rows: inner.count, strip: kernels.strip)
                try forEachPiece(weight, inner) { piece, bytes in
                    kernels.pack_columns(
                        bytes + columns.lowerBound * weight.elementBytes, weight.rowBytes, widener(weight), piece.count,
                        columns.count, piece.lowerBound - inner.lowerBound, inner.count, packed)
                }
                kernels.multiply(
                    x.data + inner.lowerBound, x.stride, x.rows, packed, kernels.strip * inner.count, columns.count,
                    inner.count, out.data + columns.lowerBound, out.stride, adding || inner.lowerBound > 0 ? 1 : 0)
            }
        }
    }

    private func multiplyFew(
        _ x: Matrix, transposed weight: Weight, into out: Matrix, adding: Bool
    ) throws(LanguageModelError) {
        let sums = sums.matrix(x.rows, out.columns)
        for inner in Parts.of(0..<weight.rows, atMost: DenseProduct.panelColumns) {
            sums.data.update(repeating: 0, count: sums.rows * sums.columns)
            try forEachPiece(weight, inner) { piece, bytes in
                kernels.accumulate_columns(
                    x.data + piece.lowerBound, x.stride, x.rows, bytes, weight.rowBytes, widener(weight), piece.count,
                    weight.columns, sums.data, sums.stride)
            }
            for row in 0..<out.rows {
                if adding || inner.lowerBound > 0 {
                    forward.add(out.row(row), sums.row(row), out.columns)
                } else {
                    out.row(row).update(from: sums.row(row), count: out.columns)
                }
            }
        }
    }

    /// Rows `ids` of a table, one below the other.
    func lookUp(_ ids: ArraySlice<Int32>, in table: Weight, into out: Matrix) throws(LanguageModelError) {
        precondition(ids.count <= out.rows && out.columns == table.columns)
        precondition(ids.allSatisfy { $0 >= 0 && Int($0) < table.rows })
        let rowBytes = table.rowBytes
        func copy(_ row: UnsafeRawBufferPointer, _ index: Int) {
            Widening.floats(row, table.entry.dtype, into: out.row(index - ids.startIndex))
        }
        do {
            if isMapped {
                try reader.withBytes(of: table.entry, 0..<table.entry.byteCount) { bytes in
                    for index in ids.indices {
                        copy(UnsafeRawBufferPointer(rebasing: bytes[Int(ids[index]) * rowBytes..<(Int(ids[index]) + 1) * rowBytes]), index)
                    }
                }
                return
            }
            // In the order of the table, so that a block of it is read once.
            for index in ids.indices.sorted(by: { ids[$0] < ids[$1] }) {
                let start = UInt64(ids[index]) * UInt64(rowBytes)
                try reader.withBytes(of: table.entry, start..<(start + UInt64(rowBytes))) { copy($0, index) }
            }
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    private func widener(_ weight: Weight) -> ck_widen_fn_pointer? {
        switch weight.entry.dtype {
        case .bf16: forward.widen_bf16
        case .f16: forward.widen_f16
        default: nil
        }
    }

    private typealias ck_widen_fn_pointer = @convention(c) (UnsafeRawPointer?, Int, UnsafeMutablePointer<Float>?) -> Void

    /// Calls `body` with rows `range` of a weight, in place: all at once where it is mapped, else block by block.
    private func forEachPiece(
        _ weight: Weight, _ range: Range<Int>, _ body: (Range<Int>, UnsafeRawPointer) -> Void
    ) throws(LanguageModelError) {
        // A block is as many whole rows as fit into it (`Grid`).
        let step = isMapped ? Int.max : max(1, Int(Grid.blockBytes) / weight.rowBytes)
        do {
            var start = range.lowerBound
            while start < range.upperBound {
                let rows = start..<(isMapped ? range.upperBound : min((start / step + 1) * step, range.upperBound))
                let bytes = UInt64(rows.lowerBound * weight.rowBytes)..<UInt64(rows.upperBound * weight.rowBytes)
                try reader.withBytes(of: weight.entry, bytes) { body(rows, $0.baseAddress!) }
                start = rows.upperBound
            }
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }
}
