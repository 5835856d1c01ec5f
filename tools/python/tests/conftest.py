"""The library that tests run on: CKPT_LIBRARY, else the debug build of this checkout."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "python"))
if not os.environ.get("CKPT_LIBRARY"):
    for name in ("libCkptC.so", "libCkptC.dylib"):
        path = ROOT / ".build" / "debug" / name
        if path.exists():
            os.environ["CKPT_LIBRARY"] = str(path)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Models here are too small for two threads, which wait for each other when the machine does something else.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

import ckpt  # noqa: E402


@pytest.fixture
def store(tmp_path):
    with ckpt.open(str(tmp_path / "store"), create=True) as made:
        yield made
