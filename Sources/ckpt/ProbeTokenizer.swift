import CheckpointStore

/// Makes the tokens of samples that come as text.
struct ProbeTokenizer {
    /// SHA-256 of the tokenizer.json; nil without one.
    let id: ContentID?
    /// The sample of a line of text, prompt and completion tokenised apart and joined.
    let sample: (ProbeLine) throws -> ProbeSample
    /// The bytes a token stands for; nil when unknown.
    let piece: (Int32) -> [UInt8]?

    /// - Parameter source: a directory with a tokenizer.json, or a snapshot that has one; nil: none was named.
    init(_ source: String?, _ store: Store) throws {
        if let source {
            throw StoreError(
                .badInput, "\(source): tokenizers are not supported yet", hint: "give samples as input_ids and completion_start")
        }
        id = nil
        piece = { _ in nil }
        sample = { line in
            throw StoreError(
                .badInput, "\(line.place): text is not supported yet", hint: "give samples as input_ids and completion_start")
        }
    }
}
