"""Stores, runs, labels, retention, diffs: without torch."""

import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import ckpt


def state(seed, rows=96, dtype=np.float32):
    random = np.random.default_rng(seed)
    return {f"layers.{layer}.mlp.up_proj.weight": random.standard_normal((rows, 64)).astype(dtype) for layer in range(3)}


def series(store, run="r", steps=4, **options):
    base, move = state(0), state(1)
    for step in range(steps):
        moved = {name: value + np.float32(1e-3) * step * move[name] for name, value in base.items()}
        store.ingest(moved, run=run, step=10 * step, metrics={"loss": 4.0 - step}, **options)


def test_import_needs_neither_torch_nor_numpy():
    code = "import sys, ckpt; print([name for name in ('torch', 'numpy', 'transformers', 'matplotlib') if name in sys.modules])"
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_store_says_of_itself(store):
    assert len(store.runs) == 0 and list(store.history()) == []
    series(store)
    assert list(store.runs) == ["r"] and store.runs["r"].steps == [0, 10, 20, 30]
    assert store.runs["r"].head.id == store["r"].id == store["r@30"].id == store[store["r"].id[:12]].id
    assert store["r~1"].id == store.runs["r"].at(20).id == store.runs["r"][-2].id
    assert [snapshot.ref for snapshot in store.runs["r"][1:3]] == ["r@10", "r@20"]
    assert [row["loss"] for row in store.runs["r"].metrics()] == [4, 3, 2, 1]
    assert store.history("r")[0]["ref"] == "r@0" and "r@30" in str(store.history()) and "<table>" in store.history()._repr_html_()
    assert "r@30" in store and "r@31" not in store and 7 not in store
    assert store.stats()["snapshots"] == 4 and store.verify()["ok"] and store.verify(quick=True)["ok"]
    assert store.history().to_pandas().shape[0] == 4 if _has("pandas") else True


def _has(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None


def test_labels(store):
    series(store)
    store.tag("r@10", "best")
    store.pin("r@0")
    assert store["best"].ref == "best" and store["best"].id == store["r@10"].id
    with pytest.raises(ckpt.ConflictError):
        store.remove("r@0")
    store.unpin("r@0")
    store.remove("r@0")
    store.untag("best")
    store.set_metric("r@10", "accuracy", 0.5)
    assert store["r@10"].metrics == {"accuracy": 0.5, "loss": 3.0}
    with pytest.raises(ckpt.BadInputError):
        store.set_metric("r@10", "accuracy", float("nan"))
    assert store.runs["r"].steps == [10, 20, 30]


def test_errors_name_the_thing_and_the_way_out(store, tmp_path):
    with pytest.raises(ckpt.NoStoreError) as refused:
        ckpt.open(str(tmp_path / "nothing"))
    assert "ckpt init" in refused.value.hint and str(tmp_path) in str(refused.value)
    with pytest.raises(KeyError):
        store["r"]
    series(store, steps=1)
    with pytest.raises(ckpt.NoSuchRefError, match="no such tensor"):
        store["r"]["nothing"]
    with pytest.raises(ckpt.ConflictError, match="r@0"):
        store.ingest(state(5), run="r", step=0)
    assert store.ingest(state(5), run="r", step=0, replace=True).outcome == "stored"
    with pytest.raises(ckpt.BadArgumentError):
        store["r\0"]
    with pytest.raises(ckpt.BadInputError):
        store.prune()
    with pytest.raises(ValueError):
        store.snapshot("r", framework="jax")
    store.close()
    with pytest.raises(ckpt.BadArgumentError, match="closed"):
        store.history()


def test_found_as_the_command_finds_it(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CKPT_STORE", store.path)
    assert ckpt.open().path == store.path
    monkeypatch.delenv("CKPT_STORE")
    (tmp_path / "project" / "deep").mkdir(parents=True)
    ckpt.open(str(tmp_path / "project" / ".ckpt"), create=True)
    monkeypatch.chdir(tmp_path / "project" / "deep")
    assert ckpt.open().path == str(tmp_path / "project" / ".ckpt")
    monkeypatch.chdir("/")
    with pytest.raises(ckpt.NoStoreError):
        ckpt.open()


def test_pruning(store):
    series(store, steps=6)
    planned = store.prune(keep_last=2, keep_best={"loss": (1, "max")}, dry_run=True)
    assert planned.dry_run and planned.kept == ["r@0", "r@40", "r@50"] and len(store.history()) == 6
    done = store.prune("r", keep_last=2, keep_best={"loss": (1, "max")})
    assert done.dropped == planned.dropped == ["r@10", "r@20", "r@30"] and done.bytes_freed > 0
    assert "dropped 3 of 6" in str(done) and store.runs["r"].steps == [0, 40, 50]
    assert store.prune(keep_by_worth=1, by_distance=True, dry_run=True).rows
    with pytest.raises(ckpt.NoSuchRefError):
        store.prune("nothing", keep_last=1)
    assert store.verify()["ok"]


def test_optimizer_states_of_old_steps_go(store):
    for step in range(4):
        moments = {"state": {0: {"exp_avg": np.full(1000, step, np.float32)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
        store.ingest(state(step), run="r", step=step, optimizer=_Torchless(moments), optimizer_keep=2)
    here = [any(tensor.part == "optimizer" for tensor in snapshot.tensors) for snapshot in store.runs["r"]]
    assert here == [False, False, True, True]


class _Torchless:
    """An optimizer whose tensors are arrays would not be one; its state goes through torch tensors."""

    def __init__(self, values):
        torch = pytest.importorskip("torch")
        self.values = json.loads(json.dumps({"param_groups": values["param_groups"]}))
        self.values["state"] = {
            key: {name: torch.from_numpy(array) for name, array in item.items()} for key, item in values["state"].items()
        }  # fmt: skip

    def state_dict(self):
        return self.values


def test_diffs(store, tmp_path):
    series(store)
    found = ckpt.diff(store["r@0"], store["r@30"])
    assert len(found) == 3 and found.different and found.identical == 0 and found.by == "tensor"
    first, last = store["r@0"], store["r@30"]
    for row in found:
        a, b = first[row["name"]].astype(np.float64), last[row["name"]].astype(np.float64)
        assert row["delta_l2"] == pytest.approx(np.linalg.norm(b - a), rel=1e-6)
        assert row["changed"] == int((a != b).sum()) and row["shape"] == [96, 64]
    assert [row["relative_l2"] for row in found] == sorted((row["relative_l2"] for row in found), reverse=True)
    assert ckpt.diff(first, last, by="layer").rows[0]["tensors"] == 1
    assert len(ckpt.diff(first, last, only="layers.1.*")) == 1
    spectrum = ckpt.diff(first, last, spectrum=2).rows[0]
    exact = np.linalg.svd(last[spectrum["name"]].astype(np.float64) - first[spectrum["name"]], compute_uv=False)
    assert spectrum["spectrum"]["values"] == pytest.approx(exact[:2], rel=1e-2)
    last.export(str(tmp_path / "out"))
    assert ckpt.diff(last, tmp_path / "out").different is False
    assert ckpt.diff(first, first).identical == 3 and str(ckpt.diff(first, first))
    assert "relative" in str(found) and found._repr_html_().startswith("<table>")
    with pytest.raises(ValueError):
        ckpt.diff(first, last, by="head")
    with pytest.raises(ckpt.BadArgumentError):
        ckpt.diff(first, last, by="kind", spectrum=2)


def test_progress_and_stops(store, tmp_path):
    seen = []
    series(store, steps=1)
    with pytest.raises(RuntimeError, match="enough"):

        def stop(done, total):
            seen.append((done, total))
            raise RuntimeError("enough")

        store.ingest({"w": np.zeros((4096, 1024), np.float32) + np.arange(1024, dtype=np.float32)}, run="big", step=0, progress=stop)
    assert len(seen) == 1 and list(store.runs) == ["r"] and store.verify()["ok"]


def test_ctrl_c_stops_an_ingest(tmp_path):
    code = f"""
import os, signal, sys, threading, numpy, ckpt
store = ckpt.open({str(tmp_path / "store")!r}, create=True)
state = {{"w": numpy.random.default_rng(0).standard_normal((1 << 14, 1 << 11)).astype(numpy.float32)}}
# What is started in the background by a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    for step in range(50):
        store.ingest(state, run="r", step=step, packing="dense", replace=True)
except KeyboardInterrupt:
    print("stopped", store.verify()["ok"])
"""
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=120)
    assert done.stdout.strip() == "stopped True", done.stderr


def test_threads_share_a_store(store):
    series(store)
    failures = []

    def work(number):
        try:
            for _ in range(5):
                for snapshot in store.runs["r"]:
                    assert all(snapshot[name].shape == (96, 64) for name in snapshot)
                store.ingest(state(number), run=f"t{number}", step=0, replace=True)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(store.runs) == 5


def test_a_store_goes_to_another_process(store):
    series(store)
    again = pickle.loads(pickle.dumps(store))
    assert again.path == store.path and again["r"].id == store["r"].id
