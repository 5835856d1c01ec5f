internal import CheckpointStore

/// Mistral and Llama 2: the user's messages between `[INST]` and `[/INST]`, the assistant's after them.
struct InstructChat: ChatTemplate {
    /// Where a system prompt goes.
    enum System {
        case refused
        /// Before the first message, two line feeds between.
        case first
        /// Before the last message, if that is the user's; else it is left out.
        case last
        /// Before the first message, in marks of its own; each message of the user begins a sequence.
        case marked
    }
    var system: System
    var open: String
    var close: String
    /// Before and after what the assistant says, and after the token that ends it.
    var before = ""
    var after = ""
    var between = ""
    /// Whether what the assistant says loses the white space around it.
    var strips = false

    static let mistral01 = InstructChat(system: .refused, open: "[INST] ", close: " [/INST]", between: " ")
    static let mistral02 = InstructChat(system: .refused, open: "[INST] ", close: " [/INST]")
    static let mistral1 = InstructChat(system: .first, open: " [INST] ", close: " [/INST]", before: " ")
    static let mistral3 = InstructChat(system: .last, open: "[INST] ", close: "[/INST]", before: " ", strips: true)
    static let mistralTekken = InstructChat(system: .last, open: "[INST]", close: "[/INST]")
    static let llama2 = InstructChat(system: .marked, open: "[INST] ", close: " [/INST]", before: " ", after: " ", strips: true)

    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) throws(LanguageModelError) {
        let (prompt, rest) = ChatRules.splitSystem(messages)
        if prompt != nil, case .refused = system { throw ChatRules.refuse(messages[0], at: 0) }
        try ChatRules.checkTurns(rest)
        var isMarked = false
        if case .marked = system { isMarked = true } else { try text.giveBeginning() }
        for (index, message) in zip(rest.indices, rest) {
            switch message.role {
            case "user":
                if isMarked { try text.giveBeginning() }
                let content = prefix(prompt, isFirst: index == rest.startIndex, isLast: index == rest.endIndex - 1) + message.content
                text.give(open + (isMarked ? content.stripped : content) + close)
            case "assistant":
                text.say(before + (strips ? message.content.stripped : message.content) + after)
                try text.sayEnd()
                text.give(between)
            default:
                // Llama 2's template passes over it.
                if !isMarked { throw ChatRules.refuse(message, at: index) }
            }
        }
    }

    private func prefix(_ prompt: String?, isFirst: Bool, isLast: Bool) -> String {
        guard let prompt else { return "" }
        switch system {
        case .refused: return ""
        case .first: return isFirst ? prompt + "\n\n" : ""
        case .last: return isLast ? prompt + "\n\n" : ""
        case .marked: return isFirst ? "<<SYS>>\n\(prompt)\n<</SYS>>\n\n" : ""
        }
    }
}
