"""Times what scores the completions of a probe with PyTorch on the processor: the entropy, the negative log-likelihood
and whether the likeliest token was the right one, at every token of every completion.

    python forward_peers.py MODEL PROBE [--threads N] [--rows transformers,lean,compiled,bf16]
                            [--budgets 512,1024,2048,4096]

MODEL is a folder with config.json and safetensors; PROBE has a line of JSON to each sample, {"id", "input_ids",
"completion_start"}: the token at t is scored by the logits at t - 1, in float32, and the scores are averaged by sample.

    transformers  AutoModelForCausalLM in float32 with sdpa; logits of the scored positions only
    lean          the same model (Llama, Qwen2, Qwen3) in as few operations as it takes, in float32
    compiled      that under torch.compile
    bf16          the lean one with weights and activations in bfloat16

All take samples sorted by length and padded on the right, in batches of so many tokens: every budget is tried once
and the best is kept. Prints a line of JSON to each row, then `ready`; then, for each line it reads, a line with the
seconds of every row. Needs torch, safetensors and transformers (the committed figures name their versions).
"""

import argparse
import json
import math
import pathlib
import sys
import time

import safetensors.torch
import torch
import torch.nn.functional as F


def read_probe(path):
    samples = []
    for line in path.read_text().splitlines():
        if line.strip():
            sample = json.loads(line)
            samples.append((torch.tensor(sample["input_ids"]), max(1, sample["completion_start"])))
    return samples


def batches(samples, budget):
    """Lists of (index, ids, start), of no more than `budget` tokens once padded, the longest first."""
    order = sorted(range(len(samples)), key=lambda i: -len(samples[i][0]))
    made, at = [], 0
    while at < len(order):
        count = max(1, budget // len(samples[order[at]][0]))
        made.append([(i, *samples[i]) for i in order[at:at + count]])
        at += count
    return made


def pad(batch):
    ids = torch.zeros(len(batch), len(batch[0][1]), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (_, tokens, _) in enumerate(batch):
        ids[row, :len(tokens)] = tokens
        mask[row, :len(tokens)] = 1
    return ids, mask


def scored(batch, width):
    """The rows of the flattened hidden states that score, the tokens they should have said, and how many by sample."""
    rows = torch.cat([torch.arange(row * width + start - 1, row * width + len(tokens) - 1)
                      for row, (_, tokens, start) in enumerate(batch)])
    return rows, torch.cat([tokens[start:] for _, tokens, start in batch]), [len(t) - s for _, t, s in batch]


def usual_scores(logits, targets):
    log = F.log_softmax(logits.float(), dim=-1)
    return torch.stack([-(log.exp() * log).sum(-1), -log.gather(1, targets[:, None])[:, 0],
                        (log.argmax(-1) == targets).float()])


def lean_scores(logits, targets):
    logits = logits.float()
    most, likeliest = logits.max(-1, keepdim=True)
    x = logits - most
    right = x.gather(1, targets[:, None])[:, 0]
    e = x.exp()
    total = e.sum(-1)
    log = total.log()
    return torch.stack([log - (e * x).sum(-1) / total, log - right, (likeliest[:, 0] == targets).float()])


def run(samples, budget, hidden_of, head, scores_of):
    """Mean scores by sample. `hidden_of` takes padded ids and their mask, `head` rows of what that returns."""
    means = torch.zeros(len(samples), 3)
    chunk = None
    for batch in batches(samples, budget):
        ids, mask = pad(batch)
        rows, targets, counts = scored(batch, ids.shape[1])
        hidden = hidden_of(ids, mask).flatten(0, 1)[rows]
        if chunk is None:
            chunk = max(32, (1 << 22) // head(hidden[:1]).shape[-1])
        parts = [scores_of(head(hidden[at:at + chunk]), targets[at:at + chunk]) for at in range(0, len(rows), chunk)]
        for (index, _, _), part in zip(batch, torch.cat(parts, dim=1).split(counts, dim=1)):
            means[index] = part.mean(1)
    return means


class Lean:
    """A decoder of Llama's kind without caches, masks or modules."""

    def __init__(self, folder, dtype):
        config = json.loads((folder / "config.json").read_text())
        kind = config["model_type"]
        rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
        scaling = config.get("rope_scaling") or rope
        plain = scaling.get("rope_type", scaling.get("type", "default")) == "default"
        if kind not in ("llama", "qwen2", "qwen3") or not plain or config.get("use_sliding_window"):
            raise ValueError("only plain llama, qwen2 and qwen3 have a lean twin")
        tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            tensors.update(safetensors.torch.load_file(path))
        self.heads = config["num_attention_heads"]
        self.kv = config.get("num_key_value_heads") or self.heads
        self.size = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps, self.theta, self.dtype = config["rms_norm_eps"], rope["rope_theta"], dtype

        def take(name):
            return tensors[name].to(dtype) if name in tensors else None

        def fuse(at, names, what):
            parts = [take("%s%s.%s" % (at, name, what)) for name in names]
            return None if parts[0] is None else torch.cat(parts)

        self.embed, self.norm = take("model.embed_tokens.weight"), take("model.norm.weight")
        self.output = self.embed if config.get("tie_word_embeddings") else take("lm_head.weight")
        self.layers = []
        for layer in range(config["num_hidden_layers"]):
            at = "model.layers.%d." % layer
            qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
            self.layers.append((
                take(at + "input_layernorm.weight"), fuse(at, qkv, "weight"), fuse(at, qkv, "bias"),
                take(at + "self_attn.q_norm.weight"), take(at + "self_attn.k_norm.weight"),
                take(at + "self_attn.o_proj.weight"), take(at + "self_attn.o_proj.bias"),
                take(at + "post_attention_layernorm.weight"), fuse(at, ["mlp.gate_proj", "mlp.up_proj"], "weight"),
                fuse(at, ["mlp.gate_proj", "mlp.up_proj"], "bias"), take(at + "mlp.down_proj.weight"),
                take(at + "mlp.down_proj.bias")))

    def angles(self, length):
        frequencies = self.theta ** (-torch.arange(0, self.size, 2, dtype=torch.float32) / self.size)
        angle = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def hidden(self, ids, cos, sin):
        count, length = ids.shape
        heads, kv, size = self.heads, self.kv, self.size
        cos, sin = cos[:, None], sin[:, None]
        x = F.embedding(ids, self.embed)
        for norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, norm2, up, up_bias, down, down_bias in self.layers:
            y = F.linear(F.rms_norm(x, norm.shape, norm, self.eps), qkv, qkv_bias)
            y = y.view(count, length, heads + 2 * kv, size)
            if q_norm is not None:
                y = torch.cat([F.rms_norm(y[:, :, :heads], (size,), q_norm, self.eps),
                               F.rms_norm(y[:, :, heads:heads + kv], (size,), k_norm, self.eps),
                               y[:, :, heads + kv:]], dim=2)
            first, second = y[:, :, :heads + kv].chunk(2, dim=-1)
            turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
            y = F.scaled_dot_product_attention(
                turned[:, :, :heads].transpose(1, 2), turned[:, :, heads:].transpose(1, 2),
                y[:, :, heads + kv:].transpose(1, 2), is_causal=True, enable_gqa=kv != heads)
            x = x + F.linear(y.transpose(1, 2).reshape(count, length, heads * size), o, o_bias)
            gate, y = F.linear(F.rms_norm(x, norm2.shape, norm2, self.eps), up, up_bias).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * y, down, down_bias)
        return F.rms_norm(x, self.norm.shape, self.norm, self.eps)

    def head(self, hidden):
        return F.linear(hidden, self.output)


def transformers_row(folder):
    import transformers
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    base, head = model.base_model, model.get_output_embeddings()
    return lambda ids, mask: base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state, head, \
        usual_scores


def lean_row(folder, dtype, longest, compiled=False):
    model = Lean(folder, dtype)
    cos, sin = model.angles(longest)
    hidden = torch.compile(model.hidden, dynamic=True) if compiled else model.hidden
    scores = torch.compile(lean_scores, dynamic=True) if compiled else lean_scores
    return lambda ids, _: hidden(ids, cos[:ids.shape[1]], sin[:ids.shape[1]]), model.head, scores


def sgemm_rate():
    """GFLOP/s of a product of the shapes of a model, on all threads."""
    a, b = torch.randn(1024, 768), torch.randn(4096, 768)
    best = math.inf
    for _ in range(20):
        begin = time.perf_counter()
        F.linear(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * 1024 * 768 * 4096 / best / 1e9


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("probe", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default="transformers,lean,compiled,bf16")
    parser.add_argument("--budgets", default="512,1024,2048,4096")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    samples = read_probe(options.probe)
    longest = max(len(ids) for ids, _ in samples)
    tokens = sum(len(ids) - start for ids, start in samples)
    makers = {
        "transformers": ("f32", lambda: transformers_row(options.model)),
        "lean": ("f32", lambda: lean_row(options.model, torch.float32, longest)),
        "compiled": ("f32", lambda: lean_row(options.model, torch.float32, longest, compiled=True)),
        "bf16": ("bf16", lambda: lean_row(options.model, torch.bfloat16, longest)),
    }
    rows = {}
    with torch.inference_mode():
        print(json.dumps({"name": "sgemm", "gflops": sgemm_rate()}), flush=True)
        for name in options.rows.split(","):
            dtype, maker = makers[name]
            try:
                begin = time.perf_counter()
                parts = maker()
                load = time.perf_counter() - begin

                def timed(budget, parts=parts):
                    begin = time.perf_counter()
                    means = run(samples, budget, *parts)
                    return time.perf_counter() - begin, means

                begin = time.perf_counter()
                run(samples[:4], 512, *parts)
                if name == "compiled":
                    # Batches of other shapes may compile again: not what is timed.
                    run(samples, 1024, *parts)
                warm = time.perf_counter() - begin
                tried = {budget: timed(budget) for budget in (int(x) for x in options.budgets.split(","))}
                best = min(tried, key=lambda budget: tried[budget][0])
            except Exception as error:
                print("%s: skipped: %s" % (name, str(error).splitlines()[:1] or type(error).__name__), file=sys.stderr)
                continue
            means = tried[best][1].double().mean(0).tolist()
            rows[name] = (timed, best)
            print(json.dumps({
                "name": name, "dtype": dtype, "scored_tokens": tokens, "mean_entropy": means[0], "mean_nll": means[1],
                "mean_top1": means[2], "budget": best, "load_seconds": load, "warm_up_seconds": warm,
                "threads": options.threads, "torch": torch.__version__}), flush=True)
        print("ready", flush=True)
        # A round for each line: others run between them, so that all see the same machine.
        for _ in sys.stdin:
            print(json.dumps({name: timed(best)[0] for name, (timed, best) in rows.items()}), flush=True)


if __name__ == "__main__":
    main()
