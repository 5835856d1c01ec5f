/// Forward and backward passes of `PreNormDecoder`: x += attention(norm(x)); x += feedForward(norm(x)).
struct PreNormTraining: TrainableDecoder {
    struct Product {
        var weight: Parameter  // (out, in)
        var bias: Parameter?  // (out)
    }

    struct Layer {
        var inputNorm: Parameter  // (D)
        var query: Product  // (H * d, D)
        var key: Product  // (G * d, D)
        var value: Product  // (G * d, D)
        var output: Product  // (D, H * d)
        var headNorms: (query: Parameter, key: Parameter)?  // (d)
        var innerNorm: Parameter  // (D)
        var gate: Product  // (F, D)
        var up: Product  // (F, D)
        var down: Product  // (D, F)
        var window: Int?
        var table: RopeTable
    }

    let config: DecoderConfiguration
    let parameters: Parameters
    let heads: AttentionHeads
    let table: Parameter  // (V, D)
    let layers: [Layer]
    let lastNorm: Parameter  // (D)
    let head: Parameter  // (V, D)

    var width: Int { config.hiddenSize }
    var layerCount: Int { layers.count }
    var gains: [Parameter] {
        layers.flatMap { [$0.inputNorm, $0.innerNorm] + ($0.headNorms.map { [$0.query, $0.key] } ?? []) } + [lastNorm]
    }
    var outputs: [Parameter] { layers.flatMap { [$0.output.weight, $0.down.weight] } }

    /// - Parameter names: the names that the tables of embeddings and the head have.
    init(
        _ config: DecoderConfiguration, _ form: PreNormDecoder.Form, _ parameters: Parameters, names: (table: String, head: String),
        longest: Int
    ) {
        self.config = config
        self.parameters = parameters
        heads = AttentionHeads(count: config.headCount, keyCount: config.keyHeadCount, size: config.headSize)
        let width = config.hiddenSize
        let (queries, keys) = (heads.count * heads.size, heads.keyCount * heads.size)
        func vector(_ name: String, _ count: Int) -> Parameter { parameters.add(name + ".weight", count) }
        func product(_ name: String, _ out: Int, _ in: Int, _ hasBias: Bool) -> Product {
            Product(
                weight: parameters.add(name + ".weight", out, `in`),
                bias: hasBias ? parameters.add(name + ".bias", out) : nil)
        }
        table = parameters.add(names.table, config.vocabularySize, width)
        var tables = RopeTables()
        layers = (0..<config.layerCount).map { index in
            let name = "model.layers.\(index)"
            let attention = name + ".self_attn"
            let bias = config.feedForwardBias
            return Layer(
                inputNorm: vector(name + ".input_layernorm", width),
                query: product(attention + ".q_proj", queries, width, form.bias),
                key: product(attention + ".k_proj", keys, width, form.bias),
                value: product(attention + ".v_proj", keys, width, form.bias),
                output: product(attention + ".o_proj", width, queries, form.outputBias),
                headNorms: form.headNorms
                    ? (vector(attention + ".q_norm", config.headSize), vector(attention + ".k_norm", config.headSize)) : nil,
                innerNorm: vector(name + ".post_attention_layernorm", width),
                gate: product(name + ".mlp.gate_proj", config.innerSize, width, bias),
                up: product(name + ".mlp.up_proj", config.innerSize, width, bias),
                down: product(name + ".mlp.down_proj", width, config.innerSize, bias),
                window: config.windows[index], table: tables.table(config.ropes[index], length: longest))
        }
        lastNorm = vector("model.norm", width)
        head = parameters.add(names.head, config.vocabularySize, width)
    }

    func embed(_ pass: TrainingPass, into stream: Matrix) { pass.lookUp(pass.batch.tokens, parameters.value(table), into: stream) }

    func embedBackward(_ d: Matrix, _ pass: TrainingPass) { pass.lookUpBackward(pass.batch.tokens, d, to: parameters.gradient(table)) }

    func forward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ pass: TrainingPass, into out: Matrix) {
        let layer = layers[index]
        let rows = stream.rows
        let normed = pass.scratch(0, rows, width)  // (T, D)
        pass.rmsNorm(stream, parameters.value(layer.inputNorm), config.epsilon, into: normed)
        let projected = saved.matrix(.projected, rows, heads.columns)  // (T, P)
        for (product, columns) in projections(layer) { linear(normed, product, pass, into: projected[columns: columns]) }
        if let norms = layer.headNorms {
            let unnormed = saved.matrix(.unnormed, rows, heads.valueOffset)
            pass.copy(projected[columns: 0..<heads.valueOffset], to: unnormed)
            pass.rmsNormHeads(unnormed, offset: 0, count: heads.count, parameters.value(norms.query), config.epsilon, into: projected)
            pass.rmsNormHeads(
                unnormed, offset: heads.keyOffset, count: heads.keyCount, parameters.value(norms.key), config.epsilon, into: projected)
        }
        pass.rotate(projected, offset: 0, count: heads.count + heads.keyCount, size: heads.size, layer.table)
        let mixed = saved.matrix(.mixed, rows, heads.keyOffset)  // (T, H * d)
        pass.attend(heads, window: layer.window, projected, into: mixed)
        let middle = saved.matrix(.middle, rows, width)  // (T, D)
        pass.copy(stream, to: middle)
        linear(mixed, layer.output, pass, into: middle, adding: true)

        pass.rmsNorm(middle, parameters.value(layer.innerNorm), config.epsilon, into: normed)
        let gate = saved.matrix(.gate, rows, config.innerSize)  // (T, F)
        let up = saved.matrix(.up, rows, config.innerSize)  // (T, F)
        linear(normed, layer.gate, pass, into: gate)
        linear(normed, layer.up, pass, into: up)
        let inner = pass.scratch(1, rows, config.innerSize)  // (T, F)
        pass.activate(config.activation, gate, up, into: inner)
        pass.copy(middle, to: out)
        linear(inner, layer.down, pass, into: out, adding: true)
    }

    func backward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ d: Matrix, _ pass: TrainingPass) {
        let layer = layers[index]
        let rows = stream.rows
        let middle = saved.matrix(.middle, rows, width)
        let gate = saved.matrix(.gate, rows, config.innerSize)
        let up = saved.matrix(.up, rows, config.innerSize)
        let inner = pass.scratch(1, rows, config.innerSize)  // d inner, then inner
        pass.product.multiply(d, transposed: parameters.value(layer.down.weight), into: inner)
        pass.activateBackward(config.activation, gate, up, inner)
        addGradients(inner, layer.down, d, pass)
        let normed = pass.scratch(0, rows, width)
        pass.rmsNorm(middle, parameters.value(layer.innerNorm), config.epsilon, into: normed)
        let dNormed = pass.scratch(2, rows, width)
        linearBackward(normed, layer.gate, gate, pass, into: dNormed)
        linearBackward(normed, layer.up, up, pass, into: dNormed, adding: true)
        pass.rmsNormBackward(middle, pair(layer.innerNorm), config.epsilon, dNormed, addingTo: d)

        let projected = saved.matrix(.projected, rows, heads.columns)
        let mixed = saved.matrix(.mixed, rows, heads.keyOffset)
        let dMixed = pass.scratch(3, rows, heads.keyOffset)
        linearBackward(mixed, layer.output, d, pass, into: dMixed)
        let dProjected = pass.scratch(4, rows, heads.columns)
        pass.attendBackward(heads, window: layer.window, projected, dMixed, into: dProjected)
        pass.rotateBack(dProjected, offset: 0, count: heads.count + heads.keyCount, size: heads.size, layer.table)
        if let norms = layer.headNorms {
            let unnormed = saved.matrix(.unnormed, rows, heads.valueOffset)
            pass.rmsNormHeadsBackward(unnormed, offset: 0, count: heads.count, pair(norms.query), config.epsilon, dProjected)
            pass.rmsNormHeadsBackward(
                unnormed, offset: heads.keyOffset, count: heads.keyCount, pair(norms.key), config.epsilon, dProjected)
        }
        pass.rmsNorm(stream, parameters.value(layer.inputNorm), config.epsilon, into: normed)
        for (index, (product, columns)) in projections(layer).enumerated() {
            linearBackward(normed, product, dProjected[columns: columns], pass, into: dNormed, adding: index > 0)
        }
        pass.rmsNormBackward(stream, pair(layer.inputNorm), config.epsilon, dNormed, addingTo: d)
    }

    func finish(_ x: Matrix, _ pass: TrainingPass, into out: Matrix) {
        pass.rmsNorm(x, parameters.value(lastNorm), config.epsilon, into: out)
    }

    func finishBackward(_ x: Matrix, _ dy: Matrix, _ pass: TrainingPass, addingTo dx: Matrix) {
        pass.rmsNormBackward(x, pair(lastNorm), config.epsilon, dy, addingTo: dx)
    }

    /// Queries, keys and values, and where they lie.
    private func projections(_ layer: Layer) -> [(Product, Range<Int>)] {
        [
            (layer.query, 0..<heads.keyOffset), (layer.key, heads.keyOffset..<heads.valueOffset),
            (layer.value, heads.valueOffset..<heads.columns),
        ]
    }

    private func pair(_ parameter: Parameter) -> (value: Matrix, gradient: Matrix) {
        (parameters.value(parameter), parameters.gradient(parameter))
    }

    private func linear(_ x: Matrix, _ product: Product, _ pass: TrainingPass, into out: Matrix, adding: Bool = false) {
        pass.linear(x, parameters.value(product.weight), bias: product.bias.map(parameters.value), into: out, adding: adding)
    }

    private func linearBackward(
        _ x: Matrix, _ product: Product, _ dy: Matrix, _ pass: TrainingPass, into dx: Matrix, adding: Bool = false
    ) {
        addGradients(x, product, dy, pass)
        pass.product.multiply(dy, transposed: parameters.value(product.weight), into: dx, adding: adding)
    }

    private func addGradients(_ x: Matrix, _ product: Product, _ dy: Matrix, _ pass: TrainingPass) {
        if let bias = product.bias { pass.addRows(dy, to: parameters.gradient(bias)) }
        pass.product.addOuter(dy, x, to: parameters.gradient(product.weight))
    }
}
