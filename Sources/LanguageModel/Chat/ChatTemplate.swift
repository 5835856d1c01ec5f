internal import CheckpointStore

/// How a model's chat template writes a conversation.
///
/// Templates are programs in Jinja, which is never executed here: each known one is written anew in Swift and recognised
/// by its text. Tools, images and generation prompts are left out; the roles are system, user and assistant.
protocol ChatTemplate: Sendable {
    /// Writes the whole conversation, one of an assistant at least.
    ///
    /// - Throws: where the template itself raises an exception.
    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) throws(LanguageModelError)
}

/// A conversation as one text, in parts.
struct ChatText {
    struct Part {
        var text: String
        /// Whether the model is to say it.
        var isSupervised: Bool
    }

    private(set) var parts: [Part] = []
    /// The texts of the special tokens at the beginning and at the end of a sequence, as `tokenizer_config.json` says.
    private let beginning: String?
    private let end: String?

    init(beginning: String?, end: String?) {
        (self.beginning, self.end) = (beginning, end)
    }

    /// What the template gives: the prompt, and the headers of turns.
    mutating func give(_ text: String) { parts.append(Part(text: text, isSupervised: false)) }

    /// What the model says: from the end of a generation prompt up to the token that ends the turn, both included.
    mutating func say(_ text: String) { parts.append(Part(text: text, isSupervised: true)) }

    mutating func giveBeginning() throws(LanguageModelError) { give(try ChatText.known(beginning, "bos_token")) }

    mutating func giveEnd() throws(LanguageModelError) { give(try ChatText.known(end, "eos_token")) }

    mutating func sayEnd() throws(LanguageModelError) { say(try ChatText.known(end, "eos_token")) }

    /// What the assistant says last, and all before it: for people.
    var lastReply: (prompt: String, completion: String) {
        let end = (parts.lastIndex(where: \.isSupervised) ?? -1) + 1
        let start = (parts[..<end].lastIndex { !$0.isSupervised } ?? -1) + 1
        return (parts[..<start].map(\.text).joined(), parts[start..<end].map(\.text).joined())
    }

    private static func known(_ text: String?, _ key: String) throws(LanguageModelError) -> String {
        guard let text else {
            throw LanguageModelError(.missing, "the chat template writes the \(key), and tokenizer_config.json names none")
        }
        return text
    }
}

/// What several templates ask of a conversation.
enum ChatRules {
    /// User and assistant take turns, the user first.
    static func checkTurns(_ messages: ArraySlice<ProbeLine.Message>) throws(LanguageModelError) {
        for (offset, message) in messages.enumerated() where (message.role == "user") != (offset % 2 == 0) {
            throw LanguageModelError(
                .mismatch,
                "message \(messages.startIndex + offset) is of \"\(message.role)\" where the chat template wants \"\(offset % 2 == 0 ? "user" : "assistant")\"",
                hint: "after a system prompt, user and assistant take turns, the user first")
        }
    }

    /// A leading system prompt, and the messages after it.
    static func splitSystem(_ messages: [ProbeLine.Message]) -> (system: String?, rest: ArraySlice<ProbeLine.Message>) {
        guard let first = messages.first, first.role == "system" else { return (nil, messages[...]) }
        return (first.content, messages.dropFirst())
    }

    static func refuse(_ message: ProbeLine.Message, at index: Int) -> LanguageModelError {
        LanguageModelError(
            .mismatch, "message \(index) is of \"\(message.role)\", which the chat template does not know there",
            hint: "put it into the first message of the user")
    }
}
