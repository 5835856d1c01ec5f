internal import CheckpointStore
internal import TensorFormats

/// The files beside the weights that a trained snapshot takes over from the one it began with: what describes the model and its
/// tokens, and nothing that describes its training.
struct InheritedFiles: Sendable {
    /// By name, in the order of the names.
    private(set) var files: [(name: String, bytes: [UInt8])]

    private static let names = [
        "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json", "generation_config.json", "merges.txt",
        "preprocessor_config.json", "processor_config.json", "sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
    ]

    /// - Throws: `StoreError` for a file that cannot be read.
    init(_ sidecars: Sidecars) throws(StoreError) {
        files = []
        for name in InheritedFiles.names {
            if let bytes = try sidecars.contents(name) { files.append((name, bytes)) }
        }
    }

    subscript(name: String) -> [UInt8]? { files.first { $0.name == name }?.bytes }

    /// `config.json` says in which dtype weights are loaded: one that is not theirs would round them.
    ///
    /// - Parameter dtype: of the weights that are written.
    mutating func setDType(_ dtype: DType) {
        let name: String
        switch dtype {
        case .bf16: name = "bfloat16"
        case .f16: name = "float16"
        default: name = "float32"
        }
        guard let index = files.firstIndex(where: { $0.name == "config.json" }),
            case .object(var members)? = try? JSONValue.parse(files[index].bytes, path: "config.json")
        else { return }
        var isChanged = false
        for member in members.indices where ["dtype", "torch_dtype"].contains(members[member].key) {
            guard members[member].value != .string(name) else { continue }
            members[member].value = .string(name)
            isChanged = true
        }
        if isChanged { files[index].bytes = Array((JSONValue.object(members).text + "\n").utf8) }
    }

    /// The dtype that `config.json` names; nil when it names none of those that can be written.
    var dtype: DType? {
        guard let bytes = self["config.json"], let config = try? JSONValue.parse(bytes, path: "config.json") else { return nil }
        switch config["dtype"]?.string ?? config["torch_dtype"]?.string {
        case "bfloat16": return .bf16
        case "float16": return .f16
        case "float32": return .f32
        default: return nil
        }
    }
}
