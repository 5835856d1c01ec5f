"""Tensors of snapshots: in place, of every type, and for as long as they are used."""

import gc
import os

import numpy as np
import pytest

import ckpt

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
import ml_dtypes  # noqa: E402

TYPES = [
    getattr(torch, name)
    for name in (
        "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex64 float8_e4m3fn float8_e5m2 float8_e8m0fnu "
        "float8_e4m3fnuz float8_e5m2fnuz"
    ).split()
    if hasattr(torch, name)
]  # fmt: skip


def every_type():
    """A tensor of each type whose bytes are all there are."""
    random = torch.Generator().manual_seed(1)
    made = {}
    for dtype in TYPES:
        data = torch.randint(0, 256, (6, 8, 8), generator=random, dtype=torch.uint8)
        if dtype == torch.bool:
            data = data % 2
        made[str(dtype).rpartition(".")[2]] = data.reshape(-1).view(dtype).reshape(6, -1)
    return made


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("image", [True, False])
def test_every_type_in_both_libraries(store, image, tmp_path):
    state = every_type()
    store.ingest(state, run="r", step=0, image=image)
    safetensors_torch.save_file(state, tmp_path / "m.safetensors")
    other = safetensors_torch.load_file(tmp_path / "m.safetensors")
    snapshot = store["r"]
    assert snapshot.is_mapped == image and set(snapshot) == set(state)
    for name, value in state.items():
        assert same_bits(snapshot.torch(name), value) and same_bits(snapshot.torch(name), other[name])
        array = snapshot.numpy(name)
        assert array.shape == tuple(value.shape) and not array.flags.writeable
        assert array.tobytes() == value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() == snapshot.bytes(name)
        assert snapshot.bytes(name, 3, 9) == array.tobytes()[3:9]
    assert snapshot.numpy("bfloat16").dtype == ml_dtypes.bfloat16 and snapshot.numpy("float8_e4m3fn").dtype == ml_dtypes.float8_e4m3fn
    values = snapshot.numpy("bfloat16").astype(np.float32)
    assert np.array_equal(values, state["bfloat16"].float().numpy(), equal_nan=True)


def test_frameworks(store):
    store.ingest({"w": torch.arange(6.0)}, run="r", step=0)
    assert isinstance(store["r"]["w"], np.ndarray)
    assert isinstance(store.snapshot("r", framework="torch")["w"], torch.Tensor)
    assert isinstance(ckpt.open(store.path, framework="torch")["r"]["w"], torch.Tensor)


def test_views_are_in_place_and_outlive_everything(store):
    value = torch.randn(512, 512)
    store.ingest({"w": value}, run="r", step=0)
    snapshot = store["r"]
    array, tensor = snapshot["w"], snapshot.torch("w")
    assert snapshot["w"].__array_interface__["data"] == array.__array_interface__["data"]
    assert snapshot.torch("w").data_ptr() == tensor.data_ptr()
    with pytest.raises(ValueError):
        array[0] = 1
    row = array[3]
    store.ingest({"w": value + 1}, run="r", step=1)
    store.remove("r@0")
    del snapshot
    gc.collect()
    assert np.array_equal(array, value.numpy()) and torch.equal(tensor, value) and np.array_equal(row, value[3].numpy())


def test_what_is_written_to_a_torch_view_stays_here(store):
    value = torch.randn(64)
    store.ingest({"w": value}, run="r", step=0)
    view = store["r"].torch("w")
    view += 1
    assert torch.equal(view, value + 1)
    assert torch.equal(store["r"].torch("w"), value) and store.verify()["ok"]


def test_slices(store):
    value = torch.randn(4096, 96).bfloat16()
    for image in (True, False):
        store.ingest({"w": value, "s": torch.tensor(3.0)}, run=f"r{image}", step=0, image=image)
        for framework in ("numpy", "torch"):
            snapshot = store.snapshot(f"r{image}", framework=framework)
            for start, stop in [(0, 4096), (1000, 3000), (7, 7), (4095, 4096)]:
                rows = snapshot.rows("w", start, stop)
                rows = torch.from_numpy(rows.view(np.uint16).copy()).view(torch.bfloat16) if framework == "numpy" else rows
                assert same_bits(rows, value[start:stop])
            for start, stop in [(-1, 3), (3, 2), (0, 4097)]:
                with pytest.raises(IndexError):
                    snapshot.rows("w", start, stop)
            with pytest.raises(IndexError):
                snapshot.rows("s", 0, 1)
        with pytest.raises(IndexError):
            snapshot.bytes("w", 5, value.numel() * 2 + 1)


def test_odd_shapes(store):
    state = {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5), "one": torch.ones(1), "turned": torch.arange(12.0).reshape(3, 4).T, "é\n": torch.ones(2)}
    for image in (True, False):
        store.ingest(state, run=f"r{image}", step=0, image=image)
        for name, value in state.items():
            assert torch.equal(store[f"r{image}"].torch(name), value) and np.array_equal(store[f"r{image}"].numpy(name), value.numpy())


def test_pytorch_files_too(store, tmp_path):
    base = torch.randn(20, 30)
    (tmp_path / "m").mkdir()
    torch.save({"w": base, "t": base.T, "part": base[3:7, 2:9], "h": base.half()}, tmp_path / "m" / "pytorch_model.bin")
    store.ingest_path(tmp_path / "m", run="r", step=3)
    for snapshot in (store["r"], _without_image(store, "r")):
        assert torch.equal(snapshot.torch("w"), base) and torch.equal(snapshot.torch("t"), base.T)
        assert torch.equal(snapshot.torch("part"), base[3:7, 2:9]) and np.array_equal(snapshot.numpy("t"), base.T.numpy())


def _without_image(store, ref):
    import shutil

    shutil.rmtree(store[ref].describe()["image"])
    snapshot = store[ref]
    assert not snapshot.is_mapped
    return snapshot


def test_images_come_and_go(store):
    store.ingest({"w": torch.ones(8)}, run="r", step=0)
    store.ingest({"w": torch.zeros(8)}, run="r", step=1)
    old = store["r@0"]
    assert not old.is_mapped and old.describe()["image"] is None
    assert old.map().is_mapped and os.path.exists(os.path.join(old.path, "model.safetensors"))
    assert torch.equal(old.torch("w"), torch.ones(8))


def test_other_files(store, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    files = {"config.json": "{}", "notes/a.bin": b"\0\1", "": tmp_path / "tokenizer"}
    store.ingest({"w": torch.ones(2)}, run="r", step=0, files=files)
    snapshot = store["r"]
    assert snapshot.file("config.json") == b"{}" and snapshot.file("notes/a.bin") == b"\0\1" and snapshot.file("vocab.txt") == b"a\nb\n"
    with pytest.raises(ckpt.NoSuchRefError):
        snapshot.file("nothing")
    assert {file["path"] for file in snapshot.describe()["files"]} == {"model.safetensors", "config.json", "notes/a.bin", "vocab.txt"}


class Rows(torch.utils.data.Dataset):
    """Reads from a snapshot in the workers of a loader."""

    def __init__(self, snapshot):
        self.snapshot = snapshot

    def __len__(self):
        return 32

    def __getitem__(self, index):
        packed = self.snapshot.store["old@0"]
        assert not packed.is_mapped
        return torch.stack([torch.from_numpy(self.snapshot["w"][index].copy()), torch.from_numpy(packed["w"][index].copy())])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader(store, method):
    value = torch.randn(32, 64)
    store.ingest({"w": value}, run="old", step=0)
    store.ingest({"w": value + 1}, run="old", step=1)
    store.ingest({"w": value + 2}, run="r", step=0)
    snapshot = store["r"]
    loader = torch.utils.data.DataLoader(Rows(snapshot), batch_size=4, num_workers=2, multiprocessing_context=method)
    found = torch.cat(list(loader))
    assert torch.equal(found[:, 0], value + 2) and torch.equal(found[:, 1], value)
    assert store.verify()["ok"]
