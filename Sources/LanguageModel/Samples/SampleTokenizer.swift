public import CheckpointStore

/// Makes the tokens of samples that come as text, by a tokenizer and the files beside it.
///
/// Training and entropies take their tokens, and which of them are supervised, from here alone.
public struct SampleTokenizer: Sendable {
    /// SHA-256 of the tokenizer.json.
    public let id: ContentID
    /// What it works by.
    public let tokenizer: Tokenizer
    /// What to do about a conversation whose chat template is not known, for the error.
    public var unknownTemplateHint: String?
    let name: String
    private let settings: TokenizerSettings
    private let appendsEnd: Bool

    /// - Parameters:
    ///   - files: a tokenizer.json and, where there are some, generation_config.json, config.json, tokenizer_config.json and
    ///     chat_template.jinja.
    ///   - appendsEnd: whether a completion that lacks an end of sequence gets one.
    /// - Throws: `.missing` without a tokenizer.json, `.malformed` and `.unsupported` naming file and key.
    /// - Complexity: O(bytes).
    public init(_ files: Sidecars, appendsEnd: Bool = true) throws(LanguageModelError) {
        name = files.name
        let path = "\(files.name)/tokenizer.json"
        guard let bytes = try TokenizerSettings.contents("tokenizer.json", files) else {
            throw LanguageModelError(
                .missing, "\(path): not there",
                hint: "transformers writes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
        }
        id = ContentID.hash(of: bytes)
        tokenizer = try Tokenizer(json: bytes, path: path)
        settings = try TokenizerSettings(files, tokenizer)
        self.appendsEnd = appendsEnd
    }

    /// The bytes a token stands for; nil for an id that is nobody's.
    public func piece(_ id: Int32) -> [UInt8]? {
        let bytes = tokenizer.piece(id)
        return bytes.isEmpty ? nil : bytes
    }

    /// Tokens that end a sequence: as generation_config.json says, else config.json, else the tokenizer's own; none where no file
    /// names one.
    public var ends: [Int32] { settings.knownEnds }

    /// The tokens of a prompt by itself, as `sample` begins with them.
    public func prompt(_ text: String) -> [Int32] {
        let tokens = tokenizer.encode(text, addSpecialTokens: false)
        return tokens.starts(with: tokenizer.tokensBefore) ? tokens : tokenizer.tokensBefore + tokens
    }

    /// The tokens of a conversation up to where the assistant is to speak.
    ///
    /// - Throws: where the chat template is not known, or raises an exception.
    public func prompt(_ messages: [ProbeLine.Message]) throws(LanguageModelError) -> [Int32] {
        // What the assistant says begins where the generation prompt ends.
        let (text, _) = try written(messages + [ProbeLine.Message(role: "assistant", content: "a")]).lastReply
        return tokenizer.encode(text, addSpecialTokens: false)
    }

    /// The tokens of a line before what is supervised last: of a conversation without the assistant's last turn.
    ///
    /// - Throws: naming file, line and sample.
    public func prompt(_ line: ProbeLine) throws(LanguageModelError) -> [Int32] {
        switch line.content {
        case .text(let prompt, _): return self.prompt(prompt)
        case .tokens(let tokens, let start): return Array(tokens[..<start])
        case .messages(let messages):
            do throws(LanguageModelError) {
                return try prompt(messages.last?.role == "assistant" ? Array(messages.dropLast()) : messages)
            } catch {
                throw LanguageModelError(error.code, "\(line.place): sample \"\(line.id)\": \(error.reason)", hint: error.hint)
            }
        }
    }

    /// The sample of a line, which lines of tokens are already.
    ///
    /// - Throws: naming file, line and sample.
    /// - Complexity: as of encoding its text.
    public func sample(_ line: ProbeLine) throws(LanguageModelError) -> ProbeSample {
        if let sample = line.sample { return sample }
        do throws(LanguageModelError) {
            switch line.content {
            case .text(let prompt, let completion): return try sample(line.id, prompt: prompt, completion: completion)
            case .messages(let messages): return try sample(line.id, messages: messages)
            case .tokens: preconditionFailure("lines of tokens are samples")
            }
        } catch {
            throw LanguageModelError(error.code, "\(line.place): sample \"\(line.id)\": \(error.reason)", hint: error.hint)
        }
    }

    /// Whether the prompt or the completion of a line has characters that the tokenizer leaves out, or writes otherwise than they
    /// are: the tokens then do not say all that the text says.
    ///
    /// - Complexity: as of encoding its text.
    public func isLossy(_ line: ProbeLine) -> Bool {
        guard case .text(let prompt, let completion) = line.content else { return false }
        return [prompt, completion].contains { tokenizer.encode(parts: [$0]).ranges == nil }
    }

    /// Prompt and completion are tokenised apart and joined. The beginning of sequence is put before the prompt if the
    /// tokenizer adds one and the text does not start with it; the end of sequence after the completion if that lacks one.
    ///
    /// Where an empty prompt gets no beginning of sequence, the completion's first token has nothing to be predicted from: it is
    /// not supervised, those after it are.
    func sample(_ id: String, prompt: String, completion: String) throws(LanguageModelError) -> ProbeSample {
        var tokens = self.prompt(prompt)
        let start = max(tokens.count, 1)
        let completed = tokenizer.encode(completion, addSpecialTokens: false)
        guard let last = completed.last else { throw LanguageModelError(.mismatch, "the completion has no token") }
        tokens += completed
        if appendsEnd {
            let ends = try settings.ends(name)
            if !ends.contains(last) { tokens.append(ends[0]) }
        }
        guard start < tokens.count else {
            throw LanguageModelError(
                .mismatch, "the completion is one token with nothing before it to predict it from", hint: "give it a prompt")
        }
        return ProbeSample(id: id, tokens: tokens, supervised: [start..<tokens.count], prompt: prompt, completion: completion)
    }

    /// The tokens of what the chat template makes of the conversation; what the assistant says, and the token that ends each of
    /// its turns, are supervised.
    func sample(_ id: String, messages: [ProbeLine.Message]) throws(LanguageModelError) -> ProbeSample {
        try tokenizer.sample(id, written(messages))
    }

    /// The conversation as the chat template writes it.
    private func written(_ messages: [ProbeLine.Message]) throws(LanguageModelError) -> ChatText {
        let template = try settings.template(name, hint: unknownTemplateHint)
        if let index = messages.firstIndex(where: { !["system", "user", "assistant"].contains($0.role) }) {
            throw LanguageModelError(
                .unsupported, "message \(index) is of \"\(messages[index].role)\"", hint: "roles are system, user and assistant")
        }
        var text = ChatText(beginning: settings.beginning, end: settings.endText)
        try template.write(messages, to: &text)
        return text
    }
}

extension Tokenizer {
    /// The sample of a conversation: the tokens of the whole text, those of what the model says supervised.
    func sample(_ id: String, _ text: ChatText) throws(LanguageModelError) -> ProbeSample {
        let (tokens, ranges) = encode(parts: text.parts.map(\.text))
        guard let ranges else {
            throw LanguageModelError(
                .unsupported, "its tokens cannot be laid over its text", hint: "it has characters that the tokenizer leaves out")
        }
        var supervised: [Range<Int>] = []
        for (part, range) in zip(text.parts, ranges) where part.isSupervised && !range.isEmpty {
            if let last = supervised.last, range.lowerBound <= last.upperBound {
                supervised[supervised.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                supervised.append(range)
            }
        }
        guard !supervised.isEmpty else { throw LanguageModelError(.mismatch, "no token is supervised") }
        let (prompt, completion) = text.lastReply
        return ProbeSample(id: id, tokens: tokens, supervised: supervised, prompt: prompt, completion: completion)
    }
}
