internal import CKernels
internal import CheckpointStore

/// One thread's means to run a model over batches: the operations that architectures are written in, and their memory.
///
/// T tokens of a batch go through a layer in chunks of rows; the residual stream (T, D) and the queries, keys and values of the
/// layer are whole, all else has the size of a chunk.
final class ForwardPass {
    /// Rows of a chunk: enough to make a dense product efficient, few enough to keep the feed-forward layer's buffers small.
    static let chunkRows = 1024

    let product: DenseProduct
    let kernels = ck_active_forward_kernels().pointee
    private(set) var batch = Batch()
    /// The layer at work.
    var layer = 0
    /// The residual stream, (T, D).
    private(set) var stream: Matrix
    /// Queries, keys and values of the layer at work, (T, as many as it says).
    private(set) var projected: Matrix

    private let streamBuffer = FloatBuffer()
    private let projectedBuffer = FloatBuffer()
    private var chunkBuffers: [FloatBuffer] = []
    let scores = FloatBuffer()
    /// The keys and values of the head at work.
    let packedKeys = FloatBuffer()
    let packedValues = FloatBuffer()

    init(_ contents: CheckpointContents) throws(LanguageModelError) {
        product = try DenseProduct(contents)
        stream = streamBuffer.matrix(0, 0)
        projected = projectedBuffer.matrix(0, 0)
    }

    /// Takes up a batch: a stream of `width` columns, `projections` columns of queries, keys and values.
    func begin(_ batch: Batch, width: Int, projections: Int) {
        self.batch = batch
        stream = streamBuffer.matrix(batch.tokens.count, width)
        projected = projectedBuffer.matrix(batch.tokens.count, projections)
    }

    /// Scratch of a chunk: `index` tells those in use at one time apart.
    func scratch(_ index: Int, _ rows: Int, _ columns: Int) -> Matrix {
        while chunkBuffers.count <= index { chunkBuffers.append(FloatBuffer()) }
        return chunkBuffers[index].matrix(rows, columns)
    }

    func forEachChunk(_ body: (Range<Int>) throws(LanguageModelError) -> Void) throws(LanguageModelError) {
        var start = 0
        while start < batch.tokens.count {
            let end = min(start + ForwardPass.chunkRows, batch.tokens.count)
            try body(start..<end)
            start = end
        }
    }

    /// The embedding of each token into the stream.
    func embed(_ table: Weight) throws(LanguageModelError) {
        let limit = Int32(clamping: table.rows)
        for id in batch.tokens where id < 0 || id >= limit {
            throw LanguageModelError(.mismatch, "token \(id) in a vocabulary of \(table.rows)")
        }
        try product.lookUp(batch.tokens[...], in: table, into: stream)
    }

    /// Adds row `position` of `places` to each row of the stream.
    func addPositions(_ places: Weight) throws(LanguageModelError) {
        let ids = batch.positions.map { Int32(truncatingIfNeeded: $0) }
        try forEachChunk { rows throws(LanguageModelError) in
            let found = scratch(0, rows.count, places.columns)
            try product.lookUp(ids[rows], in: places, into: found)
            add(found, to: stream[rows: rows])
        }
    }

    /// out = x / rms(x) * gain, row by row. Columns of `x` are `gain.count`.
    func rmsNorm(_ x: Matrix, _ gain: [Float], _ epsilon: Float, into out: Matrix) {
        precondition(x.columns == gain.count && out.columns == gain.count)
        kernels.rms_norm(x.data, x.stride, gain, x.rows, gain.count, epsilon, out.data, out.stride)
    }

    /// The same in place for each head: head h of row r begins `offset + h * size` into it.
    func rmsNormHeads(_ x: Matrix, offset: Int, count: Int, _ gain: [Float], _ epsilon: Float) {
        let size = gain.count
        precondition(offset + count * size <= x.columns)
        for row in 0..<x.rows {
            let heads = x.row(row) + offset
            kernels.rms_norm(heads, size, gain, count, size, epsilon, heads, size)
        }
    }

    func layerNorm(_ x: Matrix, _ norm: LayerNorm, into out: Matrix) {
        precondition(x.columns == norm.gain.count && out.columns == norm.gain.count)
        kernels.layer_norm(
            x.data, x.stride, norm.gain, norm.bias, x.rows, norm.gain.count, norm.epsilon, out.data, out.stride)
    }

    /// Every row set to `bias`, for a product to be added to.
    func fill(_ x: Matrix, _ bias: [Float]) {
        precondition(x.columns == bias.count)
        for row in 0..<x.rows { x.row(row).update(from: bias, count: bias.count) }
    }

    /// x += y
    func add(_ y: Matrix, to x: Matrix) {
        precondition(x.rows == y.rows && x.columns == y.columns)
        for row in 0..<x.rows { kernels.add(x.row(row), y.row(row), x.columns) }
    }

    func add(_ bias: [Float], to x: Matrix) {
        precondition(x.columns == bias.count)
        for row in 0..<x.rows { kernels.add(x.row(row), bias, bias.count) }
    }

    /// x * weight^T + bias, for a linear layer that may have a bias.
    func linear(_ x: Matrix, _ layer: Linear, into out: Matrix) throws(LanguageModelError) {
        if let bias = layer.bias { fill(out, bias) }
        try product.multiply(x, layer.weight, into: out, adding: layer.bias != nil)
    }

    /// out += x * weight^T + bias
    func linear(_ x: Matrix, _ layer: Linear, addingTo out: Matrix) throws(LanguageModelError) {
        if let bias = layer.bias { add(bias, to: out) }
        try product.multiply(x, layer.weight, into: out, adding: true)
    }

    /// Turns `count` heads of each row by the angle of its position; see `AttentionHeads` for where heads lie.
    func rotate(_ x: Matrix, rows: Range<Int>, offset: Int, count: Int, headStride: Int, _ table: RopeTable) {
        for row in rows {
            let position = batch.positions[row]
            kernels.rotate(
                x.row(row) + offset, count, headStride, table.half, table.cosines(position), table.sines(position))
        }
    }

    /// gate = activation(gate) * up, or without `up` activation(gate).
    func activate(_ activation: Activation, _ gate: Matrix, _ up: Matrix? = nil) {
        precondition(gate.stride == gate.columns && up.map { $0.stride == gate.stride && $0.rows == gate.rows } ?? true)
        let kernel = activation.forward(kernels)
        kernel(gate.data, up?.data, gate.rows * gate.columns)
    }

    func scale(_ x: Matrix, by factor: Float) {
        for row in 0..<x.rows {
            let values = x.row(row)
            for column in 0..<x.columns { values[column] *= factor }
        }
    }
}
