"""Weak-driven training from a store: the weak is a snapshot, figures are a record, and what a kill stops goes on from the store."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ckpt import wmss  # noqa: E402
from ckpt.transformers import CkptCallback  # noqa: E402

VOCABULARY = 50


def model(seed):
    torch.manual_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16
    )
    return transformers.Qwen3ForCausalLM(config)


def data(count=16):
    random = torch.Generator().manual_seed(5)
    tokens = torch.randint(1, VOCABULARY, (count, 10), generator=random)
    return [{"input_ids": row, "labels": torch.cat([torch.full((4,), -100), row[4:]])} for row in tokens]


def trainer(store, output, steps, callbacks=(), **options):
    args = transformers.TrainingArguments(
        str(output), max_steps=steps, save_steps=2, per_device_train_batch_size=4, learning_rate=1e-3, report_to=[], disable_tqdm=True, use_cpu=True,
        seed=3, logging_steps=1, lr_scheduler_type="constant",
    )  # fmt: skip
    strong = model(2)
    store["m@2"].load_into(strong)
    return wmss.WeakDrivenTrainer(strong, args, train_dataset=data(), callbacks=list(callbacks), weak=store["m@1"], select="code", **options)


@pytest.mark.parametrize("branch", ["joint", "frozen"])
def test_stopped_and_gone_on_from_the_store(store, tmp_path, branch):
    for step in (1, 2):
        store.ingest(model(step), run="m", step=step)
    plain = trainer(store, tmp_path / "plain", 6, weak_branch=branch)
    plain.train()
    first = trainer(store, tmp_path / "kept", 4, [CkptCallback(store, run=branch)], weak_branch=branch)
    first.train()
    callback = CkptCallback(store, run=branch)
    second = trainer(store, tmp_path / "kept", 6, [callback], weak_branch=branch)
    second.train(resume_from_checkpoint=callback.resume(str(tmp_path / "kept")))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    snapshot = store[f"{branch}@6"]
    assert all(torch.equal(snapshot.torch(name), plain.model.state_dict()[name]) for name in snapshot)
    # The weak branch is part of the optimizer's state: the weights are those of the model that is deployed.
    files = {tensor.file: tensor.part for tensor in snapshot.tensors}
    assert {file for file, part in files.items() if part == "weights"} == {"model.safetensors"}
    assert transformers.AutoModelForCausalLM.from_pretrained(snapshot.path).num_parameters() == model(1).num_parameters()
    assert store.verify()["ok"]


def test_entropies_become_a_record(store):
    samples = data()
    probe = [{"id": str(index), "input_ids": row["input_ids"].tolist(), "labels": row["labels"].tolist()} for index, row in enumerate(samples)]
    store.add_probe("p", probe)
    loader = torch.utils.data.DataLoader(samples, batch_size=4)
    found = {}
    for step in (1, 2):
        store.ingest(model(step), run="m", step=step)
        found[step] = wmss.entropies(model(step), loader)
        store.put_entropies(f"m@{step}", "p", found[step], provenance={"device": "cpu"})
        kept = store.entropies(f"m@{step}", "p")
        assert np.array_equal(kept.columns["nll"], found[step].token_nll) and kept.means() == pytest.approx(found[step].entropy, rel=1e-6)
    weights = wmss.curriculum_weights(store.entropies("m@1", "p").means(), store.entropies("m@2", "p").means())
    assert weights == pytest.approx(wmss.curriculum_weights(found[1].entropy, found[2].entropy), rel=1e-4)
    order = list(wmss.CurriculumBatchSampler(weights, 4, seed=1))
    assert [len(batch) for batch in order] == [4] * 4 and {index for batch in order for index in batch} <= set(range(16))
