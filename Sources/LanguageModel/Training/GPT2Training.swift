/// Forward and backward passes of `GPT2`.
struct GPT2Training: TrainableDecoder {
    struct Projection {
        var weight: Parameter  // (in, out)
        var bias: Parameter  // (out)
    }

    struct Norm {
        var gain: Parameter  // (D)
        var bias: Parameter  // (D)
    }

    struct Layer {
        var inputNorm: Norm
        var attention: Projection  // (D, 3D)
        var output: Projection  // (D, D)
        var innerNorm: Norm
        var up: Projection  // (D, F)
        var down: Projection  // (F, D)
        var heads: AttentionHeads
    }

    let config: GPT2.Configuration
    let parameters: Parameters
    let table: Parameter  // (V, D)
    let places: Parameter  // (positions, D)
    let layers: [Layer]
    let lastNorm: Norm
    let head: Parameter  // (V, D)

    var width: Int { config.width }
    var layerCount: Int { layers.count }
    var gains: [Parameter] { layers.flatMap { [$0.inputNorm.gain, $0.innerNorm.gain] } + [lastNorm.gain] }
    var outputs: [Parameter] { layers.flatMap { [$0.output.weight, $0.down.weight] } }

    /// - Parameters:
    ///   - names: the names that the tables of embeddings and the head have.
    ///   - prefix: what all other names begin with.
    init(_ config: GPT2.Configuration, _ parameters: Parameters, names: (table: String, head: String), prefix: String) {
        self.config = config
        self.parameters = parameters
        let (width, inner) = (config.width, config.innerSize)
        func projection(_ name: String, _ inputs: Int, _ outputs: Int) -> Projection {
            Projection(
                weight: parameters.add(name + ".weight", inputs, outputs),
                bias: parameters.add(name + ".bias", outputs))
        }
        func norm(_ name: String) -> Norm {
            Norm(
                gain: parameters.add(name + ".weight", width),
                bias: parameters.add(name + ".bias", width))
        }
        table = parameters.add(names.table, config.vocabularySize, width)
        places = parameters.add(prefix + "wpe.weight", config.positions, width)
        layers = (0..<config.layerCount).map { index in
            let name = "\(prefix)h.\(index)"
            return Layer(
                inputNorm: norm(name + ".ln_1"), attention: projection(name + ".attn.c_attn", width, 3 * width),
                output: projection(name + ".attn.c_proj", width, width), innerNorm: norm(name + ".ln_2"),
                up: projection(name + ".mlp.c_fc", width, inner), down: projection(name + ".mlp.c_proj", inner, width),
                heads: config.heads(layer: index))
        }
        lastNorm = norm(prefix + "ln_f")
        head = parameters.add(names.head, config.vocabularySize, width)
    }

    private func positions(_ pass: TrainingPass) -> [Int32] { pass.batch.positions.map { Int32(truncatingIfNeeded: $0) } }

    func embed(_ pass: TrainingPass, into stream: Matrix) {
        pass.lookUp(pass.batch.tokens, parameters.value(table), into: stream)
        pass.lookUp(positions(pass), parameters.value(places), into: stream, adding: true)
    }

    func embedBackward(_ d: Matrix, _ pass: TrainingPass) {
        pass.lookUpBackward(pass.batch.tokens, d, to: parameters.gradient(table))
        pass.lookUpBackward(positions(pass), d, to: parameters.gradient(places))
    }

    func forward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ pass: TrainingPass, into out: Matrix) {
        let layer = layers[index]
        let rows = stream.rows
        let normed = pass.scratch(0, rows, width)  // (T, D)
        layerNorm(stream, layer.inputNorm, pass, into: normed)
        let projected = saved.matrix(.projected, rows, 3 * width)  // (T, 3D)
        project(normed, layer.attention, pass, into: projected)
        let mixed = saved.matrix(.mixed, rows, width)  // (T, D)
        pass.attend(layer.heads, window: nil, projected, into: mixed)
        let middle = saved.matrix(.middle, rows, width)  // (T, D)
        pass.copy(stream, to: middle)
        project(mixed, layer.output, pass, into: middle, adding: true)

        layerNorm(middle, layer.innerNorm, pass, into: normed)
        let up = saved.matrix(.up, rows, config.innerSize)  // (T, F)
        project(normed, layer.up, pass, into: up)
        let inner = pass.scratch(1, rows, config.innerSize)  // (T, F)
        pass.activate(config.activation, up, nil, into: inner)
        pass.copy(middle, to: out)
        project(inner, layer.down, pass, into: out, adding: true)
    }

    func backward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ d: Matrix, _ pass: TrainingPass) {
        let layer = layers[index]
        let rows = stream.rows
        let middle = saved.matrix(.middle, rows, width)
        let up = saved.matrix(.up, rows, config.innerSize)
        let inner = pass.scratch(1, rows, config.innerSize)  // d inner, then inner
        pass.product.multiply(d, parameters.value(layer.down.weight), into: inner)
        pass.activateBackward(config.activation, up, nil, inner)
        addGradients(inner, layer.down, d, pass)
        let normed = pass.scratch(0, rows, width)
        layerNorm(middle, layer.innerNorm, pass, into: normed)
        let dNormed = pass.scratch(2, rows, width)
        projectBackward(normed, layer.up, up, pass, into: dNormed)
        layerNormBackward(middle, layer.innerNorm, dNormed, pass, addingTo: d)

        let mixed = saved.matrix(.mixed, rows, width)
        let dMixed = pass.scratch(3, rows, width)
        projectBackward(mixed, layer.output, d, pass, into: dMixed)
        let dProjected = pass.scratch(4, rows, 3 * width)
        pass.attendBackward(layer.heads, window: nil, saved.matrix(.projected, rows, 3 * width), dMixed, into: dProjected)
        layerNorm(stream, layer.inputNorm, pass, into: normed)
        projectBackward(normed, layer.attention, dProjected, pass, into: dNormed)
        layerNormBackward(stream, layer.inputNorm, dNormed, pass, addingTo: d)
    }

    func finish(_ x: Matrix, _ pass: TrainingPass, into out: Matrix) { layerNorm(x, lastNorm, pass, into: out) }

    func finishBackward(_ x: Matrix, _ dy: Matrix, _ pass: TrainingPass, addingTo dx: Matrix) {
        layerNormBackward(x, lastNorm, dy, pass, addingTo: dx)
    }

    private func layerNorm(_ x: Matrix, _ norm: Norm, _ pass: TrainingPass, into out: Matrix) {
        pass.layerNorm(x, gain: parameters.value(norm.gain), bias: parameters.value(norm.bias), config.epsilon, into: out)
    }

    private func layerNormBackward(_ x: Matrix, _ norm: Norm, _ dy: Matrix, _ pass: TrainingPass, addingTo dx: Matrix) {
        pass.layerNormBackward(
            x, gain: (parameters.value(norm.gain), parameters.gradient(norm.gain)), biasGradient: parameters.gradient(norm.bias),
            config.epsilon, dy, addingTo: dx)
    }

    private func project(_ x: Matrix, _ projection: Projection, _ pass: TrainingPass, into out: Matrix, adding: Bool = false) {
        pass.addBias(parameters.value(projection.bias), to: out, adding: adding)
        pass.product.multiply(x, transposed: parameters.value(projection.weight), into: out, adding: true)
    }

    private func projectBackward(_ x: Matrix, _ projection: Projection, _ dy: Matrix, _ pass: TrainingPass, into dx: Matrix) {
        addGradients(x, projection, dy, pass)
        pass.product.multiply(dy, parameters.value(projection.weight), into: dx)
    }

    private func addGradients(_ x: Matrix, _ projection: Projection, _ dy: Matrix, _ pass: TrainingPass) {
        pass.addRows(dy, to: parameters.gradient(projection.bias))
        pass.product.addOuter(x, dy, to: parameters.gradient(projection.weight))
    }
}
