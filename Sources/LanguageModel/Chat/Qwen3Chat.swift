internal import CheckpointStore

/// Qwen3: ChatML in which thoughts, `<think>...</think>`, are kept only after the last question.
///
/// The last turn always has them, empty ones at least; before that question they are dropped, between it and the last turn
/// they stay where there are any.
struct Qwen3Chat: ChatTemplate {
    func write(_ messages: [ProbeLine.Message], to text: inout ChatText) {
        let question = messages.lastIndex(where: Qwen3Chat.isQuestion) ?? messages.count - 1
        for (index, message) in messages.enumerated() {
            guard message.role == "assistant" else {
                text.give(ChatML.turn(message.role, message.content))
                continue
            }
            let (thoughts, answer) = Qwen3Chat.split(message.content)
            if index > question, index == messages.count - 1 || !thoughts.isEmpty {
                let inner = thoughts.withoutLeadingNewlines.withoutTrailingNewlines
                ChatML.say("<think>\n\(inner)\n</think>\n\n\(answer.withoutLeadingNewlines)", to: &text)
            } else {
                ChatML.say(answer, to: &text)
            }
        }
    }

    /// Answers of tools come as messages of the user.
    private static func isQuestion(_ message: ProbeLine.Message) -> Bool {
        message.role == "user"
            && !(message.content.startsExactly(with: "<tool_response>") && message.content.endsExactly(with: "</tool_response>"))
    }

    private static func split(_ content: String) -> (thoughts: String, answer: String) {
        let parts = content.parts(separatedBy: "</think>")
        guard parts.count > 1 else { return ("", content) }
        let thoughts = parts[0].withoutTrailingNewlines.parts(separatedBy: "<think>").last!.withoutLeadingNewlines
        return (thoughts, parts.last!.withoutLeadingNewlines)
    }
}
