internal import CheckpointStore

/// Llama 3: a header, two line feeds, the content without white space around it, `<|eot_id|>`.
struct Llama3Chat: ChatTemplate {
    /// Llama 3.1 opens every conversation with a system turn that begins with dates.
    var dates: String?

    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) throws(LanguageModelError) {
        try text.giveBeginning()
        var rest = messages[...]
        if let dates {
            let (system, others) = ChatRules.splitSystem(messages)
            text.give(Llama3Chat.header("system") + dates + (system?.stripped ?? "") + "<|eot_id|>")
            rest = others
        }
        for message in rest {
            text.give(Llama3Chat.header(message.role))
            let content = message.content.stripped + "<|eot_id|>"
            if message.role == "assistant" { text.say(content) } else { text.give(content) }
        }
    }

    private static func header(_ role: String) -> String { "<|start_header_id|>\(role)<|end_header_id|>\n\n" }
}
