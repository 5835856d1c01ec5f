"""Probes and entropy records, in and out."""

import json
import pathlib
import subprocess

import numpy as np
import pytest

import ckpt
from conftest import ROOT


def samples(count=5):
    random = np.random.default_rng(3)
    made = []
    for index in range(count):
        length = int(random.integers(4, 12))
        start = int(random.integers(1, length - 1))
        made.append({"id": f"s{index}", "input_ids": random.integers(0, 90, length).tolist(), "completion_start": start})
    return made


def record(probe, shift=0.0):
    random = np.random.default_rng(4)
    counts = [sum(stop - start for start, stop in sample.supervised) for sample in probe]
    starts = np.concatenate([[0], np.cumsum(counts)])
    entropy = random.random(starts[-1]).astype(np.float32) + np.float32(shift)
    return ckpt.EntropyRecord(
        np.arange(len(probe)), starts,
        {"entropy": entropy, "nll": entropy * 2, "top1": random.integers(0, 90, starts[-1]).astype(np.uint32)},
    )  # fmt: skip


def test_samples_go_in_and_come_out(store):
    added = store.add_probe("p", samples())
    assert added["samples"] == 5 and store.probes() == [added]
    found = store.probe("p")
    for given, sample in zip(samples(), found):
        assert sample.id == given["id"] and list(sample.input_ids) == given["input_ids"]
        assert sample.supervised == ((given["completion_start"], len(given["input_ids"])),)
        assert sum(label != -100 for label in sample.labels) == len(given["input_ids"]) - given["completion_start"]
    # All ways to say it, and the samples themselves, are the same probe.
    by_labels = [{"id": sample.id, "input_ids": sample.input_ids, "labels": sample.labels} for sample in found]
    assert store.add_probe("q", by_labels)["id"] == store.add_probe("r", found)["id"] == added["id"]
    gaps = store.add_probe("gaps", [{"input_ids": range(8), "supervised": [(1, 3), (5, 8)]}])
    assert gaps["supervised_tokens"] == 5 and store.probe("gaps")[0].labels == [-100, 1, 2, -100, -100, 5, 6, 7]
    store.remove_probe("gaps")
    for bad in (
        [], [{"input_ids": [1, 2]}], [{"input_ids": [1, 2], "supervised": [(0, 2)]}], [{"input_ids": [1, 2], "supervised": [(1, 3)]}],
        [{"input_ids": [1, 2], "supervised": [(1, 1)]}], [{"input_ids": [1, 2], "labels": [-100]}], [{"id": "a", "input_ids": [1, 2, 3], "supervised": []}],
        [{"id": "a", "input_ids": [1, 2], "completion_start": 1}] * 2,
    ):  # fmt: skip
        with pytest.raises(ValueError):
            store.add_probe("bad", bad)
    assert {probe["name"] for probe in store.probes()} == {"p", "q", "r"}


def test_outputs_go_in_and_come_out(store):
    store.ingest({"w": np.ones(3, np.float32)}, run="r", step=0)
    store.add_probe("p", samples())
    probe = store.probe("p")
    whole = record(probe)
    with pytest.raises(ckpt.NoSuchRefError):
        store.entropies("r", "p")
    # Some samples first, the rest later.
    first = ckpt.EntropyRecord(whole.samples[:2], whole.starts[:3], {name: column[: whole.starts[2]] for name, column in whole.columns.items()})
    assert store.put_entropies("r", "p", first, provenance={"device": "cpu"})["samples_done"] == 2
    done = store.put_entropies(store["r"], "p", whole, provenance={"device": "cpu"})
    assert done["samples_done"] == 5 and done["provenance"]["program"] == "ckpt.wmss" and done["columns"] == ["entropy", "nll", "top1"]
    back = store.entropies("r", "p")
    assert len(back) == 5 and np.array_equal(back.samples, whole.samples) and np.array_equal(back.starts, whole.starts)
    for name, column in whole.columns.items():
        assert back.columns[name].dtype == column.dtype and np.array_equal(back.columns[name], column)
    means = [column.mean() for column in np.split(whole.columns["entropy"].astype(np.float64), whole.starts[1:-1])]
    assert back.means() == pytest.approx(means, rel=1e-12)
    assert [row["id"] for row in store.entropy_records(probe="p")] == [done["id"]]
    with pytest.raises(ckpt.ConflictError):
        store.put_entropies("r", "p", record(probe, shift=1), provenance={"device": "cpu"})
    with pytest.raises(ckpt.BadInputError):
        store.put_entropies("r", "p", ckpt.EntropyRecord(whole.samples, whole.starts, {"entropy": whole.columns["entropy"]}))
    for name, value in (("entropy", -1.0), ("nll", float("nan"))):
        columns = {**whole.columns, name: whole.columns[name] * 0 + np.float32(value)}
        with pytest.raises(ckpt.BadInputError, match=name):
            store.put_entropies("r", "p", ckpt.EntropyRecord(whole.samples, whole.starts, columns), settings={"mine": "1"})
    for broken in (
        {"starts": whole.starts[:-1]}, {"samples": whole.samples[:-1]}, {"columns": {"entropy": whole.columns["entropy"][:-1]}},
        {"columns": {"surprise": whole.columns["entropy"]}},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            store.put_entropies("r", "p", ckpt.EntropyRecord(**{**vars(whole), **broken}), settings={"mine": "1"})
    assert store.put_entropies("r", "p", record(probe, shift=1), settings={"precision": "bf16"})["settings"] == {"precision": "bf16"}
    assert store.verify()["ok"]


def test_pruning_by_what_snapshots_can_teach(store):
    store.add_probe("p", samples(12))
    probe = store.probe("p")
    for step, shift in enumerate([2.0, 0.5, 0.25, 0.0]):
        store.ingest({"w": np.full(3, step, np.float32)}, run="r", step=step)
        whole = record(probe, shift)
        # Below what a unigram model gets.
        whole.columns["nll"] = np.full_like(whole.columns["nll"], 0.5)
        store.put_entropies(f"r@{step}", "p", whole)
    planned = store.prune("r", keep_by_worth=1, probe="p", dry_run=True)
    assert planned.kept == ["r@0", "r@3"]
    values = {row["ref"]: row["gap_value"] for row in planned}
    assert values["r@0"] == pytest.approx(0.8 * 2.0, rel=1e-5) and values["r@1"] == pytest.approx(0.8 * 0.5, rel=1e-5)


def test_the_command_reads_them(store):
    command = ROOT / ".build" / "debug" / "ckpt"
    if not pathlib.Path(command).exists():
        pytest.skip("no debug build of the command here")
    test_outputs_go_in_and_come_out(store)
    done = subprocess.run([command, "probe", "show", "p", "--store", store.path, "--json"], capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    assert [row["settings"] for row in shown["records"] if row["samples_done"] == 5] and len(shown["rows"]) == 5
