/// The decoder of Llama and its kin: x += attention(norm(x)); x += feedForward(norm(x)).
struct PreNormDecoder: Sendable {
    struct Layer: Sendable {
        var inputNorm: [Float]  // (D)
        var attention: SelfAttention
        var innerNorm: [Float]  // (D)
        var feedForward: GatedFeedForward
    }

    let config: DecoderConfiguration
    let table: Weight  // (V, D)
    var layers: [Layer]
    let lastNorm: [Float]  // (D)
    let head: Linear  // (V, D)

    /// What such a decoder has beside what its configuration says.
    struct Form {
        /// Of queries, keys and values.
        var bias: Bool
        /// Of the output product.
        var outputBias: Bool
        /// Whether queries and keys are normed head by head (`q_norm`, `k_norm`).
        var headNorms = false
    }

    init(_ config: DecoderConfiguration, _ form: Form, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        self.config = config
        let width = config.hiddenSize
        (table, head) = try weights.embeddings(
            config.isTied, table: "model.embed_tokens", head: "lm_head", config.vocabularySize, width)
        var tables = RopeTables()
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            let name = "model.layers.\(index)"
            let norms: SelfAttention.Norms =
                try form.headNorms
                ? .heads(
                    query: weights.vector(name + ".self_attn.q_norm.weight", config.headSize),
                    key: weights.vector(name + ".self_attn.k_norm.weight", config.headSize)) : .none
            layers.append(
                Layer(
                    inputNorm: try weights.vector(name + ".input_layernorm.weight", width),
                    attention: try SelfAttention(
                        weights, name + ".self_attn", config, layer: index,
                        table: tables.table(config.ropes[index], length: longest), bias: form.bias, outputBias: form.outputBias,
                        norms: norms),
                    innerNorm: try weights.vector(name + ".post_attention_layernorm.weight", width),
                    feedForward: try GatedFeedForward(weights, name + ".mlp", config)))
        }
        self.layers = layers
        lastNorm = try weights.vector("model.norm.weight", width)
    }

    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        let layer = layers[index]
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let normed = pass.scratch(0, rows.count, config.hiddenSize)  // (rows, D)
            pass.rmsNorm(pass.stream[rows: rows], layer.inputNorm, config.epsilon, into: normed)
            try layer.attention.project(normed, rows, pass)
        }
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let stream = pass.stream[rows: rows]  // (rows, D)
            try pass.linear(layer.attention.attend(rows, pass), layer.attention.output, addingTo: stream)
            let normed = pass.scratch(0, rows.count, config.hiddenSize)  // (rows, D)
            pass.rmsNorm(stream, layer.innerNorm, config.epsilon, into: normed)
            let inner = try layer.feedForward.gated(normed, pass)  // (rows, F)
            try pass.linear(inner, layer.feedForward.down, addingTo: stream)
        }
    }
}

/// An architecture that is a `PreNormDecoder` with a configuration of its own.
protocol PreNormArchitecture: Architecture {
    var decoder: PreNormDecoder { get }
    init(_ decoder: PreNormDecoder)

    /// Reads the configuration.
    static func configuration(_ file: ConfigurationReader) throws(LanguageModelError) -> (DecoderConfiguration, PreNormDecoder.Form)
}

extension PreNormArchitecture {
    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        let (config, form) = try Self.configuration(file)
        self.init(try PreNormDecoder(config, form, weights, longest: longest))
    }

    var width: Int { decoder.config.hiddenSize }
    var projections: Int { SelfAttention.projections(decoder.config) }
    var cachedColumns: Int { SelfAttention.cachedColumns(decoder.config) }
    var headSize: Int { decoder.config.headSize }
    var layerCount: Int { decoder.layers.count }
    var head: Linear { decoder.head }
    var chunkColumns: Int { decoder.config.chunkColumns }

    func embed(_ pass: ForwardPass) throws(LanguageModelError) { try pass.embed(decoder.table) }
    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        try decoder.forward(layer: index, pass)
    }
    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) {
        pass.rmsNorm(x, decoder.lastNorm, decoder.config.epsilon, into: out)
    }
}

extension DecoderConfiguration {
    /// Columns of a chunk's buffers: normed, mixed, gate and up.
    var chunkColumns: Int { hiddenSize + headCount * headSize + 2 * innerSize }
}
