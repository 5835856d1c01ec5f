"""The Trainer with a store, beside the Trainer with directories: killed, resumed, and the same to the bit."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

import ckpt

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

PROGRAM = '''
import os, signal, sys, torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

mode, output, store, kill = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

class Kill(TrainerCallback):
    """As a machine that is taken away: in the middle of a step, with no time for anything."""
    def on_step_begin(self, args, state, control, **_):
        if kill and state.global_step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

transformers.set_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, attention_dropout=0.1, **{"pad_token_id": 0})
model = LlamaForCausalLM(config)
generator = torch.Generator().manual_seed(1)
tokens = torch.randint(1, 64, (64, 12), generator=generator)
data = [{"input_ids": row, "labels": row} for row in tokens]
best = dict(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, metric_for_best_model="eval_loss") if "best" in mode else {}
args = TrainingArguments(
    output, max_steps=12, save_steps=2 if "best" in mode else 3, per_device_train_batch_size=4, learning_rate=3e-2 if "best" in mode else 1e-3, logging_steps=1, report_to=[],
    disable_tqdm=True, use_cpu=True, seed=3, save_total_limit=2 if mode == "limit" else None, **best)
callbacks = [Kill()]
resume = None
if "directories" not in mode:
    from ckpt.transformers import CkptCallback
    callback = CkptCallback(store, run="sft", optimizer_keep=2)
    callbacks.append(callback)
    resume = callback.resume(output) if mode != "anew" else None
else:
    from transformers.trainer_utils import get_last_checkpoint
    resume = get_last_checkpoint(output) if os.path.isdir(output) else None
trainer = Trainer(model, args, train_dataset=data, eval_dataset=data[:8], callbacks=callbacks)
trainer.train(resume_from_checkpoint=resume)
torch.save({"weights": model.state_dict(), "optimizer": trainer.optimizer.state_dict(), "resumed": resume}, output + ".pt")
'''


def run(tmp_path, mode, kill=0, name=None, check=True):
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    output = str(tmp_path / (name or mode))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, output, str(tmp_path / "store"), str(kill)], env=environment, capture_output=True, text=True, timeout=300
    )
    if check:
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    return pathlib.Path(output)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def test_killed_and_resumed_as_never_stopped(tmp_path):
    plain = run(tmp_path, "directories")
    expected = torch.load(f"{plain}.pt")
    run(tmp_path, "store", kill=8)
    store = ckpt.open(str(tmp_path / "store"))
    run(tmp_path, "store", kill=11)
    resumed = run(tmp_path, "store")
    found = torch.load(f"{resumed}.pt")
    assert found["resumed"] and "images" in found["resumed"]
    assert same(found["weights"], expected["weights"]) and same(found["optimizer"], expected["optimizer"])
    assert store.runs["sft"].steps == [3, 6, 9, 12] and not list(resumed.glob("checkpoint-*"))
    # Every snapshot is what the Trainer writes without a store.
    for step in (3, 6, 9, 12):
        there = store[f"sft@{step}"]
        on_disk = safetensors_torch.load_file(plain / f"checkpoint-{step}" / "model.safetensors")
        assert set(there) == set(on_disk) and all(torch.equal(there.torch(name), value) for name, value in on_disk.items())
        assert there.file("config.json") == (plain / f"checkpoint-{step}" / "config.json").read_bytes()
        assert (step in (9, 12)) == any(tensor.part == "optimizer" for tensor in there.tensors)
    head = pathlib.Path(store["sft"].path)
    for name in ("model.safetensors", "scheduler.pt", "optimizer.pt"):
        a, b = head / name, plain / "checkpoint-12" / name
        assert a.read_bytes() == b.read_bytes() if name == "model.safetensors" else same(torch.load(a), torch.load(b)), name
    assert store["sft@6"].metrics["loss"] > 0
    model = transformers.AutoModelForCausalLM.from_pretrained(store["sft@6"].path)
    assert same(model.state_dict()["model.norm.weight"], store["sft@6"].torch("model.norm.weight"))
    assert store.verify()["ok"]


def test_what_a_kill_leaves_is_taken_in(tmp_path):
    """A checkpoint that was whole in its directory when the process died, before the store had it."""
    plain = run(tmp_path, "directories", kill=8, name="store")
    assert len(list(plain.glob("checkpoint-*"))) == 2
    (plain / "checkpoint-9").mkdir()
    (plain / "checkpoint-9" / "config.json").write_text("{}")
    resumed = run(tmp_path, "store")
    assert ckpt.open(str(tmp_path / "store")).runs["sft"].steps == [3, 6, 9, 12]
    assert torch.load(f"{resumed}.pt")["resumed"]


def test_the_best_survives_a_resume(tmp_path):
    plain = run(tmp_path, "bestdirectories")
    run(tmp_path, "best", kill=9)
    resumed = run(tmp_path, "best")
    assert same(torch.load(f"{resumed}.pt")["weights"], torch.load(f"{plain}.pt")["weights"])
    assert not list(resumed.glob("checkpoint-*"))


def test_directories_of_others_stay(tmp_path):
    """A run that has other bytes at a step leaves what the Trainer wrote there before."""
    run(tmp_path, "directories", name="first")
    store = ckpt.open(str(tmp_path / "store"), create=True)
    store.ingest({"w": torch.ones(2)}, run="sft", step=3)
    from ckpt.transformers import CkptCallback

    assert CkptCallback(tmp_path / "store", run="sft").resume(str(tmp_path / "first"))
    assert sorted(path.name for path in (tmp_path / "first").glob("checkpoint-*")) == ["checkpoint-3"]
    assert store.runs["sft"].steps == [3, 6, 9, 12]


@pytest.mark.parametrize("mode", ["limit", "best"])
def test_with_the_trainers_own_retention(tmp_path, mode):
    output = run(tmp_path, mode)
    steps = ckpt.open(str(tmp_path / "store")).runs["sft"].steps
    assert steps == ([2, 4, 6, 8, 10, 12] if mode == "best" else [3, 6, 9, 12])
    assert not list(output.glob("checkpoint-*"))


def test_a_store_that_cannot_take_it_loses_nothing(tmp_path):
    store = ckpt.open(str(tmp_path / "store"), create=True)
    # Something else stands at step 6.
    store.ingest({"w": torch.ones(2)}, run="sft", step=6)
    output = tmp_path / "store-run"
    run(tmp_path, "anew", name="store-run")
    assert (output / "checkpoint-6").exists() and not (output / "checkpoint-9").exists()
    assert store.runs["sft"].steps == [3, 6, 9, 12]
