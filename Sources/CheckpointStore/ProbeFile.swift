internal import TensorFormats

/// One line of a probe file: a sample as text, as a conversation, or as tokens.
public struct ProbeLine: Sendable, Equatable {
    /// One turn of a conversation.
    public struct Message: Sendable, Equatable {
        /// `system`, `user` or `assistant`.
        public var role: String
        public var content: String

        public init(role: String, content: String) {
            self.role = role
            self.content = content
        }
    }

    /// What a line has.
    public enum Content: Sendable, Equatable {
        /// Text; the completion is supervised.
        case text(prompt: String, completion: String)
        /// One of an assistant at least.
        case messages([Message])
        /// The completion's first token is neither the first of all nor past the last.
        case tokens([Int32], completionStart: Int)
    }

    /// The file and the line, as errors name it.
    public var place: String
    /// Unique in its file.
    public var id: String
    public var content: Content

    public init(place: String, id: String, content: Content) {
        self.place = place
        self.id = id
        self.content = content
    }

    /// The sample, when the line has tokens; nil when they are still to be made.
    public var sample: ProbeSample? {
        guard case .tokens(let tokens, let start) = content else { return nil }
        return ProbeSample(id: id, tokens: tokens, supervised: [start..<tokens.count])
    }
}

/// Probe files: JSON lines, each `{"id", "prompt", "completion"}`, `{"id", "messages": [{"role", "content"}]}` or
/// `{"id", "input_ids", "completion_start"}`.
public enum ProbeFile {
    /// Bytes a file may have.
    public static let maximumBytes = JSONLines.maximumBytes

    /// The members of a line that hold the text; given, every line is read as text.
    public struct TextKeys: Sendable {
        public var prompt: String
        public var completion: String

        public init(prompt: String = "prompt", completion: String = "completion") {
            self.prompt = prompt
            self.completion = completion
        }
    }

    /// The lines of the file at `path`, in order. Ids are texts or integers; a line without one has its number as id.
    ///
    /// - Parameter promptsOnly: whether a text may lack its completion (it is empty then), and a conversation the assistant.
    /// - Throws: `.badInput` with file, line and key.
    /// - Complexity: O(bytes).
    public static func read(_ path: String, keys: TextKeys? = nil, promptsOnly: Bool = false) throws(StoreError) -> [ProbeLine] {
        try throwingStoreErrors {
            var lines: [ProbeLine] = []
            var places: [ExactName: String] = [:]
            try JSONLines(path).forEach { line in
                let id = try line.id()
                if let first = places.updateValue(line.place, forKey: ExactName(id)) {
                    throw StoreError(.badInput, "\(line.place): id \"\(id)\" is that of \(first) too", hint: "ids are unique in a file")
                }
                lines.append(ProbeLine(place: line.place, id: id, content: try content(line, keys, promptsOnly)))
            }
            guard !lines.isEmpty else { throw StoreError(.badInput, "\(path): no samples in it") }
            return lines
        }
    }

    private static func content(_ line: JSONLine, _ keys: TextKeys?, _ promptsOnly: Bool) throws -> ProbeLine.Content {
        if keys == nil, let ids = line["input_ids"] { return try tokens(ids, line) }
        if keys == nil, let messages = line["messages"] { return .messages(try self.messages(messages, line, promptsOnly)) }
        let hint = "a line has prompt and completion (other names: --prompt-key, --completion-key), messages, or input_ids"
        let keys = keys ?? TextKeys()
        return .text(
            prompt: try line.string(keys.prompt, hint: hint),
            completion: promptsOnly && line[keys.completion] == nil ? "" : try line.string(keys.completion, hint: hint))
    }

    private static func tokens(_ ids: JSONValue, _ line: JSONLine) throws -> ProbeLine.Content {
        guard let values = ids.array else { throw line.failure("input_ids", "is no list") }
        var tokens: [Int32] = []
        tokens.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            guard let token = value.unsigned.flatMap({ Int32(exactly: $0) }) else {
                throw line.failure("input_ids", "at \(index): not a token id", hint: "integers from 0 to \(Int32.max)")
            }
            tokens.append(token)
        }
        let hint = "the index of the completion's first token, from 1 to one less than there are"
        guard tokens.count > 1 else {
            throw line.failure("completion_start", "has no place where input_ids has \(tokens.isEmpty ? "no tokens" : "one token")", hint: hint)
        }
        guard let start = line["completion_start"] else { throw line.failure("completion_start", "is missing", hint: hint) }
        guard let index = start.unsigned.flatMap({ Int(exactly: $0) }), index >= 1, index < tokens.count else {
            throw line.failure("completion_start", "is not within 1 to \(tokens.count - 1)", hint: hint)
        }
        return .tokens(tokens, completionStart: index)
    }

    private static func messages(_ value: JSONValue, _ line: JSONLine, _ promptsOnly: Bool) throws -> [ProbeLine.Message] {
        let hint = "a list of {\"role\": ..., \"content\": ...}"
        guard let values = value.array else { throw line.failure("messages", "is no list", hint: hint) }
        let messages = try values.enumerated().map { index, value in
            guard let role = value["role"]?.string, let content = value["content"]?.string else {
                throw line.failure("messages", "at \(index): without a role and a content of text", hint: hint)
            }
            // Calls of tools, thoughts: a template would write them too.
            if let member = value.members?.first(where: { !["role", "content"].contains($0.key) && $0.value != .null }) {
                throw line.failure("messages", "at \(index): \"\(member.key)\" is not supported", hint: hint)
            }
            return ProbeLine.Message(role: role, content: content)
        }
        if line["tools"] != nil { throw line.failure("tools", "is not supported: a chat template would write them", hint: hint) }
        guard promptsOnly || messages.contains(where: { $0.role == "assistant" }) else {
            throw line.failure("messages", "has no assistant's turn: nothing in it is supervised")
        }
        return messages
    }
}

extension Probe {
    /// The probe that `lines` describe.
    ///
    /// - Parameters:
    ///   - tokenizer: SHA-256 of the tokenizer.json that `tokenize` works by.
    ///   - piece: the bytes a token stands for; nil when unknown.
    ///   - tokenize: makes the sample of a line of text. Lines of tokens are taken as they are.
    /// - Throws: `.badInput` naming file and line or the sample, and what `tokenize` throws.
    public init(
        lines: [ProbeLine], tokenizer: ContentID? = nil, piece: (Int32) -> [UInt8]? = { _ in nil },
        tokenize: (ProbeLine) throws -> ProbeSample
    ) throws(StoreError) {
        let samples = try throwingStoreErrors { try lines.map { line in try line.sample ?? tokenize(line) } }
        var occurring: Set<Int32> = []
        for sample in samples { occurring.formUnion(sample.tokens) }
        var pieces: [Int32: [UInt8]] = [:]
        for token in occurring { pieces[token] = piece(token) }
        try self.init(samples: samples, tokenizer: tokenizer, pieces: pieces)
    }
}
