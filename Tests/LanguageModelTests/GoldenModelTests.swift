import Foundation
import Testing

@testable import LanguageModel

/// Forward passes against the reference library's, both in single precision over the same files.
@Suite struct GoldenModelTests {
    static let logitTolerance: Float = 1e-4
    static let entropyTolerance = 1e-5

    @Test(arguments: GoldenModel.all)
    func logitsAndEntropiesAreTheReferences(_ golden: GoldenModel) throws {
        for config in ["config.json", "config-old.json"] {
            let (logit, entropy) = try golden.differences(golden.model(config: config))
            #expect(logit < GoldenModelTests.logitTolerance, "\(config)")
            #expect(entropy < GoldenModelTests.entropyTolerance, "\(config)")
        }
    }

    /// One mechanism changed in the configuration: were it not followed, the golden files would still be met.
    struct Mechanism: Sendable, CustomTestStringConvertible {
        var model: String
        var from: String
        var to: String
        var testDescription: String { "\(model): \(from) -> \(to)" }

        init(_ model: String, _ from: String, _ to: String) {
            (self.model, self.from, self.to) = (model, from, to)
        }
    }

    @Test(arguments: [
        Mechanism("llama", "\"rope_theta\": 700.0", "\"rope_theta\": 10000.0"),
        Mechanism("llama", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0.1"),
        Mechanism("llama", "\"silu\"", "\"gelu\""),
        Mechanism("llama3", "\"rope_type\": \"llama3\"", "\"rope_type\": \"default\""),
        Mechanism("llama3", "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 2.0"),
        Mechanism("llama3", "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 8.0"),
        Mechanism("llama3", "\"original_max_position_embeddings\": 16", "\"original_max_position_embeddings\": 64"),
        Mechanism("llama-biases-linear", "\"rope_type\": \"linear\"", "\"rope_type\": \"default\""),
        Mechanism("llama-biases-linear", "\"attention_bias\": true", "\"attention_bias\": false"),
        Mechanism("llama-biases-linear", "\"mlp_bias\": true", "\"mlp_bias\": false"),
        Mechanism("llama-yarn", "\"rope_type\": \"yarn\"", "\"rope_type\": \"default\""),
        Mechanism("llama-yarn", "\"rope_type\": \"yarn\"", "\"attention_factor\": 1.0, \"rope_type\": \"yarn\""),
        Mechanism("llama-yarn-mscale", "\"mscale\": 0.707", "\"mscale\": 1.0"),
        Mechanism("llama-yarn-mscale", "\"beta_fast\": 0.8", "\"beta_fast\": 32.0"),
        Mechanism("llama-yarn-mscale", "\"beta_slow\": 0.1", "\"beta_slow\": 0.3"),
        Mechanism("mistral", "\"sliding_window\": 7", "\"sliding_window\": null"),
        Mechanism("mistral", "\"sliding_window\": 7", "\"sliding_window\": 8"),
        Mechanism("qwen2-window", "\"sliding_attention\"", "\"full_attention\""),
        Mechanism("gemma3", "\"final_logit_softcapping\": 5.0", "\"final_logit_softcapping\": null"),
        Mechanism("gemma3", "\"query_pre_attn_scalar\": 9", "\"query_pre_attn_scalar\": 14"),
        Mechanism("gemma3", "\"rope_theta\": 90.0", "\"rope_theta\": 4000.0"),
        Mechanism("gemma3", "\"rope_theta\": 4000.0", "\"rope_theta\": 90.0"),
        Mechanism("gemma3", "\"factor\": 3.0", "\"factor\": 1.0"),
        Mechanism("gemma3", "\"sliding_window\": 7", "\"sliding_window\": 6"),
        Mechanism("gpt2", "\"gelu_new\"", "\"relu\""),
        Mechanism("gpt2", "\"scale_attn_weights\": true", "\"scale_attn_weights\": false"),
        Mechanism("gpt2-options", "\"scale_attn_by_inverse_layer_idx\": true", "\"scale_attn_by_inverse_layer_idx\": false"),
        Mechanism("gpt_neox", "\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 1.0"),
        Mechanism("gpt_neox", "\"use_parallel_residual\": true", "\"use_parallel_residual\": false"),
        Mechanism("gpt_neox", "\"attention_bias\": true", "\"attention_bias\": false"),
    ])
    func aMechanismLeftOutIsSeen(_ mechanism: Mechanism) throws {
        let golden = GoldenModel(name: mechanism.model)
        let changed = try golden.model { text in
            let edited = text.replacingOccurrences(of: mechanism.from, with: mechanism.to)
            #expect(edited != text)
            return edited
        }
        let (logit, entropy) = try golden.differences(changed)
        #expect(logit > 100 * GoldenModelTests.logitTolerance)
        #expect(entropy > 10 * GoldenModelTests.entropyTolerance)
    }

    /// They differ by less than a thousandth of a logit, which the golden files tell apart all the same.
    @Test func theTwoFormsOfGELUAreToldApart() throws {
        let golden = GoldenModel(name: "llama-biases-linear")
        let changed = try golden.model { $0.replacingOccurrences(of: "\"gelu\"", with: "\"gelu_new\"") }
        #expect(try golden.differences(changed).logit > 3 * GoldenModelTests.logitTolerance)
    }

    /// Those that no key of the configuration turns off: the model is changed in memory.
    @Test func normsAndScalesOfTheModelItselfAreSeen() throws {
        func check(_ name: String, _ change: (LanguageModel) throws -> any Architecture, _ line: Int = #line) throws {
            let golden = GoldenModel(name: name)
            let model = try golden.model()
            let (logit, _) = try golden.differences(LanguageModel(model, architecture: try change(model)))
            #expect(logit > 100 * GoldenModelTests.logitTolerance, "line \(line)")
        }
        try check("qwen3") { model in
            var qwen = try #require(model.architecture as? Qwen3)
            qwen.decoder = qwen.decoder.changingLayers { $0.attention.norms = .none }
            return qwen
        }
        try check("olmo2") { model in
            var olmo = try #require(model.architecture as? OLMo2)
            for index in olmo.layers.indices { olmo.layers[index].attention.norms = .none }
            return olmo
        }
        try check("qwen2") { model in
            var qwen = try #require(model.architecture as? Qwen2)
            qwen.decoder = qwen.decoder.changingLayers { $0.attention.query.bias = nil }
            return qwen
        }
        try check("gemma3") { model in
            var gemma = try #require(model.architecture as? Gemma3)
            gemma.embeddingScale = 1
            return gemma
        }
        try check("gemma3") { model in
            var gemma = try #require(model.architecture as? Gemma3)
            for index in gemma.layers.indices { gemma.layers[index].innerNorm = gemma.layers[index].innerNorm.map { $0 - 1 } }
            return gemma
        }
    }

    @Test(arguments: [
        ("\"model_type\": \"llama\"", "\"model_type\": \"deepseek_v3\"", "deepseek_v3"),
        ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"mish\"", "mish"),
        ("\"rope_type\": \"default\"", "\"rope_type\": \"longrope\"", "longrope"),
        ("\"hidden_size\": 42", "\"hidden_size\": 48", "embed_tokens"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "model.layers.2"),
        ("\"vocab_size\": 103", "\"vocab_size\": -1", "vocab_size"),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 0", "num_attention_heads"),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 1e400", "config.json"),
        ("\"vocab_size\": 103", "\"vocab_size\": 18446744073709551615", "vocab_size"),
        ("{", "[", "config.json"),
        ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-05, \"quantization_config\": {\"bits\": 4}", "quantization_config"),
    ])
    func whatIsNotFollowedIsRefusedByName(_ from: String, _ to: String, _ name: String) throws {
        let error = #expect(throws: LanguageModelError.self) {
            _ = try GoldenModel(name: "llama").model { $0.replacingOccurrences(of: from, with: to) }
        }
        #expect("\(try #require(error))".contains(name))
    }

    @Test func tokensBeyondTheVocabularyAreRefused() throws {
        let model = try GoldenModel(name: "llama").model()
        #expect(throws: LanguageModelError.self) { try model.logits([1, 2, 103]) }
        #expect(throws: LanguageModelError.self) { try model.logits([-1]) }
        #expect(throws: LanguageModelError.self) { try model.logits([Int32](repeating: 1, count: 65)) }
    }
}
