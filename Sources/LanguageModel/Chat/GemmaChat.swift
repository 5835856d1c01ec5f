internal import CheckpointStore

/// Gemma: `<start_of_turn>`, the role, a line feed, the content without white space around it, `<end_of_turn>`, a line feed.
struct GemmaChat: ChatTemplate {
    /// Whether a system prompt goes before the first message of the user, as in Gemma 3; earlier ones refuse it.
    var takesSystem: Bool

    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) throws(LanguageModelError) {
        try text.giveBeginning()
        let (system, rest) = ChatRules.splitSystem(messages)
        if system != nil, !takesSystem { throw ChatRules.refuse(messages[0], at: 0) }
        try ChatRules.checkTurns(rest)
        for (offset, message) in rest.enumerated() {
            let isAssistant = message.role == "assistant"
            text.give("<start_of_turn>\(isAssistant ? "model" : message.role)\n")
            if let system, offset == 0 { text.give(system + "\n\n") }
            let content = message.content.stripped + "<end_of_turn>"
            if isAssistant { text.say(content) } else { text.give(content) }
            text.give("\n")
        }
    }
}
