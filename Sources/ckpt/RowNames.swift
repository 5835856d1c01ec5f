import CheckpointDiff
import CheckpointStore
import LanguageModel
import TensorFormats

/// What the rows and columns of a model's matrices stand for: tokens and attention heads.
struct RowNames {
    private let tokenizer: Tokenizer?
    private let heads: Int?
    private let keyHeads: Int?

    /// Told by the tokenizer and the configuration of the first of `checkpoints` that has them. What cannot be read is not named.
    init(_ checkpoints: CheckpointContents...) {
        tokenizer = checkpoints.lazy.compactMap { contents in
            (try? contents.sidecars.contents("tokenizer.json")).flatMap { $0 }.flatMap { try? Tokenizer(json: $0, path: "tokenizer.json") }
        }.first
        let config = checkpoints.lazy.compactMap { contents in
            (try? contents.sidecars.contents("config.json")).flatMap { $0 }.flatMap { try? JSONValue.parse($0, path: "config.json") }
        }.first
        func count(_ key: String) -> Int? { (config?[key] ?? config?["text_config"]?[key])?.unsigned.flatMap { Int(exactly: $0) } }
        heads = count("num_attention_heads") ?? count("n_head")
        keyHeads = count("num_key_value_heads") ?? heads
    }

    /// The text of token `row`, where the rows of this tensor are tokens.
    func token(_ row: Int, of delta: WeightDelta) -> String? {
        guard let tokenizer, delta.shape.count == 2, ["embedding", "head"].contains(TensorGroup.kind(delta.name)), let id = Int32(exactly: row) else {
            return nil
        }
        let bytes = tokenizer.piece(id)
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    /// The L2 norms of d by attention head, where the tensor is a projection of queries, keys or values (rows) or of their output (columns).
    func headNorms(_ delta: WeightDelta) -> [Double]? {
        let components = delta.name.split(separator: ".")
        func has(_ name: String) -> Bool { components.contains { $0 == name } }
        let (norms, count) =
            if has("q_proj") {
                (delta.movement?.rows, heads)
            } else if has("k_proj") || has("v_proj") {
                (delta.movement?.rows, keyHeads)
            } else if has("o_proj") {
                (delta.movement?.columns, heads)
            } else {
                (nil as [Double]?, nil as Int?)
            }
        guard let norms, let count, count > 1, norms.count % count == 0, delta.shape.count == 2 else { return nil }
        let size = norms.count / count
        return (0..<count).map { head in norms[(head * size)..<((head + 1) * size)].reduce(0) { $0 + $1 * $1 }.squareRoot() }
    }
}
