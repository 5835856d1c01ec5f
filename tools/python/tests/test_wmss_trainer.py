"""WeakDrivenTrainer with tiny models on the CPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import safetensors.torch

from ckpt.random import BatchOrder, rotation_offsets
from ckpt.wmss import WeakDrivenTrainer, WeakModel, curriculum_weights, entropies, reference_mixed_cross_entropy

torch.set_num_threads(1)

SIZES = dict(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             head_dim=8, max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def model(seed, **named):
    torch.manual_seed(seed)
    made = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**SIZES, **named}))
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(10)
    return made


class Samples(torch.utils.data.Dataset):
    def __init__(self, count=21):
        generator = torch.Generator().manual_seed(9)
        self.samples = []
        for _ in range(count):
            length = int(torch.randint(4, 12, (1,), generator=generator))
            ids = torch.randint(3, 61, (length,), generator=generator)
            labels = ids.clone()
            labels[:2] = -100
            self.samples.append({"input_ids": ids, "labels": labels})

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, place):
        assert isinstance(place, int)
        return self.samples[place]


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    batch = {name: torch.full((len(rows), width), fill) for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))}
    for i, row in enumerate(rows):
        for name, values in (*row.items(), ("attention_mask", 1)):
            batch[name][i, :len(row["input_ids"])] = values
    return batch


def trainer(directory, strong=None, weak="other", dataset=None, micro=4, accumulated=1, arguments=None, **named):
    if isinstance(weak, str) and weak == "other":
        weak = model(2)
    settings = dict(
        output_dir=str(directory), per_device_train_batch_size=micro, gradient_accumulation_steps=accumulated, learning_rate=1e-2,
        max_steps=3, lr_scheduler_type="linear", warmup_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        logging_steps=1, seed=5, weight_decay=0.1)
    return WeakDrivenTrainer(
        model=strong or model(1), args=transformers.TrainingArguments(**{**settings, **(arguments or {})}),
        train_dataset=dataset or Samples(), data_collator=collate, weak=weak, **named)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.equal(found[name], expected[name]), name


def by_hand(strong, weak, dataset, steps, batch_size, lam=0.5, mix="weak", weak_branch="joint", select="code", seed=5):
    """The same training in a few lines of plain PyTorch."""
    def found(model):
        return entropies(model, (collate([sample]) for sample in dataset)).entropy

    if select == "uniform":
        weights = np.ones(len(dataset))
    else:
        weights = curriculum_weights(found(weak), found(strong), select)
    order = BatchOrder(select, weights, seed=seed, batch_size=batch_size)
    trained = [strong, weak] if weak_branch == "joint" and mix in ("weak", "shuffled") else [strong]
    decaying, others = [], []
    for module in trained:
        for name, parameter in module.named_parameters():
            (others if "norm" in name else decaying).append(parameter)
    optimizer = torch.optim.AdamW([{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (0 if step == 0 else (steps - step) / (steps - 1))
        places = order.batch(step).samples.tolist()
        batch = collate([dataset[place] for place in places])
        labels = batch.pop("labels")[:, 1:]
        rotations = rotation_offsets(61, seed, np.array(places)[:, None], np.arange(1, labels.shape[1] + 1)[None])
        hidden = [module.model(**batch).last_hidden_state[:, :-1].reshape(-1, 16) for module in (strong, weak)]
        loss = reference_mixed_cross_entropy(
            hidden[0], strong.lm_head.weight, hidden[1], weak.lm_head.weight, labels.reshape(-1), lam=lam, mix=mix,
            weak_branch=weak_branch, rotations=torch.from_numpy(rotations).reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for module in trained for p in module.parameters()], 1.0)
        optimizer.step()
        for module in (strong, weak):
            module.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("named", [
    {}, {"weak_branch": "frozen", "lam": 0.42}, {"mix": "shuffled", "select": "v1"}, {"mix": "temperature", "select": "v2"},
    {"mix": "none", "select": "uniform"}])
def test_as_training_by_hand(tmp_path, named):
    dataset, strong, weak = Samples(), model(1), model(2)
    expected_strong, expected_weak = copy.deepcopy(strong), copy.deepcopy(weak)
    made = trainer(tmp_path, strong, weak, dataset, arguments={"max_steps": 8}, **named)
    made.train()
    expected = by_hand(expected_strong, expected_weak, dataset, 8, 4, **named)
    assert [log["loss"] for log in made.state.log_history if "loss" in log] == pytest.approx(expected, abs=1e-4)
    for found, wanted in ((strong, expected_strong), (weak, expected_weak)):
        for (name, p), q in zip(found.named_parameters(), wanted.parameters()):
            assert (p - q).abs().max() < 2e-4, name
    # By step 8 it has long begun to differ from where it started.
    assert (strong.lm_head.weight - model(1).lm_head.weight).abs().max() > 1e-2
    is_joint = named.get("weak_branch") != "frozen" and named.get("mix", "weak") in ("weak", "shuffled")
    assert torch.equal(weak.lm_head.weight, model(2).lm_head.weight) == (not is_joint)
    assert weak.training == is_joint
    if is_joint:
        log = next(log for log in made.state.log_history if "grad_norm" in log)
        assert log["grad_norm"] == pytest.approx(np.hypot(log["grad_norm_strong"], log["grad_norm_weak"]), rel=1e-5)
        assert log["grad_norm_weak"] > 0


@pytest.mark.parametrize("named", [{}, {"weak_branch": "frozen"}, {"select": "v2", "mix": "shuffled"}])
def test_accumulated_equals_unaccumulated(tmp_path, named):
    whole, parts = (trainer(tmp_path, micro=micro, accumulated=8 // micro, arguments={"max_steps": 5, "learning_rate": 1e-3}, **named)
                    for micro in (8, 2))
    for made in (whole, parts):
        made.train()
    for key in ("loss", "grad_norm"):
        values = [[log[key] for log in made.state.log_history if key in log] for made in (whole, parts)]
        # The third step is the small one of a pass of 21: of its four micro-batches one is empty.
        assert len(values[0]) == 5 and values[0] == pytest.approx(values[1], abs=2e-5, rel=1e-5)
    batch = collate([Samples()[i] for i in range(8)])
    count = batch["labels"][:, 1:].ne(-100).sum()
    fresh = trainer(tmp_path, **named)
    numbered = {**batch, "ckpt_sample": torch.arange(8)}
    fresh.model.train()
    fresh.compute_loss(fresh.model, numbered, num_items_in_batch=count).backward()
    gradients = [p.grad.clone() for p in fresh.model.parameters()]
    fresh.model.zero_grad()
    for rows in (slice(0, 3), slice(3, 8)):
        fresh.compute_loss(fresh.model, {name: t[rows] for name, t in numbered.items()}, num_items_in_batch=count).backward()
    for found, wanted in zip((p.grad for p in fresh.model.parameters()), gradients):
        assert (found - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("named, accumulated", [({}, 1), ({"weak_branch": "frozen"}, 1), ({"select": "v2", "mix": "shuffled"}, 2)])
@pytest.mark.parametrize("stop", [4, 6])  # within a pass, and at the end of one
def test_resumed_is_uninterrupted(tmp_path, named, accumulated, stop):
    arguments = {"max_steps": 8, "save_strategy": "steps", "save_steps": stop, "logging_steps": 2}
    # Dropout, so that the state of the generator counts as well.
    def fresh(seed=1, seed_weak=2):
        return trainer(tmp_path, model(seed, attention_dropout=0.2), model(seed_weak, attention_dropout=0.2),
                       micro=4 // accumulated, accumulated=accumulated, arguments=arguments, **named)

    whole = fresh()
    whole.train()
    checkpoint = tmp_path / f"checkpoint-{stop}"
    assert (checkpoint / "optimizer.weak.safetensors").exists() == (named.get("weak_branch") != "frozen")
    # What is saved as the model is the strong one alone.
    saved = safetensors.torch.load_file(checkpoint / "model.safetensors")
    assert saved.keys() <= whole.model.state_dict().keys()
    # All that was trained comes from the checkpoint, and so does what was computed of it.
    resumed = fresh(7, 2 if named.get("weak_branch") == "frozen" else 8)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert_equal(state(resumed.model), state(whole.model))
    assert_equal(state(resumed.weak.module), state(whole.weak.module))
    kept = [(log["step"], log["loss"], log["grad_norm"]) for log in resumed.state.log_history if "loss" in log]
    assert kept == [(log["step"], log["loss"], log["grad_norm"]) for log in whole.state.log_history if "loss" in log]
    assert not torch.equal(saved["lm_head.weight"], whole.model.lm_head.weight)


@pytest.mark.parametrize("mix, select", [("weak", "code"), ("none", "uniform")])
def test_autocast(tmp_path, mix, select):
    made = [trainer(tmp_path, mix=mix, select=select, arguments={"bf16": is_half, "learning_rate": 1e-3}) for is_half in (False, True)]
    losses = []
    for each in made:
        each.train()
        losses.append([log["loss"] for log in each.state.log_history if "loss" in log])
    assert losses[0] == pytest.approx(losses[1], abs=0.05) and losses[0] != losses[1]
    assert made[1].model.lm_head.weight.dtype == torch.float32


def test_an_equal_weak_stays_equal(tmp_path):
    strong = model(1)
    made = trainer(tmp_path, strong, copy.deepcopy(strong), select="uniform", arguments={"weight_decay": 0})
    made.train()
    assert_equal(state(made.weak.module), state(strong))


def test_a_weak_that_is_loaded(tmp_path):
    class Snapshot:
        def load_into(self, module):
            module.load_state_dict(model(2).state_dict())

    made = [trainer(tmp_path, weak=weak) for weak in (Snapshot(), Snapshot().load_into, "other")]
    for each in made:
        each.train()
        assert each.weak.module is not each.model
        assert_equal(state(each.model), state(made[0].model))


def test_given_entropies_are_used(tmp_path, monkeypatch):
    from ckpt.wmss import trainer as trainer_file

    monkeypatch.setattr(trainer_file, "computed_entropies", lambda *_, **__: pytest.fail("computed"))
    given = np.linspace(0.1, 2, 21), np.linspace(1, 0.1, 21)
    made = trainer(tmp_path, entropies=given, coefficients=(0.2, 0.7, 0.1))
    made.train()
    assert made._weights.tolist() == curriculum_weights(*given, "code", 0.2, 0.7, 0.1).tolist()


def test_evaluation_is_of_the_strong_model(tmp_path):
    made = trainer(tmp_path, select="uniform")
    made.train()
    found = made.evaluate(Samples(8))["eval_loss"]
    with torch.no_grad():
        batch = collate(Samples(8).samples)
        assert found == pytest.approx(float(made.model(**batch).loss), abs=1e-5)


def lora(seed=1):
    peft = pytest.importorskip("peft")
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_dropout=0.1)
    return peft.get_peft_model(model(1), config), config


def test_peft_without_the_adapter_is_a_frozen_copy_of_the_base(tmp_path):
    shared, separate = lora()[0], lora()[0]
    # One after the other: making a trainer seeds the generator that dropout draws from.
    trainer(tmp_path, shared, "adapter-off").train()
    trainer(tmp_path, separate, model(1), weak_branch="frozen").train()
    assert_equal(state(shared), state(separate))
    assert not torch.equal(state(shared)["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"],
                           state(lora()[0])["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"])


def test_peft_with_another_adapter(tmp_path):
    strong, config = lora()
    strong.add_adapter("older", config)
    before = state(strong)
    made = trainer(tmp_path, strong, ("adapter", "older"), arguments={"save_strategy": "steps", "save_steps": 2, "max_steps": 4})
    made.train()
    after = state(strong)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "lora_" in name and ".default." in name}
    assert strong.active_adapter == "default"
    assert not (tmp_path / "checkpoint-2" / "optimizer.weak.safetensors").exists()
    again, config = lora()
    again.add_adapter("older", config)
    again.load_state_dict(before)
    resumed = trainer(tmp_path, again, ("adapter", "older"), arguments={"max_steps": 4})
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_equal(state(again), after)


@pytest.mark.parametrize("weak", ["adapter-off", ("adapter", "older"), "separate"])
def test_a_frozen_weak_runs_in_eval_mode_and_leaves_all_as_it_was(weak):
    strong, config = lora()
    strong.add_adapter("older", config)
    trained = [p for name, p in strong.named_parameters() if ".default." in name]
    trained[0].requires_grad_(False)
    strong.train()
    strong.base_model.model.model.layers[0].eval()
    made = WeakModel(strong, model(2).train() if weak == "separate" else weak, is_joint=False)

    def seen():
        return [p.requires_grad for p in strong.parameters()], [m.training for m in strong.modules()], strong.active_adapter

    before = seen()
    ids = torch.arange(5, 12)[None]
    with made.active() as module:
        assert not any(m.training for m in module.modules()) and not torch.is_grad_enabled()
        assert not module(input_ids=ids).logits.requires_grad
    assert seen() == before
    assert strong(input_ids=ids).logits.requires_grad


def test_epochs_are_passes(tmp_path):
    seen = []

    class Watch(transformers.TrainerCallback):
        def on_epoch_end(self, args, state, *_, **__):
            seen.append(state.global_step)

    made = trainer(tmp_path, select="uniform", arguments={"max_steps": -1, "num_train_epochs": 3})
    made.add_callback(Watch())
    made.train()
    assert seen == [6, 12, 18]


def test_a_sample_without_a_supervised_token_is_named(tmp_path):
    dataset = Samples()
    dataset.samples[3]["labels"][:] = -100
    with pytest.raises(ValueError, match="sample 3: no supervised token"):
        trainer(tmp_path, dataset=dataset).train()
    with pytest.raises(ValueError, match="sample 3: no supervised token"):
        trainer(tmp_path, dataset=dataset, select="uniform", arguments={"max_steps": 6}).train()


@pytest.mark.parametrize("named", [
    {"weak": None, "mix": "weak"}, {"weak": "adapter-off"}, {"weak": 5}, {"lam": 2}, {"mix": "half"}, {"weak_branch": "both"},
    {"weak": None, "mix": "none", "select": "code"}, {"entropies": ([1.0], [1.0])}, {"arguments": {"label_smoothing_factor": 0.1}}])
def test_what_does_not_fit_is_refused(tmp_path, named):
    with pytest.raises(ValueError):
        trainer(tmp_path, **named).train()


def test_a_strong_model_is_not_its_own_weak(tmp_path):
    strong = model(1)
    with pytest.raises(ValueError, match="copy"):
        trainer(tmp_path, strong, strong)


def test_a_checkpoint_of_another_weak_is_refused(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, arguments=arguments).train()
    other = trainer(tmp_path, weak=model(2, num_hidden_layers=1), select="uniform", arguments=arguments)
    with pytest.raises(ValueError):
        other.train(resume_from_checkpoint=True)
