/// GPT-2: learned positions, layer norms with biases, weights kept (in, out), head tied to the embeddings.
struct GPT2: Architecture {
    struct Layer: Sendable {
        var inputNorm: LayerNorm
        var attention: Projection  // (D, 3D)
        var output: Projection  // (D, D)
        var innerNorm: LayerNorm
        var up: Projection  // (D, F)
        var down: Projection  // (F, D)
        var heads: AttentionHeads
    }

    /// x weight + bias, weight (in, out).
    struct Projection: Sendable {
        var weight: Weight
        var bias: [Float]

        init(_ weights: Weights, _ name: String, _ inputs: Int, _ outputs: Int) throws(LanguageModelError) {
            weight = try weights.matrix(name + ".weight", inputs, outputs)
            bias = try weights.vector(name + ".bias", outputs)
        }

        func callAsFunction(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) throws(LanguageModelError) {
            pass.fill(out, bias)
            try pass.product.multiply(x, transposed: weight, into: out, adding: true)
        }

        func callAsFunction(_ x: Matrix, _ pass: ForwardPass, addingTo out: Matrix) throws(LanguageModelError) {
            pass.add(bias, to: out)
            try pass.product.multiply(x, transposed: weight, into: out, adding: true)
        }
    }

    let config: Configuration
    let table: Weight  // (V, D)
    let places: Weight  // (positions, D)
    let layers: [Layer]
    let lastNorm: LayerNorm
    let head: Linear  // (V, D)

    var width: Int { config.width }
    var projections: Int { 3 * width }
    var headSize: Int { width / config.headCount }
    var cachedColumns: Int { 2 * width }
    var layerCount: Int { layers.count }
    var chunkColumns: Int { 2 * width + config.innerSize }
    var positionLimit: Int? { places.rows }

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        let config = try Configuration(file)
        self.config = config
        let (width, epsilon) = (config.width, config.epsilon)
        let prefix = GPT2.prefix(weights)
        (table, head) = try weights.embeddings(
            config.isTied, table: prefix + "wte", head: "lm_head", config.vocabularySize, width)
        places = try weights.matrix(prefix + "wpe.weight", config.positions, width)
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            let name = "\(prefix)h.\(index)"
            layers.append(
                Layer(
                    inputNorm: try LayerNorm(weights, name + ".ln_1", width, epsilon: epsilon),
                    attention: try Projection(weights, name + ".attn.c_attn", width, 3 * width),
                    output: try Projection(weights, name + ".attn.c_proj", width, width),
                    innerNorm: try LayerNorm(weights, name + ".ln_2", width, epsilon: epsilon),
                    up: try Projection(weights, name + ".mlp.c_fc", width, config.innerSize),
                    down: try Projection(weights, name + ".mlp.c_proj", config.innerSize, width),
                    heads: config.heads(layer: index)))
        }
        self.layers = layers
        lastNorm = try LayerNorm(weights, prefix + "ln_f", width, epsilon: epsilon)
    }

    /// What tensors' names begin with: saved by itself, the model without its head has no prefix.
    static func prefix(_ weights: Weights) -> String { weights.has("transformer.ln_f.weight") ? "transformer." : "" }

    func embed(_ pass: ForwardPass) throws(LanguageModelError) {
        try pass.embed(table)
        try pass.addPositions(places)
    }

    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        let layer = layers[index]
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.layerNorm(pass.stream[rows: rows], layer.inputNorm, into: normed)
            try layer.attention(normed, pass, into: pass.projected[rows: rows])
        }
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let stream = pass.stream[rows: rows]  // (rows, D)
            let mixed = pass.scratch(1, rows.count, width)  // (rows, D)
            pass.attend(layer.heads, window: nil, rows: rows, into: mixed)
            try layer.output(mixed, pass, addingTo: stream)
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.layerNorm(stream, layer.innerNorm, into: normed)
            let inner = pass.scratch(2, rows.count, config.innerSize)  // (rows, F)
            try layer.up(normed, pass, into: inner)
            pass.activate(config.activation, inner)
            try layer.down(inner, pass, addingTo: stream)
        }
    }

    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) { pass.layerNorm(x, lastNorm, into: out) }
}
