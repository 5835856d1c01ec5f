internal import CheckpointStore

/// Tulu, OLMo 2 and Zephyr: `<|role|>`, a line feed, the content, and the end of sequence after what the assistant says.
struct TaggedChat: ChatTemplate {
    /// Whether the text starts with the beginning of sequence.
    var begins = false
    /// Whether every turn, not the assistant's alone, ends with the end of sequence, and the last one with a line feed.
    var endsAll = false

    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) throws(LanguageModelError) {
        if begins { try text.giveBeginning() }
        for (index, message) in messages.enumerated() {
            text.give("<|\(message.role)|>\n")
            if message.role == "assistant" {
                text.say(message.content)
                try text.sayEnd()
                if endsAll || index < messages.count - 1 { text.give("\n") }
            } else {
                text.give(message.content)
                if endsAll { try text.giveEnd() }
                text.give("\n")
            }
        }
    }
}
