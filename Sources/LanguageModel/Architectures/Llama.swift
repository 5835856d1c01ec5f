/// Llama 2 (arXiv 2307.09288) and 3 (arXiv 2407.21783), and models saved in their form.
struct Llama: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ decoder: PreNormDecoder) { self.decoder = decoder }

    static func configuration(_ file: ConfigurationReader) throws(LanguageModelError) -> (DecoderConfiguration, PreNormDecoder.Form) {
        let config = try DecoderConfiguration(file, DecoderConfiguration.Defaults())
        return (config, PreNormDecoder.Form(bias: config.attentionBias, outputBias: config.attentionBias))
    }
}
