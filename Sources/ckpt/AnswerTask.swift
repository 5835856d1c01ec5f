import CheckpointStore
import LanguageModel

/// Prompts that a model is to answer, and the answers that are right.
struct AnswerTask {
    /// One for each sample, in their order.
    let requests: [GenerationRequest]
    let ends: Set<Int32>
    private let expected: [(answer: String, isWhole: Bool)]
    private let rule: AnswerRule
    private let tokenizer: Tokenizer

    /// - Throws: `.badInput` naming a sample whose reference has no answer.
    init(_ probe: Probe, _ runner: ModelRunner, _ rule: AnswerRule) throws(StoreError) {
        let own = try runner.tokenizer()
        (tokenizer, ends, self.rule) = (own.tokenizer, Set(own.ends), rule)
        var requests: [GenerationRequest] = []
        var expected: [(answer: String, isWhole: Bool)] = []
        for (index, sample) in probe.samples.enumerated() {
            let completion = sample.supervised.last!
            requests.append(GenerationRequest(tokens: Array(sample.tokens[..<completion.lowerBound]), sample: index, name: sample.id))
            // Through the tokens, as what is generated comes.
            let text = AnswerTask.text(sample.tokens[completion], ends, tokenizer)
            let isWhole = rule.isWhole(text)
            guard let answer = rule.answer(in: text, whole: isWhole) else {
                throw StoreError(
                    .badInput, "\(runner.ref): sample \"\(sample.id)\" has no answer in its reference completion",
                    hint: "--answer MARKER or --pattern REGEX say where answers are")
            }
            expected.append((answer, isWhole))
        }
        (self.requests, self.expected) = (requests, expected)
    }

    /// What was generated for sample `index`, beside what is right.
    func judged(_ index: Int, _ made: Generation) -> ModelEvaluation.Sample {
        let text = AnswerTask.text(made.tokens[...], ends, tokenizer)
        let answer = rule.answer(in: text, whole: expected[index].isWhole)
        return ModelEvaluation.Sample(
            id: requests[index].name, isRight: answer == expected[index].answer, answer: answer, expected: expected[index].answer,
            tokens: made.tokens.count, text: text)
    }

    private static func text(_ tokens: ArraySlice<Int32>, _ ends: Set<Int32>, _ tokenizer: Tokenizer) -> String {
        tokenizer.decode(tokens.filter { !ends.contains($0) }, skipSpecialTokens: true)
    }
}
