/// The function between the two products of a feed-forward layer.
enum Activation: Sendable {
    case silu, gelu, geluTanh, relu

    /// Under the names `config.json` uses.
    init(_ name: String, path: String) throws(LanguageModelError) {
        switch name {
        case "silu", "swish": self = .silu
        case "gelu": self = .gelu
        case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": self = .geluTanh
        case "relu": self = .relu
        default: 
            throw LanguageModelError(
                .unsupported, "\(path): activation \"\(name)\" is not supported",
                hint: "supported are silu, swish, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu")
        }
    }
}
