"""State dicts become snapshots: the same bytes as files, alongside training, and from many ranks."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import ckpt

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from test_snapshot import every_type, same_bits  # noqa: E402


def test_the_same_bytes_as_safetensors_writes(store, tmp_path):
    states = {
        "types": every_type(),
        "names": {name: torch.rand(3) for name in ("b", "a", "é", 'q"\\', "Z", "a.b", "aa", "\U0001f600", "\x1f")},
        "shapes": {"scalar": torch.tensor(1.0), "empty": torch.zeros(3, 0), "turned": torch.rand(4, 5).T.contiguous()},
        "nothing": {},
    }
    for run, state in states.items():
        if run == "nothing":
            continue
        safetensors_torch.save_file(state, tmp_path / f"{run}.safetensors", metadata={"format": "pt"})
        result = store.ingest(state, run=run, step=0)
        on_disk = store.ingest_path(tmp_path / f"{run}.safetensors", run=f"{run}-file", step=0)[0]
        written = (tmp_path / f"{run}.safetensors").read_bytes()
        assert (pathlib.Path(store[run].path) / "model.safetensors").read_bytes() == written
        # The one on disk has another name.
        assert on_disk.new_bytes < 1000 and result.outcome == "stored"
    arrays = {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "x": np.float64(3.0) * np.ones(2)}
    store.ingest(arrays, run="numpy", step=0)
    assert (pathlib.Path(store["numpy"].path) / "model.safetensors").read_bytes() == safetensors_numpy.save(arrays, {"format": "np"})


def test_what_cannot_be_kept_is_refused(store):
    for state, error in [
        ({"w": torch.ones(2).to_sparse()}, TypeError), ({"w": torch.empty(2, device="meta")}, TypeError), ({"w": "text"}, TypeError),
        ({1: torch.ones(2)}, TypeError), ([torch.ones(2)], TypeError), ({"w": np.array(["a"])}, TypeError),
        ({"w": np.arange(3).astype(">f4")}, TypeError), ({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, TypeError),
    ]:  # fmt: skip
        with pytest.raises(error):
            store.ingest(state, run="r", step=0)
    good = {"w": torch.ones(2)}
    for options in [{"files": {"../a": "x"}}, {"files": {"model.safetensors": "x"}}, {"metrics": {"a b": 1}}, {"run": "a/b"}, {"tags": ["a@b"]}]:
        with pytest.raises(ckpt.BadInputError):
            store.ingest(good, **{"run": "r", "step": 0, **options})
    with pytest.raises(ValueError):
        store.ingest(good, run="r", step=0, packing="tight")
    with pytest.raises(ValueError):
        store.ingest(good, run="r", step=0, optimizer_keep=0)
    assert len(store.history()) == 0 and store.verify()["ok"]


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 8)
        self.middle = torch.nn.Linear(8, 8)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.head = torch.nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight


def test_tied_weights_are_kept_once(store):
    model = Tied()
    store.ingest(model, run="r", step=0)
    snapshot = store["r"]
    assert [tensor.name for tensor in snapshot.tensors] == ["embed.weight", "middle.bias", "middle.weight", "steps"]
    assert set(snapshot) == set(model.state_dict()) and torch.equal(snapshot.torch("head.weight"), model.embed.weight)
    other = Tied()
    other.load_state_dict(snapshot.state_dict())
    assert torch.equal(other.embed.weight, model.embed.weight)
    assert safetensors_torch.load_model(Tied(), pathlib.Path(snapshot.path) / "model.safetensors") == (set(), [])


def test_optimizers_come_back_bit_for_bit(store):
    torch.manual_seed(0)
    for make in (
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, amsgrad=True), lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.Adafactor(parameters), lambda parameters: torch.optim.LBFGS(parameters, max_iter=2),
    ):  # fmt: skip
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
        optimizer = make(model.parameters())

        def step(model, optimizer):
            def closure():
                optimizer.zero_grad()
                loss = model(torch.ones(4, 8)).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)

        step(model, optimizer)
        name = type(optimizer).__name__
        store.ingest(model, run=name, step=1, optimizer=optimizer)
        again = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
        store[name].load_into(again)
        other = make(again.parameters())
        other.load_state_dict(store[name].optimizer_state())
        step(model, optimizer)
        step(again, other)
        for a, b in zip(model.parameters(), again.parameters()):
            assert torch.equal(a, b), name
    with pytest.raises(TypeError, match="closure"):
        store.ingest(model, run="bad", step=0, optimizer={"closure": lambda: 0})
    store.ingest(model, run="bare", step=0)
    with pytest.raises(ckpt.NoSuchRefError):
        store["bare"].optimizer_state()


def test_alongside_training(store):
    state = {f"w{index}": torch.randn(1 << 20) for index in range(8)}
    kept = {name: value.clone() for name, value in state.items()}
    for step in range(3):
        job = store.ingest(state, run="r", step=step, wait=False)
        # What is ingested is what was there when the call was made.
        for value in state.values():
            value.add_(1)
        result = job.result(timeout=60)
        assert job.done() and result.ref == f"r@{step}"
        for name in state:
            assert torch.equal(store[f"r@{step}"].torch(name), kept[name] + step if step else kept[name]), (step, name)
        kept = {name: value.clone() - step - 1 for name, value in state.items()}
        state = {name: value + step + 1 for name, value in kept.items()}
    assert store.verify()["ok"]


def test_what_went_wrong_alongside_is_told(store):
    store.ingest({"w": torch.ones(4)}, run="r", step=0)
    job = store.ingest({"w": torch.zeros(4)}, run="r", step=0, wait=False)
    with pytest.raises(ckpt.ConflictError):
        job.result()
    store.ingest({"w": torch.zeros(4)}, run="r", step=0, wait=False)
    with pytest.raises(ckpt.ConflictError):
        store.ingest({"w": torch.zeros(4)}, run="r", step=1, wait=False)
    store.ingest({"w": torch.zeros(4)}, run="r", step=1, wait=False)
    store.wait()
    assert store.runs["r"].steps == [0, 1]
    with pytest.raises(TimeoutError):
        store.ingest({"w": torch.randn(1 << 24)}, run="big", step=1, wait=False).result(timeout=0)


def test_python_ends_when_an_ingest_has(tmp_path):
    code = f"""
import torch, ckpt
store = ckpt.open({str(tmp_path / "store")!r}, create=True)
store.ingest({{"w": torch.arange(1 << 22)}}, run="r", step=0, wait=False)
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True, timeout=120)
    store = ckpt.open(str(tmp_path / "store"))
    assert torch.equal(store["r"].torch("w"), torch.arange(1 << 22))


RANKS = """
import os, sys, torch, torch.distributed as dist, ckpt
rank, path, port, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
whole = {"a": torch.randn(10, 6), "b": torch.randn(7), "c": torch.randn(4, 8), "same": torch.ones(3)}
store = ckpt.open(path, lock_timeout=60)
for step in range(2):
    if mode == "own":
        state = {name: value + step for index, (name, value) in enumerate(whole.items()) if index % 2 == rank}
    else:
        from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh
        mesh = init_device_mesh("cpu", (2,))
        places = {"a": [Shard(0)], "b": [Shard(0)], "c": [Shard(1)], "same": [Replicate()]}
        state = {name: distribute_tensor(value + step, mesh, places[name]) for name, value in whole.items()}
        if rank == 1:
            del state["same"]
    optimizer = {"state": {0: {"exp_avg": torch.full((5,), float(rank))}}, "param_groups": [{"lr": 0.1}]}
    if mode == "fails":
        state = {"w": "no tensor"} if rank == 1 else whole
    try:
        result = store.ingest(state, run="r", step=step, optimizer=optimizer, files={"config.json": "{}"}, metrics={"loss": 1.0}, distributed=True)
        print(rank, result.ref, result.id)
    except Exception as error:
        print(rank, type(error).__name__, error)
dist.barrier()
sys.stdout.flush()
# Not by way of gloo's own end: its threads now and then abort the process when they are taken down.
os._exit(0)
"""


@pytest.mark.parametrize("mode", ["own", "slices", "fails"])
def test_ranks_make_one_snapshot(store, mode, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if mode == "fails":
        RANKS_CODE = RANKS.replace('if mode == "own"', "if True")
    else:
        RANKS_CODE = RANKS
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS_CODE, str(rank), store.path, str(port), mode], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(text for pair in outputs for text in pair)
    lines = [output.splitlines() for output, _ in outputs]
    if mode == "fails":
        assert all("TypeError" in line for line in lines[1]) and all("rank 1 could not" in line for line in lines[0])
        assert all(not run or "rank" in run for run in store.runs)
        return
    # The same on every rank.
    assert [line.split()[1:] for line in lines[0]] == [line.split()[1:] for line in lines[1]]
    assert list(store.runs) == ["r"] and store.runs["r"].steps == [0, 1]
    torch.manual_seed(0)
    whole = {"a": torch.randn(10, 6), "b": torch.randn(7), "c": torch.randn(4, 8), "same": torch.ones(3)}
    for step in range(2):
        snapshot = store[f"r@{step}"]
        assert set(snapshot) == set(whole)
        for name, value in whole.items():
            assert torch.equal(snapshot.torch(name), value + step) and np.array_equal(snapshot.numpy(name), (value + step).numpy())
        assert snapshot.metrics == {"loss": 1.0} and snapshot.file("config.json") == b"{}"
        for rank in range(2):
            assert torch.equal(snapshot.optimizer_state(rank)["state"][0]["exp_avg"], torch.full((5,), float(rank)))
        files = {file["path"] for file in snapshot.describe()["files"]}
        assert ("model.safetensors.index.json" in files) == (mode == "own")
    model = torch.nn.Module()
    for name, value in whole.items():
        model.register_buffer(name, torch.zeros_like(value))
    store["r"].load_into(model)
    assert all(torch.equal(getattr(model, name), value + 1) for name, value in whole.items())
    assert store.verify()["ok"]


def test_half_written_checkpoints_are_refused(store, tmp_path):
    (tmp_path / "m").mkdir()
    data = safetensors_torch.save({"w": torch.ones(64)})
    (tmp_path / "m" / "model.safetensors").write_bytes(data[:-5])
    with pytest.raises(ckpt.IncompleteError, match="model.safetensors"):
        store.ingest_path(tmp_path / "m", run="r", step=0)
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    time.sleep(0.05)
    assert [store.ingest_path(tmp_path / "m", run="r", step=0)[0].outcome for _ in range(2)] == ["stored", "unchanged"]


def test_same_bits_is_no_sieve():
    assert same_bits(torch.zeros(2), torch.zeros(2)) and not same_bits(torch.zeros(2), -torch.zeros(2))


def test_a_worker_that_was_forked_meanwhile_holds_no_lock(store):
    """It inherits every open file, the store's lock among them."""
    impatient = ckpt.open(store.path, lock_timeout=2)
    job = impatient.ingest({"w": torch.randn(1 << 23)}, run="big", step=0, packing="dense", wait=False)
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        job.result()
        impatient.ingest({"w": torch.ones(4)}, run="r", step=0)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert set(store.runs) == {"big", "r"}


def test_threads_that_ingest_alongside_share_nothing(store):
    """Each snapshot is what its thread had when it asked."""
    failures = []

    def work(number):
        try:
            value = torch.full((1 << 16,), float(number))
            for step in range(4):
                value.fill_(1000 * number + step)
                store.ingest({"w": value}, run=f"t{number}", step=step, wait=False)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.wait()
    assert failures == []
    for number in range(1, 4):
        for step in range(4):
            assert torch.equal(store[f"t{number}@{step}"].torch("w"), torch.full((1 << 16,), 1000.0 * number + step))


def test_ctrl_c_while_waiting_leaves_the_copy_alone(store):
    value = torch.zeros(1 << 23)
    job = store.ingest({"w": value}, run="r", step=0, packing="dense", wait=False)
    timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        store.wait()
        time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    store.ingest({"w": value + 7}, run="r", step=1, wait=False)
    store.wait()
    assert job.done() and torch.equal(store["r@0"].torch("w"), value) and torch.equal(store["r@1"].torch("w"), value + 7)


def test_a_child_of_fork_ingests_beside_its_parent(store):
    value = torch.randn(1 << 22)
    job = store.ingest({"w": value}, run="parent", step=0, packing="dense", wait=False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                job.result()
            except RuntimeError:
                status = 2
            again = store.ingest({"w": value * 0 + 5}, run="child", step=0, wait=False).result(30)
            status = 0 if again.ref == "child@0" and (status == 2 or job.done()) else 3
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    job.result()
    assert torch.equal(store["parent"].torch("w"), value) and torch.equal(store["child"].torch("w"), value * 0 + 5)


def test_an_error_that_nobody_asked_for_is_printed(tmp_path):
    code = f"""
import torch, ckpt
store = ckpt.open({str(tmp_path / "store")!r}, create=True)
store.ingest({{"w": torch.ones(2)}}, run="r", step=0)
store.ingest({{"w": torch.zeros(2)}}, run="r", step=0, wait=False)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.startswith("ckpt: the ingest of r@0 failed: r@0")


def test_views_that_differ_are_no_ties(store):
    value = torch.randn(8, dtype=torch.complex64)
    state = {"a": value, "b": value.conj(), "c": value.real, "d": value.imag, "e": torch.view_as_real(value)}
    store.ingest(state, run="r", step=0)
    assert all(torch.equal(store["r"].torch(name), other) for name, other in state.items())
    model = torch.nn.Module()
    model.register_buffer("b", torch.zeros(8, dtype=torch.complex64).conj())
    store["r"].load_into(model, strict=False)
    assert torch.equal(model.b, value.conj())


def test_names_that_headers_use(store):
    state = {"pt": torch.ones(2), "format": torch.zeros(2)}
    store.ingest({"pt": state["pt"]}, run="one", step=0)
    store.ingest(state, run="both", step=0)
    assert list(store["one"]) == ["pt"] and torch.equal(store["both"].torch("format"), state["format"])


def test_steps_metrics_and_tags(store):
    good = {"w": torch.ones(2)}
    for step in (-1, 1 << 64):
        with pytest.raises(ValueError, match="step"):
            store.ingest(good, run="r", step=step)
    for step in ("5", None, 1.5):
        with pytest.raises(TypeError):
            store.ingest(good, run="r", step=step)
    with pytest.warns(UserWarning, match="loss"):
        store.ingest(good, run="r", step=np.int64(3), metrics={"loss": float("nan"), "other": 2}, tags="best")
    assert store["best"].id == store["r@3"].id and store["r"].metrics == {"other": 2}


def test_directories_of_files_whole(store, tmp_path):
    (tmp_path / "d" / "sub" / "deep").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/deep/c"):
        (tmp_path / "d" / name).write_text(name)
    store.ingest({"w": torch.ones(2)}, run="r", step=0, files={"d": tmp_path / "d"})
    assert {name: store["r"].file(f"d/{name}") for name in ("a", "sub/b", "sub/deep/c")} == {name: name.encode() for name in ("a", "sub/b", "sub/deep/c")}


def test_a_compiled_model_has_the_names_of_the_plain_one(store):
    plain = torch.nn.Linear(4, 4)
    store.ingest(torch.compile(plain), run="r", step=0)
    assert list(store["r"]) == ["bias", "weight"]
    other = torch.nn.Linear(4, 4)
    store["r"].load_into(torch.compile(other))
    assert torch.equal(other.weight, plain.weight)
