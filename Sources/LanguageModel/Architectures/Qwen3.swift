/// Qwen3, dense (arXiv 2505.09388): Qwen2 with queries and keys normed head by head, and no biases unless asked for.
struct Qwen3: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ decoder: PreNormDecoder) { self.decoder = decoder }

    static func configuration(_ file: ConfigurationReader) throws(LanguageModelError) -> (DecoderConfiguration, PreNormDecoder.Form) {
        var defaults = try Qwen2.defaults(file)
        defaults.headSize = 128
        let config = try DecoderConfiguration(file, defaults)
        return (
            config, PreNormDecoder.Form(bias: config.attentionBias, outputBias: config.attentionBias, headNorms: true)
        )
    }
}
