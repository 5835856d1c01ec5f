"""`ckpt.wmss` beside `ckpt train`: the same samples in the same order, and weights that are equal within rounding."""

import subprocess

import pytest

import ckpt
from conftest import ROOT

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ckpt import wmss  # noqa: E402

COMMAND = ROOT / ".build" / "debug" / "ckpt"
STEPS, BATCH, SEED = 10, 16, 5

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="no debug build of the command here")


def run(store, *arguments):
    subprocess.run([COMMAND, *arguments, "--store", store.path], check=True, capture_output=True, text=True)


@pytest.fixture
def sums(store):
    run(store, "ingest", ROOT / "examples" / "tiny-run")
    run(store, "probe", "add", "sums", ROOT / "examples" / "sums.jsonl", "--tokenizer", "tiny-run")
    for step in (100, 400):
        run(store, "entropy", f"tiny-run@{step}", "--probe", "sums")
    return store


def samples(store):
    return [{"input_ids": torch.tensor(sample.input_ids), "labels": torch.tensor(sample.labels)} for sample in store.probe("sums")]


def collate(batch):
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad([row["input_ids"] for row in batch], True, 0), "labels": pad([row["labels"] for row in batch], True, -100),
        "attention_mask": pad([torch.ones_like(row["input_ids"]) for row in batch], True, 0),
    }  # fmt: skip


def model(store, ref):
    return transformers.AutoModelForCausalLM.from_pretrained(store[ref].path, dtype=torch.float32)


def test_entropies(sums):
    for step in (100, 400):
        loader = torch.utils.data.DataLoader(samples(sums), batch_size=8, collate_fn=collate)
        found = wmss.entropies(model(sums, f"tiny-run@{step}"), loader)
        kept = sums.entropies(f"tiny-run@{step}", "sums")
        assert found.offsets.tolist() == kept.starts.tolist() and (found.token_top1 == kept.columns["top1"]).all()
        assert found.token_entropy == pytest.approx(kept.columns["entropy"], abs=2e-5)
        assert found.token_nll == pytest.approx(kept.columns["nll"], abs=2e-5)


@pytest.mark.parametrize(("branch", "mix"), [("joint", "weak"), ("frozen", "weak"), ("frozen", "shuffled"), (None, "none"), (None, "temperature")])
def test_trainings(sums, tmp_path, branch, mix):
    run(
        sums, "train", "--strong", "tiny-run@400", "--weak", "tiny-run@100", "--data", "sums", "--run", "swift", "--mix", mix,
        *(["--weak-branch", branch] if branch else []), "--select", "code", "--steps", f"{STEPS}", "--batch", f"{BATCH}", "--learning-rate", "1e-3", "--warm-up", "0", "--decay", "constant",
        "--save-every", f"{STEPS}", "--seed", f"{SEED}", "--dtype", "f32", "--threads", "1",
    )  # fmt: skip
    strong = model(sums, "tiny-run@400")
    before = {name: value.clone() for name, value in strong.state_dict().items()}
    args = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=STEPS, save_strategy="no", per_device_train_batch_size=BATCH, learning_rate=1e-3, report_to=[],
        disable_tqdm=True, use_cpu=True, data_seed=SEED, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
    )  # fmt: skip
    entropies = tuple(sums.entropies(f"tiny-run@{step}", "sums").means() for step in (100, 400))
    trainer = wmss.WeakDrivenTrainer(
        strong, args, train_dataset=samples(sums), data_collator=collate, weak=model(sums, "tiny-run@100"), mix=mix, select="code", entropies=entropies,
        **({"weak_branch": branch} if branch else {}),
    )  # fmt: skip
    trainer.train()
    theirs = sums["swift"]
    moved = apart = 0.0
    for name, value in strong.state_dict().items():
        if name in theirs:
            moved += float((value - before[name]).double().square().sum())
            apart += float((value - theirs.torch(name)).double().square().sum())
    # Measured: 1e-5 of the way, what ten steps make of float32's rounding.
    assert moved > 0.01 and (apart / moved) ** 0.5 < 1e-4, (moved, apart)
