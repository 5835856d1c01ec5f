/// Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on queries, keys and values. Where the configuration
/// asks for it, layers from `max_window_layers` on slide.
struct Qwen2: PreNormArchitecture {
    var decoder: PreNormDecoder

    init(_ decoder: PreNormDecoder) { self.decoder = decoder }

    static func configuration(_ file: ConfigurationReader) throws(LanguageModelError) -> (DecoderConfiguration, PreNormDecoder.Form) {
        (try DecoderConfiguration(file, try Qwen2.defaults(file)), PreNormDecoder.Form(bias: true, outputBias: false))
    }

    /// What Qwen2 and Qwen3 take where the file is silent.
    static func defaults(_ file: ConfigurationReader) throws(LanguageModelError) -> DecoderConfiguration.Defaults {
        var defaults = DecoderConfiguration.Defaults()
        defaults.window = 4096
        let slides = try file.flag("use_sliding_window", default: false)
        let firstSliding = try file.number("max_window_layers").map { Int(max(0, min($0, 1e6))) } ?? 28
        defaults.slides = { layer in slides && layer >= firstSliding }
        return defaults
    }
}
