internal import CKernels

/// A team's means to train a model: the operations that forward and backward passes are written in, and their memory.
///
/// Operations on rows go in blocks of 128; what is summed over rows (gradients of gains and biases) is summed block by block, in
/// their order. So results do not depend on the number of threads. A gradient "of x" is that of the loss by x, written dx; those
/// of parameters are added to what is there.
final class TrainingPass {
    let team: ThreadTeam
    let product: TeamProduct
    let kernels = ck_active_forward_kernels().pointee
    let backwardKernels = ck_active_backward_kernels().pointee
    private(set) var batch = Batch()

    private var scratchBuffers: [FloatBuffer] = []
    private let partials = FloatBuffer()
    let attentionWorkers: [AttentionWorker]

    init(_ team: ThreadTeam) {
        self.team = team
        product = TeamProduct(team)
        attentionWorkers = (0..<team.count).map { _ in AttentionWorker() }
    }

    func begin(_ batch: Batch) { self.batch = batch }

    /// Memory that is used within one operation or one layer: `index` tells those in use at one time apart.
    func scratch(_ index: Int, _ rows: Int, _ columns: Int) -> Matrix {
        while scratchBuffers.count <= index { scratchBuffers.append(FloatBuffer()) }
        return scratchBuffers[index].matrix(rows, columns)
    }

    // MARK: Rows

    static let blockRows = 128

    func forEachBlock(_ rows: Int, _ body: (Range<Int>) -> Void) {
        let size = TrainingPass.blockRows
        team.forEach((rows + size - 1) / size) { block, _ in body(block * size..<min(rows, (block + 1) * size)) }
    }

    /// Adds sums over the rows to vectors: `body` is given `columns` zeroed floats of its block, which are then added to `sums`.
    func addOverRows(_ rows: Int, _ columns: Int, to sums: [(UnsafeMutablePointer<Float>, Range<Int>)], _ body: (Range<Int>, UnsafeMutablePointer<Float>) -> Void) {
        let blocks = (rows + TrainingPass.blockRows - 1) / TrainingPass.blockRows
        let parts = partials.matrix(max(1, blocks), columns)
        forEachBlock(rows) { range in
            let part = parts.row(range.lowerBound / TrainingPass.blockRows)
            part.update(repeating: 0, count: columns)
            body(range, part)
        }
        for block in 0..<blocks {
            for (sum, range) in sums { kernels.add(sum, parts.row(block) + range.lowerBound, range.count) }
        }
    }

    func copy(_ x: Matrix, to out: Matrix) {
        forEachBlock(x.rows) { rows in
            for row in rows { out.row(row).update(from: x.row(row), count: x.columns) }
        }
    }

    // MARK: Products

    /// out = x weight^T + bias, or out += it.
    func linear(_ x: Matrix, _ weight: Matrix, bias: Matrix?, into out: Matrix, adding: Bool = false) {
        if let bias { addBias(bias, to: out, adding: adding) }
        product.multiply(x, weight, into: out, adding: adding || bias != nil)
    }

    /// The bias in each row, or added to it.
    func addBias(_ bias: Matrix, to out: Matrix, adding: Bool) {
        forEachBlock(out.rows) { rows in
            for row in rows {
                if adding {
                    kernels.add(out.row(row), bias.data, bias.columns)
                } else {
                    out.row(row).update(from: bias.data, count: bias.columns)
                }
            }
        }
    }

    /// sums += the sum of the rows of x.
    func addRows(_ x: Matrix, to sums: Matrix) {
        addOverRows(x.rows, x.columns, to: [(sums.data, 0..<x.columns)]) { rows, part in
            backwardKernels.add_rows(x.row(rows.lowerBound), x.stride, rows.count, x.columns, part)
        }
    }

    // MARK: Norms

    func rmsNorm(_ x: Matrix, _ gain: Matrix, _ epsilon: Float, into out: Matrix) {
        forEachBlock(x.rows) { rows in
            kernels.rms_norm(
                x.row(rows.lowerBound), x.stride, gain.data, rows.count, x.columns, epsilon, out.row(rows.lowerBound), out.stride)
        }
    }

    /// dx += the gradient of the norm's input; the gain's gradient.
    func rmsNormBackward(
        _ x: Matrix, _ gain: (value: Matrix, gradient: Matrix), _ epsilon: Float, _ dy: Matrix, addingTo dx: Matrix
    ) {
        addOverRows(x.rows, x.columns, to: [(gain.gradient.data, 0..<x.columns)]) { rows, part in
            backwardKernels.rms_norm(
                x.row(rows.lowerBound), x.stride, gain.value.data, dy.row(rows.lowerBound), dy.stride, rows.count, x.columns, epsilon,
                dx.row(rows.lowerBound), dx.stride, 1, part)
        }
    }

    /// Each of `count` heads of each row of x by itself, from `offset` on, into the same place of `out`.
    func rmsNormHeads(_ x: Matrix, offset: Int, count: Int, _ gain: Matrix, _ epsilon: Float, into out: Matrix) {
        let size = gain.columns
        forEachBlock(x.rows) { rows in
            for row in rows {
                kernels.rms_norm(x.row(row) + offset, size, gain.data, count, size, epsilon, out.row(row) + offset, size)
            }
        }
    }

    /// dy, at `offset` of its rows, becomes the gradient of the heads of x.
    func rmsNormHeadsBackward(
        _ x: Matrix, offset: Int, count: Int, _ gain: (value: Matrix, gradient: Matrix), _ epsilon: Float, _ dy: Matrix
    ) {
        let size = gain.value.columns
        addOverRows(x.rows, size, to: [(gain.gradient.data, 0..<size)]) { rows, part in
            for row in rows {
                let d = dy.row(row) + offset
                backwardKernels.rms_norm(x.row(row) + offset, size, gain.value.data, d, size, count, size, epsilon, d, size, 0, part)
            }
        }
    }

    func layerNorm(_ x: Matrix, gain: Matrix, bias: Matrix, _ epsilon: Float, into out: Matrix) {
        forEachBlock(x.rows) { rows in
            kernels.layer_norm(
                x.row(rows.lowerBound), x.stride, gain.data, bias.data, rows.count, x.columns, epsilon, out.row(rows.lowerBound),
                out.stride)
        }
    }

    /// dx += the gradient of the norm's input; those of gain and bias.
    func layerNormBackward(
        _ x: Matrix, gain: (value: Matrix, gradient: Matrix), biasGradient: Matrix, _ epsilon: Float, _ dy: Matrix, addingTo dx: Matrix
    ) {
        let n = x.columns
        addOverRows(x.rows, 2 * n, to: [(gain.gradient.data, 0..<n), (biasGradient.data, n..<2 * n)]) { rows, part in
            backwardKernels.layer_norm(
                x.row(rows.lowerBound), x.stride, gain.value.data, dy.row(rows.lowerBound), dy.stride, rows.count, n, epsilon,
                dx.row(rows.lowerBound), dx.stride, 1, part, part + n)
        }
    }

    // MARK: Positions

    /// Turns `count` heads of `size` columns from `offset` on by the angle of each row's position.
    func rotate(_ x: Matrix, offset: Int, count: Int, size: Int, _ table: RopeTable) {
        forEachBlock(x.rows) { rows in
            for row in rows {
                let position = batch.positions[row]
                kernels.rotate(x.row(row) + offset, count, size, table.half, table.cosines(position), table.sines(position))
            }
        }
    }

    func rotateBack(_ x: Matrix, offset: Int, count: Int, size: Int, _ table: RopeTable) {
        forEachBlock(x.rows) { rows in
            for row in rows {
                let position = batch.positions[row]
                backwardKernels.rotate_back(
                    x.row(row) + offset, count, size, table.half, table.cosines(position), table.sines(position))
            }
        }
    }

    // MARK: Embeddings

    /// Row ids[i] of the table into row i, or added to it.
    func lookUp(_ ids: [Int32], _ table: Matrix, into out: Matrix, adding: Bool = false) {
        forEachBlock(ids.count) { rows in
            for row in rows {
                let from = table.row(Int(ids[row]))
                if adding { kernels.add(out.row(row), from, table.columns) } else { out.row(row).update(from: from, count: table.columns) }
            }
        }
    }

    /// Row i of d added to row ids[i] of the table's gradient, in the order of i.
    func lookUpBackward(_ ids: [Int32], _ d: Matrix, to gradient: Matrix) {
        // Threads share out the columns: a row of the table may be asked for many times.
        let columns = gradient.columns
        team.run { thread in
            let range = columns * thread / team.count..<columns * (thread + 1) / team.count
            for (row, id) in ids.enumerated() {
                kernels.add(gradient.row(Int(id)) + range.lowerBound, d.row(row) + range.lowerBound, range.count)
            }
        }
    }

    // MARK: Activations

    /// out = activation(gate) * up, or activation(gate). All lie without gaps.
    func activate(_ activation: Activation, _ gate: Matrix, _ up: Matrix?, into out: Matrix) {
        let kernel = activation.forward(kernels)
        forEachBlock(gate.rows) { rows in
            let count = rows.count * gate.columns
            out.row(rows.lowerBound).update(from: gate.row(rows.lowerBound), count: count)
            kernel(out.row(rows.lowerBound), up?.row(rows.lowerBound), count)
        }
    }

    /// gate, up and d inner become d gate, d up and inner.
    func activateBackward(_ activation: Activation, _ gate: Matrix, _ up: Matrix?, _ inner: Matrix) {
        let kernel = activation.backward(backwardKernels)
        forEachBlock(gate.rows) { rows in
            kernel(
                gate.row(rows.lowerBound), up?.row(rows.lowerBound), inner.row(rows.lowerBound), rows.count * gate.columns)
        }
    }

    // MARK: Attention

    /// out (T, heads * size) = what each head sees, for queries, keys and values in `projected`.
    func attend(_ heads: AttentionHeads, window: Int?, _ projected: Matrix, into out: Matrix) {
        forEachHead(heads) { sequence, keyHead, worker in
            worker.attend(heads, keyHead, sequence, window, projected, out)
        }
    }

    /// Takes d out, and writes the gradient of `projected` into dProjected: all of it, where heads lie without gaps.
    func attendBackward(_ heads: AttentionHeads, window: Int?, _ projected: Matrix, _ dOut: Matrix, into dProjected: Matrix) {
        forEachHead(heads) { sequence, keyHead, worker in
            worker.attendBackward(heads, keyHead, sequence, window, projected, dOut, dProjected)
        }
    }

    /// The longest sequences first, so that threads end together.
    private func forEachHead(_ heads: AttentionHeads, _ body: (Range<Int>, _ keyHead: Int, AttentionWorker) -> Void) {
        let sequences = batch.sequences.sorted { ($0.count, $1.lowerBound) > ($1.count, $0.lowerBound) }
        team.forEach(sequences.count * heads.keyCount) { part, thread in
            body(sequences[part / heads.keyCount], part % heads.keyCount, attentionWorkers[thread])
        }
    }
}
