import TensorFormats

/// Checkpoints of a tiny Llama that can be run, with weights that a seed decides.
public enum TinyModel {
    /// Writes `config.json` and `model.safetensors` to `directory`.
    ///
    /// - Parameters:
    ///   - more: tensors that the configuration has no use for.
    ///   - drift: a second seed's weights, added to the first's at a fifth: models of one `seed` are alike.
    public static func write(seed: UInt64, drift: UInt64 = 0, vocabulary: Int = 61, width: Int = 16, to directory: String, more: [String] = []) throws {
        var (base, change) = (SeededBytes(seed), SeededBytes(drift &+ 1_000))
        func tensor(_ name: String, _ shape: [Int], around middle: Float = 0) -> SafetensorsFixture.Tensor {
            let values = (0..<shape.reduce(1, *)).map { _ in
                middle + Float.random(in: -0.5...0.5, using: &base) + 0.2 * Float.random(in: -0.5...0.5, using: &change)
            }
            return SafetensorsFixture.Tensor(name, .f32, shape.map(UInt64.init), values.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) })
        }
        let layer = "model.layers.0."
        let square = ["q", "k", "v", "o"].map { tensor(layer + "self_attn.\($0)_proj.weight", [width, width]) }
        let fixture = SafetensorsFixture(
            [tensor("model.embed_tokens.weight", [vocabulary, width]), tensor("lm_head.weight", [vocabulary, width])] + square + [
                tensor(layer + "input_layernorm.weight", [width], around: 1),
                tensor(layer + "post_attention_layernorm.weight", [width], around: 1),
                tensor(layer + "mlp.gate_proj.weight", [2 * width, width]), tensor(layer + "mlp.up_proj.weight", [2 * width, width]),
                tensor(layer + "mlp.down_proj.weight", [width, 2 * width]), tensor("model.norm.weight", [width], around: 1),
            ] + more.map { tensor($0, [width]) })
        try FileTree.write(fixture.bytes, to: directory + "/model.safetensors")
        try FileTree.write(
            """
            {"model_type": "llama", "hidden_size": \(width), "intermediate_size": \(2 * width), "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": \(width / 2), "vocab_size": \(vocabulary), "rms_norm_eps": 1e-5,
             "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "hidden_act": "silu", "max_position_embeddings": 4096,
             "tie_word_embeddings": false}

            """, to: directory + "/config.json")
    }
}
