internal import TensorFormats

/// Reads the small parts of a `tokenizer.json`: what surrounds the model.
///
/// Every part is named and known, or the tokenizer is refused.
struct PipelineReader {
    let path: String

    func unsupported(_ what: String) -> LanguageModelError {
        LanguageModelError(
            .unsupported, "\(path): \(what) is not supported",
            hint: "probes that are tokens already always work: lines of {\"id\", \"input_ids\", \"completion_start\"}")
    }

    func malformed(_ what: String) -> LanguageModelError {
        LanguageModelError(.malformed, "\(path): \(what)")
    }

    /// Whether a pre-tokenizer hands bytes to the model.
    static func isByteLevel(_ value: JSONValue) -> Bool {
        value["type"]?.string == "ByteLevel" || (value["pretokenizers"]?.array ?? []).contains { isByteLevel($0) }
    }

    func normalizer(_ value: JSONValue) throws(LanguageModelError) -> Normalizer {
        var (normalizer, growth) = (Normalizer(), 1)
        for step in try flattened(value, "normalizers", in: "normalizer") {
            switch try string(step, "type", in: "normalizer") {
            case "NFC":
                try grow(&growth, by: 3, "normalizer")
                normalizer.steps.append(.nfc)
            case "Replace":
                let (wanted, content) = try replacement(step, &growth, in: "normalizer")
                normalizer.steps.append(.replace(wanted, content))
            case "Prepend":
                let prefix = Array(try string(step, "prepend", in: "normalizer").utf8)
                try grow(&growth, by: 1 + prefix.count, "normalizer")
                normalizer.steps.append(.prepend(prefix))
            case let type: throw unsupported("a normalizer of type \(shown(type))")
            }
        }
        return normalizer
    }

    func preTokenizer(_ value: JSONValue) throws(LanguageModelError) -> PreTokenizer {
        var result = PreTokenizer()
        let steps = try flattened(value, "pretokenizers", in: "pre_tokenizer")
        for (index, step) in steps.enumerated() {
            let type = try string(step, "type", in: "pre_tokenizer")
            let part = "a pre-tokenizer of type \(shown(type))"
            switch type {
            case "ByteLevel":
                // What comes after it would cut bytes, not characters.
                guard index == steps.count - 1 else { throw unsupported("a pre-tokenizer after ByteLevel") }
                let usesRegex = try bool(step, "use_regex", in: part, default: true)
                result.spaceFirst = try bool(step, "add_prefix_space", in: part)
                if usesRegex { result.cuts.append(.pattern(.gpt2)) }
                result.spaceStep = index
            case "Split": result.cuts.append(try split(step, part))
            case "Digits": result.cuts.append(.digits(individual: try bool(step, "individual_digits", in: part)))
            case "Metaspace":
                guard steps.count == 1 else { throw unsupported("Metaspace beside another pre-tokenizer") }
                result.metaspace = try metaspace(step, part)
            default: throw unsupported(part)
            }
        }
        return result
    }

    private func split(_ step: JSONValue, _ part: String) throws(LanguageModelError) -> PreTokenizer.Cut {
        let behavior = try string(step, "behavior", in: part)
        if try bool(step, "invert", in: part) { throw unsupported("an inverted Split") }
        if let regex = step[key: "pattern"]?[key: "Regex"]?.string {
            guard let pattern = SplitPattern(regex: regex) else { throw unsupported("the Split pattern \(quoted(regex))") }
            guard behavior == "Isolated" else { throw unsupported("a Split pattern with behavior \(shown(behavior))") }
            return .pattern(pattern)
        }
        let delimiter = try literal(step, in: part)
        guard behavior == "MergedWithPrevious" else { throw unsupported("a Split text with behavior \(shown(behavior))") }
        return .after(delimiter)
    }

    private func metaspace(_ step: JSONValue, _ part: String) throws(LanguageModelError) -> PreTokenizer.Metaspace {
        let replacement = try string(step, "replacement", in: part)
        guard replacement.unicodeScalars.count == 1 else { throw malformed("\(part): \"replacement\" is no character") }
        let prepending: PreTokenizer.Metaspace.Prepending
        switch step[key: "prepend_scheme"]?.string {
        case "always", nil: prepending = .always
        case "first": prepending = .first
        case "never": prepending = .never
        case let scheme?: throw unsupported("\(part) with prepend_scheme \(quoted(scheme))")
        }
        if prepending != .never, !(try bool(step, "add_prefix_space", in: part, default: true)) {
            throw malformed("\(part): add_prefix_space contradicts prepend_scheme")
        }
        return PreTokenizer.Metaspace(
            replacement: Array(replacement.utf8), prepending: prepending, cuts: try bool(step, "split", in: part, default: true))
    }

    func template(_ value: JSONValue) throws(LanguageModelError) -> SpecialTokenTemplate {
        var result: SpecialTokenTemplate?
        for step in try flattened(value, "processors", in: "post_processor") {
            switch try string(step, "type", in: "post_processor") {
            // Changes offsets only.
            case "ByteLevel": break
            case "TemplateProcessing":
                guard result == nil else { throw unsupported("more than one TemplateProcessing") }
                result = try singleTemplate(step)
            case let type: throw unsupported("a post-processor of type \(shown(type))")
            }
        }
        return result ?? SpecialTokenTemplate()
    }

    private func singleTemplate(_ step: JSONValue) throws(LanguageModelError) -> SpecialTokenTemplate {
        var (result, isAfter) = (SpecialTokenTemplate(), false)
        guard let pieces = step[key: "single"]?.array else { throw malformed("post_processor: \"single\" is no array") }
        for piece in pieces {
            if let name = piece[key: "SpecialToken"]?[key: "id"]?.string {
                guard let ids = step[key: "special_tokens"]?[key: name]?[key: "ids"]?.array else {
                    throw malformed("post_processor: no ids of \(quoted(name))")
                }
                for value in ids {
                    let id = try id(value, in: "post_processor")
                    if isAfter { result.after.append(id) } else { result.before.append(id) }
                }
            } else if piece[key: "Sequence"]?[key: "id"]?.string == "A", !isAfter {
                isAfter = true
            } else {
                throw unsupported("a template of another shape than special tokens around one text")
            }
        }
        guard isAfter else { throw unsupported("a template without the text") }
        return result
    }

    func decoder(_ value: JSONValue) throws(LanguageModelError) -> TokenDecoder {
        if value == .null { return TokenDecoder() }
        var (steps, growth): ([TokenDecoder.Step], Int) = ([], 1)
        for step in try flattened(value, "decoders", in: "decoder") {
            let type = try string(step, "type", in: "decoder")
            switch type {
            case "ByteLevel": steps.append(.byteLevel)
            case "ByteFallback": steps.append(.byteFallback)
            case "Fuse": steps.append(.fuse)
            case "Replace":
                let (wanted, content) = try replacement(step, &growth, in: "decoder")
                steps.append(.replace(wanted, content))
            case "Strip":
                let content = try string(step, "content", in: "decoder")
                guard let start = step[key: "start"]?.unsigned, let stop = step[key: "stop"]?.unsigned, !content.isEmpty else {
                    throw malformed("decoder: a Strip without content, start and stop")
                }
                steps.append(.strip(Array(content.utf8), start: Int(clamping: start), stop: Int(clamping: stop)))
            case "Metaspace":
                let metaspace = try metaspace(step, "a decoder of type Metaspace")
                steps.append(.metaspace(replacement: metaspace.replacement, dropsFirst: metaspace.prepending != .never))
            default: throw unsupported("a decoder of type \(shown(type))")
            }
        }
        return TokenDecoder(steps: steps)
    }

    /// The added tokens, with the ids that the file gives them: those of the vocabulary, else the next free ones.
    func addedTokens(_ value: JSONValue, _ file: ModelFile) throws(LanguageModelError) -> [AddedTokens.Token] {
        guard let elements = value.array else { throw malformed("\"added_tokens\" is no array") }
        var (tokens, greatest, texts): ([AddedTokens.Token], Int32?, Set<[UInt8]>) = ([], nil, [])
        for element in elements {
            let part = "added_tokens[\(tokens.count)]"
            let text = try string(element, "content", in: part)
            let token = AddedTokens.Token(
                id: try id(element[key: "id"], in: part), text: Array(text.utf8),
                isSpecial: try bool(element, "special", in: part),
                isNormalized: try bool(element, "normalized", in: part),
                stripsLeft: try bool(element, "lstrip", in: part), stripsRight: try bool(element, "rstrip", in: part),
                isSingleWord: try bool(element, "single_word", in: part))
            guard !token.text.isEmpty else { throw malformed("\(part): an empty token") }
            guard texts.insert(token.text).inserted else { throw malformed("\(part): \(quoted(text)) occurs twice") }
            // The library numbers by this rule, whatever the file says; where they differ, which is meant?
            let count = Int32(clamping: file.vocabulary.count)
            let expected =
                file.vocabulary.id(text: token.text) ?? greatest.map { $0 >= count || count == 0 ? $0 + 1 : count } ?? count
            guard token.id == expected else {
                throw malformed("\(part): \(quoted(text)) has the id \(token.id), which should be \(expected)")
            }
            greatest = max(greatest ?? token.id, token.id)
            tokens.append(token)
        }
        return tokens
    }
}
