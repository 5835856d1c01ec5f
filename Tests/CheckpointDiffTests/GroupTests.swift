import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

@Suite struct GroupTests {
    /// Names as the models' own checkpoints have them.
    @Test(arguments: [
        // Llama, Mistral, Qwen
        ("model.embed_tokens.weight", "outside layers", "embedding"),
        ("model.layers.0.input_layernorm.weight", "layer 0", "norm"),
        ("model.layers.0.post_attention_layernorm.weight", "layer 0", "norm"),
        ("model.layers.31.self_attn.q_proj.weight", "layer 31", "attention"),
        ("model.layers.31.self_attn.q_proj.bias", "layer 31", "attention"),
        ("model.layers.2.self_attn.o_proj.weight", "layer 2", "attention"),
        ("model.layers.2.self_attn.q_norm.weight", "layer 2", "norm"),
        ("model.layers.10.mlp.gate_proj.weight", "layer 10", "mlp"),
        ("model.layers.10.mlp.up_proj.weight", "layer 10", "mlp"),
        ("model.layers.10.mlp.down_proj.weight", "layer 10", "mlp"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "layer 0", "attention"),
        ("model.norm.weight", "outside layers", "norm"),
        ("lm_head.weight", "outside layers", "head"),
        // Mixtral, Qwen MoE
        ("model.layers.4.block_sparse_moe.experts.7.w1.weight", "layer 4", "mlp"),
        ("model.layers.4.mlp.experts.12.down_proj.weight", "layer 4", "mlp"),
        ("model.layers.4.mlp.gate.weight", "layer 4", "mlp"),
        // Meta's own Llama
        ("tok_embeddings.weight", "outside layers", "embedding"),
        ("layers.3.attention.wq.weight", "layer 3", "attention"),
        ("layers.3.feed_forward.w2.weight", "layer 3", "mlp"),
        ("layers.3.attention_norm.weight", "layer 3", "norm"),
        ("layers.3.ffn_norm.weight", "layer 3", "norm"),
        ("output.weight", "outside layers", "head"),
        // GPT-2
        ("wte.weight", "outside layers", "embedding"),
        ("transformer.wpe.weight", "outside layers", "embedding"),
        ("h.11.attn.c_attn.weight", "layer 11", "attention"),
        ("transformer.h.11.attn.c_proj.bias", "layer 11", "attention"),
        ("h.0.mlp.c_fc.weight", "layer 0", "mlp"),
        ("h.0.mlp.c_proj.weight", "layer 0", "mlp"),
        ("h.5.ln_1.weight", "layer 5", "norm"),
        ("transformer.ln_f.bias", "outside layers", "norm"),
        // GPT-NeoX, Pythia
        ("gpt_neox.embed_in.weight", "outside layers", "embedding"),
        ("gpt_neox.layers.6.attention.query_key_value.weight", "layer 6", "attention"),
        ("gpt_neox.layers.6.attention.dense.bias", "layer 6", "attention"),
        ("gpt_neox.layers.6.mlp.dense_h_to_4h.weight", "layer 6", "mlp"),
        ("gpt_neox.layers.6.input_layernorm.weight", "layer 6", "norm"),
        ("gpt_neox.layers.6.post_attention_layernorm.bias", "layer 6", "norm"),
        ("gpt_neox.final_layer_norm.weight", "outside layers", "norm"),
        // Gemma 2 and 3
        ("model.layers.7.pre_feedforward_layernorm.weight", "layer 7", "norm"),
        ("model.layers.7.post_feedforward_layernorm.weight", "layer 7", "norm"),
        ("model.layers.7.self_attn.k_norm.weight", "layer 7", "norm"),
        ("model.language_model.layers.7.mlp.up_proj.weight", "layer 7", "mlp"),
        // The short names of small trainers
        ("b.0.q.weight", "layer 0", "attention"),
        ("b.0.k.weight", "layer 0", "attention"),
        ("b.0.v.weight", "layer 0", "attention"),
        ("b.5.o.weight", "layer 5", "attention"),
        ("b.5.g.weight", "layer 5", "mlp"),
        ("b.5.u.weight", "layer 5", "mlp"),
        ("b.5.d.weight", "layer 5", "mlp"),
        ("b.5.n1.weight", "layer 5", "norm"),
        ("b.5.n2.weight", "layer 5", "norm"),
        // Of no kind
        ("weight", "outside layers", "other"),
        ("", "outside layers", "other"),
    ])
    func realNames(name: String, layer: String, kind: String) {
        #expect(TensorGroup.layer(name) == layer)
        #expect(TensorGroup.kind(name) == kind)
    }

    /// Short names, and names with a word of another kind in them.
    @Test(arguments: [
        ("embed_out.weight", "head"),  // GPT-NeoX's head
        ("e.weight", "embedding"), ("h.weight", "head"), ("n.weight", "norm"),  // beside b.0.q.weight
    ])
    func namesHardToTell(name: String, kind: String) {
        #expect(TensorGroup.kind(name) == kind)
    }

    @Test func layersAreWholeComponents() {
        #expect(TensorGroup.layer("blocks12.x") == "outside layers")
        #expect(TensorGroup.layer("model.layers.007.x") == "layer 7")
        #expect(TensorGroup.layer("a.-3.x") == "outside layers")
        #expect(TensorGroup.layer("a.1.b.2") == "layer 1")
        #expect(TensorGroup.layer("99999999999999999999999.a") == "outside layers")
        #expect(TensorGroup.layer("a..b") == "outside layers")
    }

    private func delta(_ name: String, _ number: UInt64) -> WeightDelta {
        let size = Double(number)
        return WeightDelta(
            name: name, file: "f", part: .weights, dtype: .bf16, shape: [number], words: number * 100, changed: number * 10,
            signFlips: number, nonfinite: number * 3, sumFirst: size * 4, sumSecond: size * 5, sumProduct: size * 1.5, sumDelta: size * 6, maxAbs: size)
    }

    /// Groups are sums of their tensors, layers in the order of their numbers, kinds as they first come up; nothing is lost or counted twice.
    @Test func groupsAddUp() {
        let names = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"]
        let deltas = names.enumerated().map { delta($1, UInt64($0 + 1)) }
        let whole = CheckpointDelta(compared: deltas, identical: [], mismatched: [])

        let layers = whole.groups(by: .layer)
        #expect(layers.map(\.name) == ["layer 0", "layer 1", "outside layers"])
        #expect(layers.map(\.tensors) == [2, 2, 1])
        #expect(layers.map(\.delta.words) == [800, 500, 200])
        #expect(layers.map(\.delta.maxAbs) == [5, 4, 2])
        let kinds = whole.groups(by: .kind)
        #expect(kinds.map(\.name) == ["mlp", "norm", "attention"])
        #expect(kinds.map(\.delta.sumDelta) == [36, 12, 42])
        let tensors = whole.groups(by: .tensor)
        #expect(tensors.map(\.name) == names && tensors.allSatisfy { $0.tensors == 1 })
        for groups in [layers, kinds, tensors] {
            #expect(groups.reduce(0) { $0 + $1.tensors } == 5)
            #expect(groups.reduce(0) { $0 + $1.delta.changed } == 150)
            #expect(groups.reduce(0) { $0 + $1.delta.signFlips } == 15)
            #expect(groups.reduce(0) { $0 + $1.delta.nonfinite } == 45)
            #expect(groups.reduce(0) { $0 + $1.delta.sumFirst } == 60)
            #expect(groups.reduce(0) { $0 + $1.delta.sumSecond } == 75)
        }
        #expect(CheckpointDelta(compared: [], identical: [], mismatched: []).groups(by: .kind).isEmpty)
    }

    @Test func ratiosOfSums() {
        var delta = delta("a", 1)
        (delta.sumFirst, delta.sumSecond, delta.sumProduct, delta.sumDelta) = (9, 16, 0, 25)
        #expect(delta.deltaL2 == 5 && delta.relativeL2 == 5.0 / 3 && delta.cosine == 0)
        (delta.sumFirst, delta.sumSecond, delta.sumProduct, delta.sumDelta) = (4, 4, -4, 16)
        #expect(delta.cosine == -1 && delta.relativeL2 == 2)
        // Rounding does not lead past one.
        (delta.sumFirst, delta.sumSecond, delta.sumProduct, delta.sumDelta) = (1, 1, 1.0000000000000002, 1e-17)
        #expect(delta.cosine == 1)
        (delta.sumFirst, delta.sumSecond, delta.sumDelta) = (0, 4, 4)
        #expect(delta.cosine == nil && delta.relativeL2 == .infinity)
        (delta.sumFirst, delta.sumSecond, delta.sumDelta) = (0, 0, 0)
        #expect(delta.cosine == nil && delta.relativeL2 == 0)
    }
}
