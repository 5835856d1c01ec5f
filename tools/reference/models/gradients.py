"""Tiny random models of every architecture, with the losses and the gradients that autograd finds for them.

    python gradients.py OUTPUT

Writes OUTPUT/<case>/{config.json,model.safetensors,expected.safetensors}. A batch is three sequences of different lengths, each
with a prompt; the label positions from its start to its end are supervised, by the logits one position earlier. The loss is the
sum of -ln softmax(z)[y] over the supervised tokens of the batch divided by their number. Everything is computed in float64, norms,
softmax and ropes too, one sequence at a time, so there is no padding. expected.safetensors has

    tokens, lengths, starts       int32: the sequences one after the other, their lengths and the first supervised position in each
    loss, gradient.NAME           for every tensor NAME of model.safetensors: a tied one is there once, with both of its shares
    loss.smoothed, smoothed.NAME  label smoothing of .1: .9 of the loss above and .1 of the mean of -ln softmax(z) over the
                                  vocabulary; for one matrix of attention and one of embedding

and where there is a weak.safetensors beside it, a second random model of the same shape, the loss of logits
lambda z_strong + (1 - lambda) z_weak with both models trained:

    mixed.lambda, mixed.loss, mixed.strong.NAME, mixed.weak.NAME

Losses and lambda are F64 of shape [1], gradients F32 of their tensor's shape. Before anything is written the gradients are held
against central differences along a random direction. The same versions write the same bytes.
"""

import pathlib
import sys

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig,
    LlamaForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config, Olmo2ForCausalLM, Qwen2Config, Qwen2ForCausalLM,
    Qwen3Config, Qwen3ForCausalLM)

from make import randomised, rope

VOCABULARY = 61
LENGTHS, STARTS = [5, 17, 30], [1, 6, 11]
SMOOTHING, LAMBDA = 0.1, 0.42
GATED = dict(vocab_size=VOCABULARY, hidden_size=24, intermediate_size=33, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64)
GROUPED = GATED | dict(hidden_size=28, intermediate_size=31, num_attention_heads=4, num_key_value_heads=2, head_dim=6)
GPT2 = dict(vocab_size=VOCABULARY, n_positions=40, n_layer=2, n_head=3)


def cases():
    """Name, model class, configuration, and whether there is a weak model beside it."""
    yield "llama", LlamaForCausalLM, LlamaConfig(**GATED, rope_parameters=rope(700.0), rms_norm_eps=1e-5), False
    yield ("llama-tied-gqa", LlamaForCausalLM,
           LlamaConfig(**GROUPED, tie_word_embeddings=True, rope_parameters=rope(900.0)), True)
    yield ("llama-biases", LlamaForCausalLM,
           LlamaConfig(**GATED, attention_bias=True, mlp_bias=True, hidden_act="gelu", rope_parameters=rope(500.0)), False)
    yield ("mistral-window", MistralForCausalLM,
           MistralConfig(**GROUPED, sliding_window=7, rope_parameters=rope(300.0)), False)
    yield ("qwen2", Qwen2ForCausalLM,
           Qwen2Config(**GATED | dict(num_attention_heads=4, num_key_value_heads=1), rope_parameters=rope(400.0)), False)
    yield ("qwen2-window-tied", Qwen2ForCausalLM,
           Qwen2Config(**GATED | dict(num_attention_heads=4, num_key_value_heads=2), tie_word_embeddings=True,
                       use_sliding_window=True, sliding_window=6, max_window_layers=1, rope_parameters=rope(400.0)), False)
    yield "qwen3", Qwen3ForCausalLM, Qwen3Config(**GROUPED, rope_parameters=rope(800.0)), False
    yield "gpt2", GPT2LMHeadModel, GPT2Config(**GPT2, n_embd=18), True
    yield ("gpt2-options", GPT2LMHeadModel,
           GPT2Config(**GPT2, n_embd=24, n_inner=38, activation_function="relu", scale_attn_by_inverse_layer_idx=True,
                      layer_norm_epsilon=1e-3), False)
    yield ("gemma3", Gemma3ForCausalLM,
           Gemma3TextConfig(**GROUPED, sliding_window=7, query_pre_attn_scalar=9, final_logit_softcapping=5.0,
                            layer_types=["sliding_attention", "full_attention"],
                            rope_parameters={
                                "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 4000.0},
                                "sliding_attention": rope(90.0)}), False)
    yield ("olmo2", Olmo2ForCausalLM,
           Olmo2Config(**GATED | dict(num_attention_heads=4, num_key_value_heads=2), rope_parameters=rope(450.0)), False)
    yield ("gpt_neox", GPTNeoXForCausalLM,
           GPTNeoXConfig(**GATED | dict(num_attention_heads=3), rope_parameters=rope(600.0, partial_rotary_factor=0.5)), False)


class Doubles(torch.overrides.TorchFunctionMode):
    """Models compute norms, softmax and ropes in float32 whatever the type of their weights: here they use float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.float:
            return args[0].double()

        def widened(value):
            return torch.float64 if value is torch.float32 else value

        return function(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})


def sequences():
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def loss_of(logits_of, smoothing=0.0):
    """The loss of the batch; `logits_of` gives the logits (T, V) of one sequence of T tokens."""
    total, supervised = 0.0, 0
    for tokens, start in zip(sequences(), STARTS):
        logits, labels = logits_of(tokens)[start - 1:-1], tokens[start:]
        total = total + F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        supervised += len(labels)
    return total / supervised


def exact(kind, config, path):
    """The model of a file in float64, the frequencies of its ropes too, and its parameters by the names that the file has."""
    with Doubles():
        model = kind(config).double().eval()
    # Files of GPT-NeoX have an older name for the head.
    parameters = {"embed_out.weight" if "NeoX" in kind.__name__ and name == "lm_head.weight" else name: parameter
                  for name, parameter in model.named_parameters()}
    tensors = load_file(path)
    assert set(parameters) == set(tensors), set(parameters) ^ set(tensors)
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[name])
    return model, parameters


def losses(loss, parameters, name, prefix, chosen=None):
    """The value of a loss and its gradients, of all parameters or of the chosen ones, as they are written."""
    with Doubles():
        value = loss()
        found = dict(zip(parameters, torch.autograd.grad(value, list(parameters.values()))))
        check(loss, parameters, found)
    kept = {f"{prefix}.{key}": found[key].float().contiguous() for key in chosen or parameters}
    return {name: value.detach().reshape(1)} | kept


def check(loss, parameters, found):
    """Central differences along one random direction agree with the gradients."""
    generator = torch.Generator().manual_seed(5)
    directions = {name: torch.randn(x.shape, generator=generator, dtype=torch.float64) for name, x in parameters.items()}
    slope = sum((found[name] * directions[name]).sum().item() for name in parameters)
    step, values = 1e-6, []
    with torch.no_grad():
        for steps in (1, -2):
            for name, parameter in parameters.items():
                parameter += steps * step * directions[name]
            values.append(loss().item())
        for name, parameter in parameters.items():
            parameter += step * directions[name]
    measured = (values[0] - values[1]) / (2 * step)
    assert abs(measured - slope) < 1e-6 * max(1, abs(slope)), (slope, measured)


def make(directory, name, kind, config, mixed):
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    target = directory / name
    seed = sum(name.encode())
    weak_path = target / "weak.safetensors"
    if mixed:
        randomised(kind, config, seed + 1).save_pretrained(target)
        (target / "model.safetensors").rename(weak_path)
    randomised(kind, config, seed).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)

    def logits(model):
        return lambda tokens: model(tokens[None], use_cache=False).logits[0]

    def plain():
        return loss_of(logits(model))

    def smoothed():
        return loss_of(logits(model), SMOOTHING)

    def mix():
        return loss_of(lambda tokens: LAMBDA * logits(model)(tokens) + (1 - LAMBDA) * logits(weak)(tokens))

    model, parameters = exact(kind, config, target / "model.safetensors")
    expected = losses(plain, parameters, "loss", "gradient")
    chosen = [next(key for key in parameters if any(part in key for part in parts))
              for parts in [("embed", "wte"), ("q_proj", "c_attn", "query_key_value")]]
    expected |= losses(smoothed, parameters, "loss.smoothed", "smoothed", chosen)
    if mixed:
        weak, others = exact(kind, config, weak_path)
        both = {f"strong.{key}": x for key, x in parameters.items()} | {f"weak.{key}": x for key, x in others.items()}
        expected |= losses(mix, both, "mixed.loss", "mixed")
        expected["mixed.lambda"] = torch.tensor([LAMBDA], dtype=torch.float64)
    expected |= {"tokens": torch.cat(sequences()).int(), "lengths": torch.tensor(LENGTHS).int(),
                 "starts": torch.tensor(STARTS).int()}
    # One key only: the library writes several in any order.
    version = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    save_file(expected, target / "expected.safetensors", metadata={"made_by": version})
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{name:18} {size / 1000:6.1f} KB, loss {expected['loss'].item():.6f}, smoothed of {', '.join(chosen)}")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    directory = pathlib.Path(sys.argv[1])
    for case in cases():
        make(directory, *case)


if __name__ == "__main__":
    main()
