/// A decoder that can be run: one file for each kind of model.
protocol Architecture: Sendable {
    /// Reads the configuration and finds the tensors.
    ///
    /// - Throws: `.unsupported` naming what is not followed; `.missing`, `.mismatch` naming the key or the tensor.
    init(_ config: ConfigurationReader, _ weights: Weights, longest: Int) throws(LanguageModelError)

    /// Columns of the residual stream.
    var width: Int { get }
    /// Columns of queries, keys and values.
    var projections: Int { get }
    /// Columns of keys and values.
    var cachedColumns: Int { get }
    /// Columns of one head.
    var headSize: Int { get }
    var layerCount: Int { get }
    /// (V, D): logits are the last norm's output times this, transposed.
    var head: Linear { get }
    /// Logits are cap * tanh(logit / cap).
    var logitCap: Float? { get }
    /// Columns of the widest buffers of a chunk together: what memory is reckoned by.
    var chunkColumns: Int { get }
    /// Positions it has embeddings for; nil: any number.
    var positionLimit: Int? { get }

    /// Tokens into the stream.
    func embed(_ pass: ForwardPass) throws(LanguageModelError)
    /// The stream through layer `index`.
    func forward(layer index: Int, _ pass: ForwardPass) throws(LanguageModelError)
    /// The last norm: rows of the stream that are scored into `out`, (rows.count, D).
    func finish(_ x: Matrix, _ pass: ForwardPass, into out: Matrix)
}

extension Architecture {
    var logitCap: Float? { nil }
    var positionLimit: Int? { nil }
}

/// The architectures by the name `config.json` gives as `model_type`.
enum Architectures {
    static let byName: [(name: String, type: any Architecture.Type)] = [
        ("llama", Llama.self), ("mistral", Mistral.self), ("qwen2", Qwen2.self), ("qwen3", Qwen3.self),
        ("gemma3_text", Gemma3.self), ("gemma3", Gemma3.self), ("olmo2", OLMo2.self), ("gpt2", GPT2.self), ("gpt_neox", GPTNeoX.self),
    ]

    /// The architecture that `config.json` names, and the part of the file that describes it.
    ///
    /// - Throws: `.unsupported` for what none of them follows.
    static func named(
        _ config: ConfigurationReader
    ) throws(LanguageModelError) -> (type: any Architecture.Type, config: ConfigurationReader, isNested: Bool) {
        if let method = try config.object("quantization_config")?.text("quant_method", or: "a method not named") {
            throw LanguageModelError(
                .unsupported, "\(config.path): quantization_config: weights quantised by \(method) are not supported",
                hint: "forward passes read F32, BF16 and F16")
        }
        let found = try type(config)
        // One generation of keys or the other: where both are there and differ, which one counts depends on the reader.
        if let newer = found.config.value("rope_parameters"), let older = found.config.value("rope_scaling"), newer != older {
            throw LanguageModelError(
                .unsupported, "\(config.path): rope_scaling and rope_parameters say different things", hint: "remove one of them")
        }
        return found
    }

    private static func type(
        _ config: ConfigurationReader
    ) throws(LanguageModelError) -> (type: any Architecture.Type, config: ConfigurationReader, isNested: Bool) {
        guard let name = try config.text("model_type") else {
            throw LanguageModelError(.missing, "\(config.path): no model_type")
        }
        guard let type = byName.first(where: { $0.name == name })?.type else {
            throw LanguageModelError(
                .unsupported, "\(config.path): model_type \"\(name)\" is not supported",
                hint: "supported are \(byName.map(\.name).joined(separator: ", "))")
        }
        // A model that sees too: its text part has a configuration of its own.
        guard name == "gemma3" else { return (type, config, false) }
        guard let text = try config.object("text_config") else {
            throw LanguageModelError(.missing, "\(config.path): no text_config")
        }
        return (type, text, true)
    }
}
