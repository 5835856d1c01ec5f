internal import TensorFormats

/// A `tokenizer.json`, read.
///
/// The model is nine tenths of the file and goes straight into tables; the rest is small and read as trees. Whether
/// tokens are written in the alphabet of bytes is for the pre-tokenizer to say; a model that comes before it is
/// skipped and read at the end.
struct TokenizerFile {
    let normalizer: Normalizer
    let preTokenizer: PreTokenizer
    let model: BytePairModel
    let added: AddedTokens
    let template: SpecialTokenTemplate
    let decoder: TokenDecoder

    /// - Throws: `.malformed` where the bytes are no tokenizer, `.unsupported` for what this library does not do.
    /// - Complexity: O(n) in the bytes.
    init(_ bytes: UnsafeBufferPointer<UInt8>, path: String) throws(LanguageModelError) {
        var parts: [String: JSONValue] = [:]
        var modelStart: Int?
        var file: ModelFile?
        do throws(FormatError) {
            var scanner = JSONScanner(bytes, path: path)
            try scanner.open(UInt8(ascii: "{"))
            var first = true
            while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
                let key = try scanner.key()
                _ = scanner.peek()
                let start = scanner.position
                guard parts[key] == nil, key != "model" || modelStart == nil else {
                    throw scanner.failure("\(quoted(key)) occurs twice")
                }
                if key == "model" {
                    modelStart = start
                    if let part = parts["pre_tokenizer"] {
                        file = try ModelFile(&scanner, isByteLevel: PipelineReader.isByteLevel(part), size: bytes.count)
                    } else {
                        try scanner.skipValue()
                    }
                } else {
                    try scanner.skipValue()
                    parts[key] = try JSONValue.parse(Array(bytes[start..<scanner.position]), path: path)
                }
            }
            try scanner.finish()
            if file == nil, let modelStart {
                var scanner = JSONScanner(
                    UnsafeBufferPointer(rebasing: bytes[modelStart...]), path: path, origin: UInt64(modelStart))
                let isByteLevel = PipelineReader.isByteLevel(parts["pre_tokenizer"] ?? .null)
                file = try ModelFile(&scanner, isByteLevel: isByteLevel, size: bytes.count)
            }
        } catch {
            throw LanguageModelError(error)
        }
        guard let file else {
            throw LanguageModelError(.malformed, "\(path): no \"model\": not a tokenizer.json")
        }
        let reader = PipelineReader(path: path)
        let known: Set = [
            "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
        ]
        if let key = parts.keys.filter({ !known.contains($0) }).min() { throw reader.unsupported(quoted(key)) }
        if let version = parts["version"], version.string != "1.0" { throw reader.unsupported("its version") }
        normalizer = try reader.normalizer(parts["normalizer"] ?? .null)
        preTokenizer = try reader.preTokenizer(parts["pre_tokenizer"] ?? .null)
        decoder = try reader.decoder(parts["decoder"] ?? .null)
        let tokens = try reader.addedTokens(parts["added_tokens"] ?? .array([]), file)
        guard let added = AddedTokens(tokens, normalizer: normalizer) else {
            throw LanguageModelError(.malformed, "\(path): an added token is nothing once it is normalised")
        }
        self.added = added
        model = try file.model(path: path)
        template = try reader.template(parts["post_processor"] ?? .null)
        // Ids of the template are checked here, where all tokens are known.
        for id in template.before + template.after where model.vocabulary.bytes(id) == nil && added[id] == nil {
            throw LanguageModelError(.malformed, "\(path): post_processor: no token has the id \(id)")
        }
    }
}

/// Special tokens around a text.
struct SpecialTokenTemplate: Sendable {
    var before: [Int32] = []
    var after: [Int32] = []
}

extension LanguageModelError {
    init(_ error: FormatError) {
        let code: Code = error.code == .unsupported ? .unsupported : error.code == .io ? .failed : .malformed
        var bare = error
        bare.hint = nil
        self.init(code, bare.description, hint: error.hint)
    }
}
