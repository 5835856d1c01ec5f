/// The shape of a decoder of Llama's kind, as Llama, Mistral, Qwen2, Qwen3, Gemma 3 and OLMo 2 write it to `config.json`.
///
/// Both generations of keys are read: `rope_theta`, `rope_scaling`; and `rope_parameters`, per layer type too.
struct DecoderConfiguration: Sendable {
    var hiddenSize: Int
    var innerSize: Int
    var layerCount: Int
    var headCount: Int
    var keyHeadCount: Int
    var headSize: Int
    var vocabularySize: Int
    var epsilon: Float
    var activation: Activation
    var isTied: Bool
    var attentionBias: Bool
    var feedForwardBias: Bool
    /// Positions a token sees, itself included, layer by layer; nil: all before it.
    var windows: [Int?]
    /// Layer by layer; equal ones share a table.
    var ropes: [Rope]

    /// What the architectures have different defaults for: those of the reference library.
    struct Defaults {
        var theta = 10000.0
        var localTheta: Double?
        var epsilon = 1e-6
        var isTied = false
        var headCount: Int?
        var keyHeadCount: Int?
        var headSize: Int?
        var vocabularySize: Int?
        var activationKey = "hidden_act"
        var activation = "silu"
        /// Where the key is missing; a null is none.
        var window: Int?
        /// Layers that slide where `layer_types` does not say.
        var slides: (_ layer: Int) throws(LanguageModelError) -> Bool = { _ in false }
    }

    init(_ config: ConfigurationReader, _ defaults: Defaults) throws(LanguageModelError) {
        hiddenSize = try config.neededSize("hidden_size")
        innerSize = try config.neededSize("intermediate_size")
        layerCount = try config.neededSize("num_hidden_layers")
        headCount = try config.neededSize("num_attention_heads", or: defaults.headCount)
        keyHeadCount = try config.size("num_key_value_heads", or: defaults.keyHeadCount ?? headCount)
        guard headCount % keyHeadCount == 0 else {
            throw LanguageModelError(
                .malformed, "\(config.path): \(headCount) heads do not divide into \(keyHeadCount) key and value heads")
        }
        if let size = try config.size("head_dim") {
            headSize = size
        } else if let size = defaults.headSize {
            headSize = size
        } else {
            guard hiddenSize % headCount == 0 else {
                throw LanguageModelError(.missing, "\(config.path): no head_dim, and \(hiddenSize) / \(headCount) is no whole number")
            }
            headSize = hiddenSize / headCount
        }
        vocabularySize = try config.neededSize("vocab_size", or: defaults.vocabularySize)
        epsilon = Float(try config.positive("rms_norm_eps", or: defaults.epsilon))
        let name = try config.text(defaults.activationKey, "hidden_act", or: defaults.activation)
        activation = try Activation(name, path: config.path)
        isTied = try config.flag("tie_word_embeddings", default: defaults.isTied)
        attentionBias = try config.flag("attention_bias", default: false)
        feedForwardBias = try config.flag("mlp_bias", default: false)
        guard layerCount <= 4096 else { throw LanguageModelError(.malformed, "\(config.path): \(layerCount) layers; up to 4096 are followed") }

        let types = try config.texts("layer_types")
        var slides: [Bool] = []
        for layer in 0..<layerCount {
            guard let types else {
                slides.append(try defaults.slides(layer))
                continue
            }
            guard layer < types.count else {
                throw LanguageModelError(.malformed, "\(config.path): layer_types has \(types.count) entries for \(layerCount) layers")
            }
            switch types[layer] {
            case "full_attention": slides.append(false)
            case "sliding_attention": slides.append(true)
            default:
                throw LanguageModelError(.unsupported, "\(config.path): layer type \"\(types[layer])\" is not supported")
            }
        }
        let window = try config.isSilent("sliding_window") ? defaults.window : config.size("sliding_window")
        windows = slides.map { $0 ? window : nil }
        if slides.contains(true), window == nil {
            throw LanguageModelError(.missing, "\(config.path): no sliding_window")
        }

        let maximumLength = try config.size("max_position_embeddings")
        for holder in [config, try config.object("rope_parameters")] {
            guard let share = try holder?.number("partial_rotary_factor"), share != 1 else { continue }
            throw LanguageModelError(.unsupported, "\(config.path): partial_rotary_factor \(share) is not supported here")
        }
        let theta = try config.positive("rope_theta", or: defaults.theta)
        let newer = try config.object("rope_parameters")
        var full: ConfigurationReader?
        var local: ConfigurationReader?
        if let perType = try newer?.object("full_attention") {
            full = perType
            local = try newer?.object("sliding_attention")
        } else {
            full = try config.object("rope_parameters", "rope_scaling")
            // One object holds for all layers, but where older files of Gemma have a theta of their own for those that slide.
            local = defaults.localTheta == nil ? full : nil
        }
        let localTheta = try config.positive("rope_local_base_freq", or: defaults.localTheta ?? theta)
        let global = try Rope(full, theta: theta, dimensions: headSize, maximumLength: maximumLength, path: config.path)
        let sliding = try Rope(local, theta: localTheta, dimensions: headSize, maximumLength: maximumLength, path: config.path)
        ropes = slides.map { $0 ? sliding : global }
    }
}
