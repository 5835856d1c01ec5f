extension GPT2 {
    /// The shape of a GPT-2, as its `config.json` has it.
    struct Configuration: Sendable {
        var width: Int
        var innerSize: Int
        var layerCount: Int
        var headCount: Int
        var vocabularySize: Int
        var positions: Int
        var activation: Activation
        var epsilon: Float
        var isTied: Bool
        var isScaled: Bool
        var isScaledByLayer: Bool

        init(_ file: ConfigurationReader) throws(LanguageModelError) {
            try file.refuse("add_cross_attention")
            width = try file.neededSize("n_embd")
            innerSize = try file.size("n_inner", or: 4 * width)
            layerCount = try file.neededSize("n_layer")
            headCount = try file.neededSize("n_head")
            guard width % headCount == 0, layerCount <= 4096 else {
                throw LanguageModelError(.malformed, "\(file.path): \(width) columns in \(headCount) heads, \(layerCount) layers")
            }
            vocabularySize = try file.neededSize("vocab_size")
            positions = try file.neededSize("n_positions")
            activation = try Activation(try file.text("activation_function", or: "gelu_new"), path: file.path)
            epsilon = Float(try file.positive("layer_norm_epsilon", or: 1e-5))
            isTied = try file.flag("tie_word_embeddings", default: true)
            isScaled = try file.flag("scale_attn_weights", default: true)
            isScaledByLayer = try file.flag("scale_attn_by_inverse_layer_idx", default: false)
        }

        func heads(layer: Int) -> AttentionHeads {
            let size = width / headCount
            var scale: Float = isScaled ? 1 / Float(size).squareRoot() : 1
            if isScaledByLayer { scale /= Float(layer + 1) }
            return AttentionHeads(count: headCount, keyCount: headCount, size: size, scale: scale)
        }
    }
}
