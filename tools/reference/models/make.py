"""Tiny random models of every architecture, with the logits and entropies that transformers gives them.

    python make.py OUTPUT

Writes OUTPUT/<case>/{config.json,config-old.json,model.safetensors,expected.safetensors} and OUTPUT/index.json. The default
initialisation of a tiny model is nearly uniform and hides errors: a wrong rope theta would change no entropy. So weights are
drawn wide enough for logits of deviation 1 to 3, gains and biases are random, sizes are no powers of two, and inputs go past the
sliding window and past the length that rope scaling starts from. config-old.json says the same in the keys of transformers 4.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM,
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config, Olmo2ForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

LENGTHS = [5, 41]
GATED = dict(vocab_size=103, hidden_size=42, intermediate_size=58, num_hidden_layers=2, num_attention_heads=3,
             max_position_embeddings=512)


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


def cases():
    """Name, model class, configuration, dtype of the file, and the configuration in older keys."""
    llama3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=16)
    yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
    for dtype in ["f32", "bf16", "f16"]:
        suffix = "" if dtype == "f32" else "-" + dtype
        yield ("llama" + suffix, LlamaForCausalLM,
               LlamaConfig(**GATED, rope_parameters=rope(700.0), rms_norm_eps=1e-5), dtype,
               dict(rope_theta=700.0))
        yield ("llama3" + suffix, LlamaForCausalLM,
               LlamaConfig(**GATED | dict(num_attention_heads=6, num_key_value_heads=2, head_dim=10), tie_word_embeddings=True,
                           rope_parameters=rope(900.0) | llama3), dtype,
               dict(rope_theta=900.0, rope_scaling=llama3))
        if dtype == "f16":
            continue
        yield ("qwen3" + suffix, Qwen3ForCausalLM,
               Qwen3Config(**GATED | dict(num_attention_heads=6, num_key_value_heads=3, head_dim=10), rope_parameters=rope(800.0)),
               dtype, dict(rope_theta=800.0))
        yield ("gemma3" + suffix, Gemma3ForCausalLM,
               Gemma3TextConfig(**GATED | dict(num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2, head_dim=14),
                                sliding_window=7, query_pre_attn_scalar=9, final_logit_softcapping=5.0,
                                layer_types=["sliding_attention", "full_attention"] * 2,
                                rope_parameters={
                                    "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 4000.0},
                                    "sliding_attention": rope(90.0)}), dtype,
               dict(rope_theta=4000.0, rope_scaling={"rope_type": "linear", "factor": 3.0}, rope_local_base_freq=90.0,
                    sliding_window_pattern=2))
        yield ("gpt2" + suffix, GPT2LMHeadModel,
               GPT2Config(vocab_size=103, n_positions=64, n_embd=42, n_layer=2, n_head=3), dtype, {})
        yield ("gpt_neox" + suffix, GPTNeoXForCausalLM,
               GPTNeoXConfig(**GATED | dict(hidden_size=48), rope_parameters=rope(600.0, partial_rotary_factor=0.25)), dtype,
               dict(rotary_emb_base=600, rotary_pct=0.25))
    yield ("llama-biases-linear", LlamaForCausalLM,
           LlamaConfig(**GATED, attention_bias=True, mlp_bias=True, hidden_act="gelu",
                       rope_parameters=rope(500.0) | {"rope_type": "linear", "factor": 2.5}), "f32",
           dict(rope_theta=500.0, rope_scaling={"type": "linear", "factor": 2.5}))
    yield ("llama-yarn", LlamaForCausalLM, LlamaConfig(**GATED, rope_parameters=rope(700.0) | yarn), "f32",
           dict(rope_theta=700.0, rope_scaling=yarn))
    scales = dict(mscale=0.707, mscale_all_dim=1.3, beta_fast=0.8, beta_slow=0.1)
    yield ("llama-yarn-mscale", LlamaForCausalLM, LlamaConfig(**GATED, rope_parameters=rope(700.0) | yarn | scales), "f32",
           dict(rope_theta=700.0, rope_scaling=yarn | scales))
    for name, window in [("mistral", 7), ("mistral-full", None)]:
        yield (name, MistralForCausalLM,
               MistralConfig(**GATED | dict(num_attention_heads=6, num_key_value_heads=2, head_dim=14), sliding_window=window,
                             rope_parameters=rope(300.0)), "f32", dict(rope_theta=300.0))
    yield ("qwen2", Qwen2ForCausalLM,
           Qwen2Config(**GATED | dict(num_attention_heads=3, num_key_value_heads=1), rope_parameters=rope(400.0)), "f32",
           dict(rope_theta=400.0))
    yield ("qwen2-window", Qwen2ForCausalLM,
           Qwen2Config(**GATED | dict(num_attention_heads=3, num_key_value_heads=1), tie_word_embeddings=True,
                       use_sliding_window=True, sliding_window=6, max_window_layers=1, rope_parameters=rope(400.0)), "f32",
           dict(rope_theta=400.0, max_window_layers=1))
    yield ("gemma3-plain", Gemma3ForCausalLM,
           Gemma3TextConfig(**GATED | dict(num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, head_dim=14),
                            sliding_window=5, query_pre_attn_scalar=30, attn_logit_softcapping=2.0,
                            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                            rope_parameters={"full_attention": rope(5000.0), "sliding_attention": rope(80.0)}), "f32",
           dict(rope_theta=5000.0, rope_local_base_freq=80.0, sliding_window_pattern=3))
    yield ("olmo2", Olmo2ForCausalLM,
           Olmo2Config(**GATED | dict(num_attention_heads=3, num_key_value_heads=1), rope_parameters=rope(450.0)), "f32",
           dict(rope_theta=450.0))
    yield ("olmo2-f16", Olmo2ForCausalLM, Olmo2Config(**GATED, rope_parameters=rope(450.0)), "f16", dict(rope_theta=450.0))
    # The configuration ties what the file has apart.
    yield ("llama-head-apart", LlamaForCausalLM,
           LlamaConfig(**GATED, tie_word_embeddings=True, rope_parameters=rope(700.0)), "f32", dict(rope_theta=700.0))
    yield ("llama-head-only", LlamaForCausalLM,
           LlamaConfig(**GATED, tie_word_embeddings=True, rope_parameters=rope(700.0)), "f32", dict(rope_theta=700.0))
    # The text part of a model that sees too.
    yield ("gemma3-nested", Gemma3ForConditionalGeneration,
           Gemma3Config(
               text_config=dict(GATED, num_attention_heads=3, num_key_value_heads=1, head_dim=14, sliding_window=6,
                                layer_types=["sliding_attention", "full_attention"],
                                rope_parameters={"full_attention": rope(5000.0), "sliding_attention": rope(80.0)}),
               vision_config=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                  image_size=16, patch_size=8),
               mm_tokens_per_image=4, boi_token_index=100, eoi_token_index=101, image_token_index=102), "f32", {})
    yield ("gpt2-options", GPT2LMHeadModel,
           GPT2Config(vocab_size=103, n_positions=64, n_embd=42, n_layer=2, n_head=3, n_inner=50, activation_function="relu",
                      scale_attn_by_inverse_layer_idx=True, layer_norm_epsilon=1e-3), "f32", {})
    yield ("gpt_neox-serial", GPTNeoXForCausalLM,
           GPTNeoXConfig(**GATED, use_parallel_residual=False, tie_word_embeddings=True, hidden_act="gelu_new",
                         rope_parameters=rope(600.0, partial_rotary_factor=1.0)), "f32",
           dict(rotary_emb_base=600, rotary_pct=1.0))


def randomise(model, seed):
    """Wide weights, random gains and biases; Gemma's gains are 1 + w."""
    generator = torch.Generator().manual_seed(seed)
    gemma = "gemma" in model.config.model_type
    for name, weight in sorted(model.named_parameters()):
        draw = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 2:
            weight.data = draw * (1.6 / weight.shape[1] ** 0.5)
        elif "bias" in name:
            weight.data = 0.4 * draw
        else:
            weight.data = 0.5 * draw.clamp(-1.8, 1.8) + (0 if gemma else 1.2)
    if hasattr(model, "tie_weights"):
        model.tie_weights()


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def entropy(logits):
    log = torch.log_softmax(logits.double(), dim=-1)
    return -(log.exp() * log).sum(-1)


def randomised(kind, config, seed):
    """A random model whose logits' deviation is about 2, by the scale of its head where that is a matrix of its own."""
    config._attn_implementation = "eager"
    model = kind(config).eval()
    randomise(model, seed)
    factor = 2.0 / logits(model, list(range(3, 40))).std().item()
    head = model.get_output_embeddings().weight
    if not 0.5 < factor < 2.0 and not getattr(config, "tie_word_embeddings", False):
        head.data *= factor
    return model


OLD_KEYS_DROPPED = ["rope_parameters", "dtype", "layer_types"]


def make(directory, name, kind, config, dtype, old):
    text = config.get_text_config()
    for part in (config, text):
        part.bos_token_id = part.eos_token_id = part.pad_token_id = None
    model = randomised(kind, config, seed=sum(name.encode()))
    types = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    model = model.to(types[dtype])
    target = directory / name
    model.save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    if name == "llama-head-apart":
        tensors = load_file(target / "model.safetensors")
        tensors["lm_head.weight"] = 0.7 * tensors["model.embed_tokens.weight"].flip(0)
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    if name == "llama-head-only":
        tensors = load_file(target / "model.safetensors")
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, attn_implementation="eager").eval()

    expected = {}
    generator = torch.Generator().manual_seed(1)
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(0, text.vocab_size - (3 if text is not config else 0), (length,), generator=generator)
        out = logits(model, ids.tolist())
        expected[f"input_ids.{index}"] = ids.int()
        expected[f"logits.{index}"] = out.contiguous()
        expected[f"entropy.{index}"] = entropy(out).float()
    save_file(expected, target / "expected.safetensors")

    # The same in older keys must mean the same.
    new = json.loads((target / "config.json").read_text())
    older = {key: value for key, value in new.items() if key not in OLD_KEYS_DROPPED} | old
    older["torch_dtype"] = str(types[dtype]).removeprefix("torch.")
    (target / "config-old.json").write_text(json.dumps(older, indent=2) + "\n")
    if text is not config or name.startswith("llama-head"):
        (target / "config-old.json").write_text((target / "config.json").read_text())
        return report(name, expected, text.model_type, dtype)
    again = type(config)(**{key: value for key, value in older.items() if key not in ("architectures", "model_type")})
    again._attn_implementation = "eager"
    twin = kind(again).eval()
    twin.load_state_dict(model.state_dict())
    difference = max(
        (logits(twin, expected[f"input_ids.{i}"].tolist()) - expected[f"logits.{i}"]).abs().max().item()
        for i in range(len(LENGTHS)))
    assert difference < 1e-5, (name, difference)
    return report(name, expected, config.model_type, dtype)


def report(name, expected, architecture, dtype):
    deviation = torch.cat([expected[f"logits.{i}"].flatten() for i in range(len(LENGTHS))]).std().item()
    mean = torch.cat([expected[f"entropy.{i}"] for i in range(len(LENGTHS))]).mean().item()
    print(f"{name:22} logits' deviation {deviation:5.2f}, mean entropy {mean:5.2f}")
    assert 0.9 < deviation < 3.5, (name, deviation)
    return {"name": name, "architecture": architecture, "dtype": dtype}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    index = [make(directory, *case) for case in cases()]
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    (directory / "index.json").write_text(json.dumps({"versions": versions, "cases": index}, indent=1) + "\n")


if __name__ == "__main__":
    main()
