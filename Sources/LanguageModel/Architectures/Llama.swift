/// Llama 2 (arXiv 2307.09288) and 3 (arXiv 2407.21783), and models saved in their form.
struct Llama: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        let config = try DecoderConfiguration(file, DecoderConfiguration.Defaults())
        decoder = try PreNormDecoder(
            config, weights, longest: longest, bias: config.attentionBias, outputBias: config.attentionBias)
    }
}
