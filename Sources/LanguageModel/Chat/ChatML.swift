internal import CheckpointStore

/// `<|im_start|>role`, a line feed, the content, `<|im_end|>`, a line feed: every turn the same.
struct ChatML: ChatTemplate {
    /// The system prompt of conversations that have none.
    var system: String?

    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) {
        if let system, messages.first?.role != "system" { text.give(ChatML.turn("system", system)) }
        for message in messages {
            if message.role == "assistant" {
                ChatML.say(message.content, to: &text)
            } else {
                text.give(ChatML.turn(message.role, message.content))
            }
        }
    }

    static func turn(_ role: String, _ content: String) -> String { "<|im_start|>\(role)\n\(content)<|im_end|>\n" }

    static func say(_ content: String, to text: inout ChatText) {
        text.give("<|im_start|>assistant\n")
        text.say(content + "<|im_end|>")
        text.give("\n")
    }
}
