internal import COpenBLAS
internal import CheckpointStore
internal import TensorFormats

/// Products of activations with weights that stay where they are.
///
/// A matrix of F32 that is mapped whole is handed to BLAS in place. Any other is taken in panels of whole rows that fit the
/// cache: read in place or from its blocks, widened to F32 into one reused buffer.
final class DenseProduct {
    private let reader: TensorReader
    private let isMapped: Bool
    private let panel = FloatBuffer()
    /// 2 MiB: a panel shares the second-level cache with what it is multiplied by.
    static let panelFloats = 512 << 10
    /// Panels shorter than this spend more on packing their other operand than they save.
    private static let leastRows = 128

    init(_ contents: CheckpointContents) throws(LanguageModelError) {
        isMapped = contents.isMapped
        do throws(StoreError) {
            reader = try contents.makeReader()
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
        openblas_set_num_threads(1)
    }

    /// out (T, N) = x (T, K) weight (N, K)^T, or out += it.
    func multiply(_ x: Matrix, _ weight: Weight, into out: Matrix, adding: Bool = false) throws(LanguageModelError) {
        precondition(x.columns == weight.columns && out.columns == weight.rows && x.rows == out.rows)
        try forEachPanel(weight, 0..<weight.rows) { rows, floats in
            DenseProduct.gemm(
                x, floats, rows.count, weight.columns, transposed: true, into: out[columns: rows], adding: adding)
        }
    }

    /// out (T, N) = x (T, K) weight (K, N), or out += it: for weights kept the other way round.
    func multiply(_ x: Matrix, transposed weight: Weight, into out: Matrix, adding: Bool = false) throws(LanguageModelError) {
        precondition(x.columns == weight.rows && out.columns == weight.columns && x.rows == out.rows)
        try forEachPanel(weight, 0..<weight.rows) { rows, floats in
            DenseProduct.gemm(
                x[columns: rows], floats, weight.columns, rows.count, transposed: false, into: out,
                adding: adding || rows.lowerBound > 0)
        }
    }

    /// Rows `ids` of a table, one below the other.
    func lookUp(_ ids: ArraySlice<Int32>, in table: Weight, into out: Matrix) throws(LanguageModelError) {
        precondition(ids.count <= out.rows && out.columns == table.columns)
        let rowBytes = table.entry.byteCount / UInt64(table.rows)
        // In the order of the table, so that a block of it is read once.
        let order = isMapped ? Array(ids.indices) : ids.indices.sorted { ids[$0] < ids[$1] }
        do {
            for index in order {
                let start = UInt64(ids[index]) * rowBytes
                try reader.withBytes(of: table.entry, start..<(start + rowBytes)) { bytes in
                    Widening.floats(bytes, table.entry.dtype, into: out.row(index - ids.startIndex))
                }
            }
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    /// Calls `body` with rows `range` of the weight as floats, panel by panel.
    func forEachPanel(
        _ weight: Weight, _ range: Range<Int>, _ body: (Range<Int>, UnsafePointer<Float>) -> Void
    ) throws(LanguageModelError) {
        let rowBytes = UInt64(weight.columns) * UInt64(weight.entry.dtype.bits / 8)
        let inPlace = isMapped && weight.entry.dtype == .f32
        let step = inPlace ? range.count : max(DenseProduct.leastRows, DenseProduct.panelFloats / weight.columns)
        do {
            var start = range.lowerBound
            while start < range.upperBound {
                let rows = start..<min(start + step, range.upperBound)
                let bytes = UInt64(rows.lowerBound) * rowBytes..<UInt64(rows.upperBound) * rowBytes
                try reader.withBytes(of: weight.entry, bytes) { bytes in
                    if weight.entry.dtype == .f32, Int(bitPattern: bytes.baseAddress!) % 4 == 0 {
                        body(rows, bytes.baseAddress!.assumingMemoryBound(to: Float.self))
                    } else {
                        let floats = panel.matrix(rows.count, weight.columns).data
                        Widening.floats(bytes, weight.entry.dtype, into: floats)
                        body(rows, UnsafePointer(floats))
                    }
                }
                start = rows.upperBound
            }
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    /// out (T, n) = x (T, k) w, with w (n, k) transposed or (k, n). The corresponding C function is `cblas_sgemm`.
    static func gemm(
        _ x: Matrix, _ w: UnsafePointer<Float>, _ n: Int, _ k: Int, transposed: Bool, into out: Matrix, adding: Bool
    ) {
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, blasint(x.rows), blasint(n), blasint(k), 1,
            x.data, blasint(x.stride), w, blasint(transposed ? k : n), adding ? 1 : 0, out.data, blasint(out.stride))
    }
}
