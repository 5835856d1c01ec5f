internal import CheckpointStore
internal import TensorFormats

/// What the files beside a tokenizer.json say: where sequences begin and end, and how conversations are written.
struct TokenizerSettings: Sendable {
    /// The texts of the beginning and the end of sequence in tokenizer_config.json.
    let beginning: String?
    let endText: String?
    /// All tokens that end a sequence; the first one is appended.
    let knownEnds: [Int32]
    private let chatTemplate: ChatTemplateText?
    /// The model's name, where a file gives it.
    private let model: String?

    init(_ files: Sidecars, _ tokenizer: Tokenizer) throws(LanguageModelError) {
        let generation = try TokenizerSettings.reader("generation_config.json", files)
        let config = try TokenizerSettings.reader("config.json", files)
        let own = try TokenizerSettings.reader("tokenizer_config.json", files)
        beginning = try own.flatMap { (own) throws(LanguageModelError) in try TokenizerSettings.token("bos_token", own) }
        endText = try own.flatMap { (own) throws(LanguageModelError) in try TokenizerSettings.token("eos_token", own) }
        var ends: [Int32] = []
        for reader in [generation, config] where ends.isEmpty {
            guard let reader else { continue }
            ends = try TokenizerSettings.ends(reader, below: tokenizer.vocabularyCount)
        }
        if ends.isEmpty, let endText {
            guard let end = tokenizer.id(of: endText) else {
                throw LanguageModelError(
                    .mismatch, "\(files.name)/tokenizer_config.json: eos_token \"\(endText)\" is no token of tokenizer.json")
            }
            ends = [end]
        }
        knownEnds = ends
        chatTemplate = try ChatTemplateText(files, own)
        let names = [config?.value("_name_or_path"), own?.value("name_or_path")].compactMap { $0?.string }
        model = names.first { !$0.isEmpty }
    }

    static func contents(_ path: String, _ files: Sidecars) throws(LanguageModelError) -> [UInt8]? {
        do throws(StoreError) {
            return try files.contents(path)
        } catch {
            throw LanguageModelError(.failed, error.reason, hint: error.hint)
        }
    }

    private static func reader(_ path: String, _ files: Sidecars) throws(LanguageModelError) -> ConfigurationReader? {
        guard let bytes = try contents(path, files) else { return nil }
        return try ConfigurationReader(bytes, path: "\(files.name)/\(path)")
    }

    /// A special token: its text, or an object with it.
    private static func token(_ key: String, _ reader: ConfigurationReader) throws(LanguageModelError) -> String? {
        guard let value = reader.value(key) else { return nil }
        guard let text = value.string ?? value["content"]?.string else { throw reader.malformed(key, "a token") }
        return text
    }

    /// `eos_token_id`: one id or a list.
    private static func ends(_ reader: ConfigurationReader, below count: Int) throws(LanguageModelError) -> [Int32] {
        guard let value = reader.value("eos_token_id") else { return [] }
        var ends: [Int32] = []
        for element in value.array ?? [value] {
            guard let id = element.unsigned, id < UInt64(count) else {
                throw reader.malformed("eos_token_id", "an id of the tokenizer's \(count), or a list of them")
            }
            ends.append(Int32(id))
        }
        return ends
    }

    /// The tokens that end a sequence, one at least.
    func ends(_ name: String) throws(LanguageModelError) -> [Int32] {
        guard !knownEnds.isEmpty else {
            throw LanguageModelError(
                .missing, "\(name) names no end of sequence to put after the completion",
                hint: "eos_token_id in generation_config.json or config.json, or eos_token in tokenizer_config.json; "
                    + "or ckpt probe add --no-eos")
        }
        return knownEnds
    }

    /// - Parameter hint: what to do where the template is not known.
    func template(_ name: String, hint: String?) throws(LanguageModelError) -> any ChatTemplate {
        guard let chatTemplate else {
            throw LanguageModelError(
                .missing, "\(name) has no chat template, which says how conversations are written",
                hint: "give prompt and completion, or tokens as input_ids and completion_start")
        }
        if let template = KnownChatTemplates.named(chatTemplate.hash) { return template }
        let reason = KnownChatTemplates.refusal(chatTemplate.hash) ?? "is not known"
        let owner = model.map { " (of \($0))" } ?? ""
        throw LanguageModelError(
            .unsupported, "\(chatTemplate.path): chat template \(chatTemplate.hash.short)\(owner) \(reason)", hint: hint)
    }
}

/// The text of a chat template: chat_template.jinja, else what tokenizer_config.json has, which may be several by name.
private struct ChatTemplateText {
    let path: String
    /// SHA-256 of the text without a line feed at its end, which Jinja drops too.
    let hash: ContentID

    init?(_ files: Sidecars, _ reader: ConfigurationReader?) throws(LanguageModelError) {
        if var bytes = try TokenizerSettings.contents("chat_template.jinja", files) {
            path = "\(files.name)/chat_template.jinja"
            if bytes.last == 0x0A { bytes.removeLast() }
            hash = ContentID.hash(of: bytes)
            return
        }
        guard let reader, let value = reader.value("chat_template") else { return nil }
        path = reader.path
        let named = value.array?.last { $0["name"]?.string == "default" }?["template"]
        guard let text = value.string ?? named?.string else {
            if value.array != nil { return nil }
            throw reader.malformed("chat_template", "a text, or a list of named ones")
        }
        var bytes = Array(text.utf8)
        if bytes.last == 0x0A { bytes.removeLast() }
        hash = ContentID.hash(of: bytes)
    }
}
