/// OLMo 2 (arXiv 2501.00656): norms come after attention and feed-forward, x += norm(attention(x)); queries and keys are
/// normed over all heads together.
struct OLMo2: Architecture {
    struct Layer: Sendable {
        var attention: SelfAttention
        var attentionNorm: [Float]  // (D)
        var feedForward: GatedFeedForward
        var feedForwardNorm: [Float]  // (D)
    }

    let config: DecoderConfiguration
    let table: Weight  // (V, D)
    var layers: [Layer]
    let lastNorm: [Float]  // (D)
    let head: Linear  // (V, D)

    var width: Int { config.hiddenSize }
    var projections: Int { SelfAttention.projections(config) }
    var cachedColumns: Int { SelfAttention.cachedColumns(config) }
    var headSize: Int { config.headSize }
    var layerCount: Int { layers.count }
    var chunkColumns: Int { config.chunkColumns }

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        var defaults = DecoderConfiguration.Defaults()
        defaults.epsilon = 1e-5
        config = try DecoderConfiguration(file, defaults)
        let width = config.hiddenSize
        (table, head) = try weights.embeddings(
            config.isTied, table: "model.embed_tokens", head: "lm_head", config.vocabularySize, width)
        var tables = RopeTables()
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            let name = "model.layers.\(index)"
            let bias = config.attentionBias
            layers.append(
                Layer(
                    attention: try SelfAttention(
                        weights, name + ".self_attn", config, layer: index,
                        table: tables.table(config.ropes[index], length: longest), bias: bias, outputBias: bias,
                        norms: .whole(
                            query: weights.vector(name + ".self_attn.q_norm.weight", config.headCount * config.headSize),
                            key: weights.vector(name + ".self_attn.k_norm.weight", config.keyHeadCount * config.headSize))),
                    attentionNorm: try weights.vector(name + ".post_attention_layernorm.weight", width),
                    feedForward: try GatedFeedForward(weights, name + ".mlp", config),
                    feedForwardNorm: try weights.vector(name + ".post_feedforward_layernorm.weight", width)))
        }
        self.layers = layers
        lastNorm = try weights.vector("model.norm.weight", width)
    }

    func embed(_ pass: ForwardPass) throws(LanguageModelError) { try pass.embed(table) }

    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        let layer = layers[index]
        try pass.forEachChunk { rows throws(LanguageModelError) in
            try layer.attention.project(pass.stream[rows: rows], rows, pass)
        }
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let stream = pass.stream[rows: rows]  // (rows, D)
            let change = pass.scratch(0, rows.count, width)  // (rows, D)
            try pass.linear(layer.attention.attend(rows, pass), layer.attention.output, into: change)
            pass.rmsNorm(change, layer.attentionNorm, config.epsilon, into: change)
            pass.add(change, to: stream)
            let inner = try layer.feedForward.gated(stream, pass)  // (rows, F)
            try pass.linear(inner, layer.feedForward.down, into: change)
            pass.rmsNorm(change, layer.feedForwardNorm, config.epsilon, into: change)
            pass.add(change, to: stream)
        }
    }

    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) {
        pass.rmsNorm(x, lastNorm, config.epsilon, into: out)
    }
}
