/// Mistral 7B (arXiv 2310.06825): Llama with a sliding window on every layer, or on none.
struct Mistral: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ file: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError) {
        var defaults = DecoderConfiguration.Defaults()
        defaults.window = 4096
        let slides = file.isSilent("sliding_window") || file.value("sliding_window") != nil
        defaults.slides = { _ in slides }
        let config = try DecoderConfiguration(file, defaults)
        decoder = try PreNormDecoder(config, weights, longest: longest, bias: false, outputBias: false)
    }
}
