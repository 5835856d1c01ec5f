package import CheckpointDiff
package import CheckpointStore
internal import LanguageModel
internal import TensorFormats

/// What the rows and columns of a model's matrices stand for: tokens and attention heads.
package final class RowNames {
    private let checkpoints: [CheckpointContents]
    /// Read when a name is asked for: a large tokenizer takes longer to read than a diff.
    private lazy var tokenizer = read("tokenizer.json") { try? Tokenizer(json: $0, path: "tokenizer.json") }
    private lazy var config = read("config.json") { try? JSONValue.parse($0, path: "config.json") }

    /// Heads that are told apart.
    private static let maximumHeads = 1024

    /// Told by the tokenizer and the configuration of the first of `checkpoints` that has them. What cannot be read is not named.
    package init(_ checkpoints: CheckpointContents...) { self.checkpoints = checkpoints }

    private func read<Value>(_ file: String, _ parse: ([UInt8]) -> Value?) -> Value? {
        for contents in checkpoints {
            if let bytes = try? contents.sidecars.contents(file), let value = parse(bytes) { return value }
        }
        return nil
    }

    private func count(_ keys: String...) -> Int? {
        keys.lazy.compactMap { self.config?[$0] ?? self.config?["text_config"]?[$0] }.first?.unsigned.flatMap { Int(exactly: $0) }
    }

    /// The text of token `row`, where the rows of this tensor are tokens.
    package func token(_ row: Int, of delta: WeightDelta) -> String? {
        guard delta.shape.count == 2, ["embedding", "head"].contains(TensorGroup.kind(delta.name)), let id = Int32(exactly: row), let tokenizer else {
            return nil
        }
        let bytes = tokenizer.piece(id)
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    /// The L2 norms of d by attention head, where the tensor is a projection of queries, keys or values (rows) or of their output (columns).
    package func headNorms(_ delta: WeightDelta) -> [Double]? {
        let components = delta.name.split(separator: ".")
        func has(_ name: String) -> Bool { components.contains { $0 == name } }
        guard let movement = delta.movement, delta.shape.count == 2 else { return nil }
        let (norms, count) =
            if has("q_proj") {
                (movement.rows, count("num_attention_heads", "n_head"))
            } else if has("k_proj") || has("v_proj") {
                (movement.rows, count("num_key_value_heads", "num_attention_heads", "n_head"))
            } else if has("o_proj") {
                (movement.columns, count("num_attention_heads", "n_head"))
            } else {
                (nil as [Double]?, nil as Int?)
            }
        guard let norms, let count, (2...RowNames.maximumHeads).contains(count), norms.count % count == 0 else { return nil }
        let size = norms.count / count
        return (0..<count).map { head in norms[(head * size)..<((head + 1) * size)].reduce(0) { $0 + $1 * $1 }.squareRoot() }
    }
}
