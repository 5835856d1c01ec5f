#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Gemma 3, text (arXiv 2503.19786): embeddings times sqrt(D), norms before and after attention and feed-forward with gains of
/// 1 + w, queries and keys normed head by head, five sliding layers for each full one with a rope of their own.
///
/// `attn_logit_softcapping` has no effect, as in the reference library, whose Gemma 3 reads the key and does not use it.
struct Gemma3: Architecture {
    struct Layer: Sendable {
        var inputNorm: [Float]  // (D)
        var attention: SelfAttention
        var attentionNorm: [Float]  // (D)
        var innerNorm: [Float]  // (D)
        var feedForward: GatedFeedForward
        var feedForwardNorm: [Float]  // (D)
    }

    let config: DecoderConfiguration
    let table: Weight  // (V, D)
    var layers: [Layer]
    let lastNorm: [Float]  // (D)
    let head: Linear  // (V, D)
    let logitCap: Float?
    var embeddingScale: Float

    var width: Int { config.hiddenSize }
    var projections: Int { SelfAttention.projections(config) }
    var cachedColumns: Int { SelfAttention.cachedColumns(config) }
    var headSize: Int { config.headSize }
    var layerCount: Int { layers.count }
    var chunkColumns: Int { config.chunkColumns + config.hiddenSize }

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        try file.refuse("use_bidirectional_attention")
        var defaults = DecoderConfiguration.Defaults()
        (defaults.theta, defaults.localTheta) = (1_000_000, 10_000)
        (defaults.isTied, defaults.headSize, defaults.window) = (true, 256, 4096)
        (defaults.headCount, defaults.keyHeadCount, defaults.vocabularySize) = (8, 4, 262_208)
        (defaults.activationKey, defaults.activation) = ("hidden_activation", "gelu_pytorch_tanh")
        let pattern = try file.size("sliding_window_pattern", or: 6)
        defaults.slides = { layer in (layer + 1) % pattern != 0 }
        config = try DecoderConfiguration(file, defaults)
        logitCap = try file.positive("final_logit_softcapping").map { Float($0) }
        let scale = 1 / Float(try file.positive("query_pre_attn_scalar", or: 256)).squareRoot()
        let width = config.hiddenSize
        embeddingScale = Float(width).squareRoot()
        (table, head) = try weights.embeddings(
            config.isTied, table: "model.embed_tokens", head: "lm_head", config.vocabularySize, width)
        var tables = RopeTables()
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            let name = "model.layers.\(index)"
            let bias = config.attentionBias
            layers.append(
                Layer(
                    inputNorm: try weights.vector(name + ".input_layernorm.weight", width, plus: 1),
                    attention: try SelfAttention(
                        weights, name + ".self_attn", config, layer: index,
                        table: tables.table(config.ropes[index], length: longest), bias: bias, outputBias: bias,
                        scale: scale,
                        norms: .heads(
                            query: weights.vector(name + ".self_attn.q_norm.weight", config.headSize, plus: 1),
                            key: weights.vector(name + ".self_attn.k_norm.weight", config.headSize, plus: 1))),
                    attentionNorm: try weights.vector(name + ".post_attention_layernorm.weight", width, plus: 1),
                    innerNorm: try weights.vector(name + ".pre_feedforward_layernorm.weight", width, plus: 1),
                    feedForward: try GatedFeedForward(weights, name + ".mlp", config),
                    feedForwardNorm: try weights.vector(name + ".post_feedforward_layernorm.weight", width, plus: 1)))
        }
        self.layers = layers
        lastNorm = try weights.vector("model.norm.weight", width, plus: 1)
    }

    func embed(_ pass: ForwardPass) throws(LanguageModelError) {
        try pass.embed(table)
        pass.scale(pass.stream, by: embeddingScale)
    }

    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        let layer = layers[index]
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.rmsNorm(pass.stream[rows: rows], layer.inputNorm, config.epsilon, into: normed)
            try layer.attention.project(normed, rows, pass)
        }
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let stream = pass.stream[rows: rows]  // (rows, D)
            let change = pass.scratch(4, rows.count, width)  // (rows, D)
            try pass.linear(layer.attention.attend(rows, pass), layer.attention.output, into: change)
            pass.rmsNorm(change, layer.attentionNorm, config.epsilon, into: change)
            pass.add(change, to: stream)
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.rmsNorm(stream, layer.innerNorm, config.epsilon, into: normed)
            let inner = try layer.feedForward.gated(normed, pass)  // (rows, F)
            try pass.linear(inner, layer.feedForward.down, into: change)
            pass.rmsNorm(change, layer.feedForwardNorm, config.epsilon, into: change)
            pass.add(change, to: stream)
        }
    }

    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) {
        pass.rmsNorm(x, lastNorm, config.epsilon, into: out)
    }
}
