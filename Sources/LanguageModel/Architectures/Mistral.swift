/// Mistral 7B (arXiv 2310.06825): Llama with a sliding window on every layer, or on none.
struct Mistral: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ decoder: PreNormDecoder) { self.decoder = decoder }

    static func configuration(_ file: ConfigurationReader) throws(LanguageModelError) -> (DecoderConfiguration, PreNormDecoder.Form) {
        var defaults = DecoderConfiguration.Defaults()
        defaults.window = 4096
        let slides = file.isSilent("sliding_window") || file.value("sliding_window") != nil
        defaults.slides = { _ in slides }
        return (try DecoderConfiguration(file, defaults), PreNormDecoder.Form(bias: false, outputBias: false))
    }
}
