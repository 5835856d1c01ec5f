"""Adapters: in, out, and compared by what they do to the weights."""

import pathlib

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from ckpt.peft import diff_adapters, ingest_adapter, load_adapter  # noqa: E402


def base():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    return transformers.LlamaForCausalLM(config)


def adapted(**options):
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **options)
    return peft.get_peft_model(base(), config)


def shake(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(torch.randn(value.shape, generator=generator) * 0.1)


def test_in_and_out(store, tmp_path):
    model = adapted()
    shake(model, 1)
    model.save_pretrained(tmp_path / "a")
    result = ingest_adapter(store, model, run="lora", step=1)
    assert result.raw_bytes < 60_000
    path = pathlib.Path(store["lora"].path)
    assert (path / "adapter_model.safetensors").read_bytes() == (tmp_path / "a" / "adapter_model.safetensors").read_bytes()
    tokens = torch.arange(10)[None]
    again = peft.PeftModel.from_pretrained(base(), path)
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    expected = model(tokens).logits.clone()
    shake(model, 2)
    ingest_adapter(store, model, run="lora", step=2)
    load_adapter(store["lora@1"], model, "older")
    assert not any(value.requires_grad for name, value in model.named_parameters() if ".older." in name)
    model.set_adapter("older")
    assert torch.equal(model(tokens).logits, expected)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 20}, "rank_pattern": {"down_proj": 2}}])
def test_differences_of_what_they_make_of_the_weights(store, options):
    model = adapted(**options)
    deltas = []
    for step in (1, 2):
        shake(model, step)
        ingest_adapter(store, model, run="lora", step=step)
        modules = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
        deltas.append({name: module.get_delta_weight("default").detach().double() for name, module in modules.items()})
    found = diff_adapters(store["lora@1"], store["lora@2"], values=3)
    assert len(found) == 4 and found.mismatched == [] and "down_proj" in str(found)
    for row in found:
        name = next(name for name in deltas[0] if row["name"].endswith(name.removeprefix("base_model.")))
        a, b = deltas[0][name], deltas[1][name]
        assert row["shape"] == list(a.shape)
        assert row["first_l2"] == pytest.approx(float(a.norm()), rel=1e-5) and row["delta_l2"] == pytest.approx(float((b - a).norm()), rel=1e-5)
        assert row["cosine"] == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), rel=1e-4)
        assert row["values"] == pytest.approx(torch.linalg.svdvals(b - a)[:3].tolist(), rel=1e-4)
    same = diff_adapters(store["lora@1"], store["lora@1"])
    assert all(row["delta_l2"] < 1e-6 and row["cosine"] == pytest.approx(1) for row in same)
