/// GPT-NeoX (arXiv 2204.06745) and Pythia (arXiv 2304.01373): the first dimensions of a head turn, attention and feed-forward
/// read the same stream side by side (`use_parallel_residual`), layer norms and products have biases.
struct GPTNeoX: Architecture {
    struct Layer: Sendable {
        var inputNorm: LayerNorm
        var attention: Linear  // (3D, D): query, key and value of each head side by side
        var output: Linear  // (D, D)
        var innerNorm: LayerNorm
        var up: Linear  // (F, D)
        var down: Linear  // (D, F)
    }

    let width: Int
    let innerSize: Int
    let table: Weight  // (V, D)
    let layers: [Layer]
    let lastNorm: LayerNorm
    let head: Linear  // (V, D)
    let activation: Activation
    let isParallel: Bool
    let heads: AttentionHeads
    let ropeTable: RopeTable

    var projections: Int { 3 * width }
    var cachedColumns: Int { 2 * width }
    var headSize: Int { heads.size }
    var layerCount: Int { layers.count }
    var chunkColumns: Int { 2 * width + innerSize }

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        width = try file.neededSize("hidden_size")
        innerSize = try file.neededSize("intermediate_size")
        let count = try file.neededSize("num_hidden_layers")
        let headCount = try file.neededSize("num_attention_heads")
        guard width % headCount == 0, count <= 4096 else {
            throw LanguageModelError(.malformed, "\(file.path): \(width) columns in \(headCount) heads, \(count) layers")
        }
        let vocabulary = try file.neededSize("vocab_size")
        activation = try Activation(try file.text("hidden_act", or: "gelu"), path: file.path)
        isParallel = try file.flag("use_parallel_residual", default: true)
        let hasBias = try file.flag("attention_bias", default: true)
        let epsilon = Float(try file.positive("layer_norm_eps", or: 1e-5))
        heads = AttentionHeads(interleaved: headCount, size: width / headCount)

        let parameters = try file.object("rope_parameters", "rope_scaling")
        let theta = try file.positive("rotary_emb_base", "rope_theta", or: 10000)
        var share = try file.positive("rotary_pct", or: 0.25)
        if let newer = try parameters?.positive("partial_rotary_factor") { share = newer }
        guard share <= 1 else { throw LanguageModelError(.malformed, "\(file.path): rotary_pct \(share)") }
        let rope = try Rope(
            parameters, theta: theta, dimensions: Int(Double(heads.size) * share),
            maximumLength: file.size("max_position_embeddings"), path: file.path)
        ropeTable = RopeTable(rope, length: longest)

        (table, head) = try weights.embeddings(
            file.flag("tie_word_embeddings", default: false), table: "gpt_neox.embed_in", head: "embed_out", vocabulary, width)
        var layers: [Layer] = []
        for index in 0..<count {
            let name = "gpt_neox.layers.\(index)"
            layers.append(
                Layer(
                    inputNorm: try LayerNorm(weights, name + ".input_layernorm", width, epsilon: epsilon),
                    attention: try Linear(weights, name + ".attention.query_key_value", 3 * width, width, hasBias: hasBias),
                    output: try Linear(weights, name + ".attention.dense", width, width, hasBias: hasBias),
                    innerNorm: try LayerNorm(weights, name + ".post_attention_layernorm", width, epsilon: epsilon),
                    up: try Linear(weights, name + ".mlp.dense_h_to_4h", innerSize, width, hasBias: true),
                    down: try Linear(weights, name + ".mlp.dense_4h_to_h", width, innerSize, hasBias: true)))
        }
        self.layers = layers
        lastNorm = try LayerNorm(weights, "gpt_neox.final_layer_norm", width, epsilon: epsilon)
    }

    func embed(_ pass: ForwardPass) throws(LanguageModelError) { try pass.embed(table) }

    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError) {
        let layer = layers[index]
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.layerNorm(pass.stream[rows: rows], layer.inputNorm, into: normed)
            try pass.linear(normed, layer.attention, into: pass.projected[rows: rows])
            for offset in [heads.queryOffset, heads.keyOffset] {
                pass.rotate(
                    pass.projected, rows: rows, offset: offset, count: heads.count, headStride: heads.queryStride, ropeTable)
            }
        }
        try pass.forEachChunk { rows throws(LanguageModelError) in
            let stream = pass.stream[rows: rows]  // (rows, D)
            let mixed = pass.scratch(1, rows.count, width)  // (rows, D)
            let normed = pass.scratch(0, rows.count, width)  // (rows, D)
            pass.attend(heads, window: nil, rows: rows, into: mixed)
            // Side by side, the feed-forward reads the stream as attention found it.
            if isParallel { pass.layerNorm(stream, layer.innerNorm, into: normed) }
            try pass.linear(mixed, layer.output, addingTo: stream)
            if !isParallel { pass.layerNorm(stream, layer.innerNorm, into: normed) }
            let inner = pass.scratch(2, rows.count, innerSize)  // (rows, F)
            try pass.linear(normed, layer.up, into: inner)
            pass.activate(activation, inner)
            try pass.linear(inner, layer.down, addingTo: stream)
        }
    }

    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix) { pass.layerNorm(x, lastNorm, into: out) }
}
