"""Entropies against full logits in double precision."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ckpt.wmss import entropies, entropy as entropy_file, split_model

torch.set_num_threads(1)

SIZES = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def model(kind="Qwen3", dtype=torch.float32, **named):
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **named})
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(20)  # logits that tell tokens apart
    return made.to(dtype).eval()


def samples(count=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        length = int(torch.randint(3, 14, (1,), generator=generator))
        ids = torch.randint(3, 97, (length,), generator=generator)
        labels = ids.clone()
        labels[:int(torch.randint(0, length, (1,), generator=generator))] = -100
        found.append((ids, labels))
    return found


def batches(samples, size, side="right"):
    for first in range(0, len(samples), size):
        rows = samples[first:first + size]
        width = max(len(ids) for ids, _ in rows)
        batch = {name: torch.full((len(rows), width), fill) for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))}
        for row, (ids, labels) in enumerate(rows):
            place = slice(0, len(ids)) if side == "right" else slice(width - len(ids), width)
            batch["input_ids"][row, place], batch["attention_mask"][row, place], batch["labels"][row, place] = ids, 1, labels
        yield batch


def expected(model, samples):
    """Entropy, nll and the likeliest token at each supervised token, in double precision, one sample at a time."""
    for ids, labels in samples:
        with torch.no_grad():
            log = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        where = [t for t in range(1, len(ids)) if labels[t] != -100]
        yield ([float(-(log[t - 1].exp() * log[t - 1]).sum()) for t in where], [float(-log[t - 1, ids[t]]) for t in where],
               [int(log[t - 1].argmax()) for t in where])


def assert_as_expected(found, model, samples, tolerance=2e-6):
    assert len(found) == len(samples)
    for i, (entropy, nll, top1) in enumerate(expected(model, samples)):
        assert found.entropy[i] == pytest.approx(np.mean(entropy), abs=tolerance)
        assert found.nll[i] == pytest.approx(np.mean(nll), abs=tolerance)
        columns = found.columns(i)
        assert columns["entropy"] == pytest.approx(entropy, abs=tolerance)
        assert columns["nll"] == pytest.approx(nll, abs=tolerance)
        assert columns["top1"].tolist() == top1
        assert [c.dtype for c in columns.values()] == [np.float32, np.float32, np.uint32]


@pytest.mark.parametrize("kind, named", [
    ("Llama", {}), ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    ("Granite", {"logits_scaling": 4.0}), ("Cohere", {"logit_scale": 0.25}), ("Phi", {"num_key_value_heads": 4}),
])
def test_models_against_full_logits(kind, named):
    made, given = model(kind, **named), samples()
    split = split_model(made, given[0][0][None])
    assert split is not None  # no falling back here
    assert (split.softcap, split.scale) == {"Gemma2": (3.0, None), "Granite": (None, 0.25), "Cohere": (None, 0.25)}.get(kind, (None, None))
    assert (split.bias is not None) == (kind == "Phi")
    assert_as_expected(entropies(made, batches(given, 3), chunk=5), made, given)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(side):
    made, given = model(), samples()
    padded, alone = entropies(made, batches(given, 7, side)), entropies(made, batches(given, 1))
    np.testing.assert_allclose(padded.entropy, alone.entropy, atol=1e-5)
    np.testing.assert_allclose(padded.token_nll, alone.token_nll, atol=1e-5)
    np.testing.assert_array_equal(padded.offsets, alone.offsets)


def test_only_the_tokens_of_the_mask_count():
    made, given = model(), samples()
    for (_, labels), (entropy, _, _) in zip(given, expected(made, given)):
        assert len(entropy) == int((labels[1:] != -100).sum())
    assert np.diff(entropies(made, batches(given, 2)).offsets).tolist() == [len(e) for e, _, _ in expected(made, given)]


def test_a_model_whose_logits_are_otherwise_falls_back(monkeypatch):
    made, given = model("Llama"), samples()
    plain = made.forward

    def forward(*arguments, **named):
        output = plain(*arguments, **named)
        output.logits = output.logits * 1.5
        return output

    monkeypatch.setattr(made, "forward", forward)
    assert split_model(made, given[0][0][None]) is None
    assert_as_expected(entropies(made, batches(given, 3)), made, given)


def test_half_precision():
    made, given = model(dtype=torch.bfloat16), samples()
    # Logits are the model's own, in bfloat16; all after them is not.
    found = entropies(made, batches(given, 1))
    for i, (entropy, nll, _) in enumerate(expected(made, given)):
        assert found.entropy[i] == pytest.approx(np.mean(entropy), abs=0.02)
        assert found.nll[i] == pytest.approx(np.mean(nll), abs=0.05)


def test_a_sure_model_has_an_entropy_of_zero_not_below():
    logits = torch.full((2, 9), float("-inf"))
    logits[0, 3], logits[1, :2] = 5.0, 1.0
    entropy, nll, top1 = entropy_file._scores(logits, torch.tensor([3, 1]), None, None)
    assert entropy.tolist() == pytest.approx([0, np.log(2)]) and nll.tolist() == pytest.approx([0, np.log(2)])
    assert entropy[0] >= 0 and top1.tolist()[0] == 3


def test_peft():
    peft = pytest.importorskip("peft")
    given = samples()
    base = model()
    before = entropies(base, batches(given, 3))
    wrapped = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    assert split_model(wrapped, given[0][0][None]) is not None
    assert_as_expected(entropies(wrapped, batches(given, 3)), wrapped.eval(), given)
    with wrapped.disable_adapter():
        np.testing.assert_array_equal(entropies(wrapped, batches(given, 3)).entropy, before.entropy)
    assert not np.allclose(entropies(wrapped, batches(given, 3)).entropy, before.entropy)


def test_peft_with_an_adapter_on_the_head():
    peft = pytest.importorskip("peft")
    given = samples()
    for named in ({"target_modules": ["lm_head"]}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}):
        wrapped = peft.get_peft_model(model("Llama"), peft.LoraConfig(r=4, init_lora_weights=False, **named))
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        assert (split_model(wrapped, given[0][0][None]) is None) == ("modules_to_save" not in named)
        assert_as_expected(entropies(wrapped, batches(given, 3)), wrapped.eval(), given)


def test_modes_are_as_before():
    made, seen = model().train(), []
    made.model.layers[0].eval()
    entropies(made, batches(samples(), 3), progress=seen.append)
    assert seen == [3, 6, 7]
    assert made.training and made.model.layers[1].training and not made.model.layers[0].training


def test_a_sample_without_a_supervised_token_is_named():
    given = samples()
    given[4][1][:] = -100
    with pytest.raises(ValueError, match="sample 4: no supervised token"):
        entropies(model(), batches(given, 3))
    with pytest.raises(ValueError, match="no samples"):
        entropies(model(), [])
