"""Pictures: drawn, with what they are to show."""

import numpy as np
import pytest

import ckpt

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from test_store import series  # noqa: E402


def test_pictures(store, tmp_path):
    series(store)
    store.ingest({"embed.weight": np.ones((4, 4), np.float16), "layers.0.a.weight": np.zeros(0, np.float32)}, run="odd", step=0)
    axes = store["r"].plot()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2"]
    drawn = axes.images[0].get_array()
    for layer in range(3):
        values = store["r"][f"layers.{layer}.mlp.up_proj.weight"].astype(np.float64)
        assert drawn[0, layer] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-6)
    axes.figure.savefig(tmp_path / "snapshot.png")
    found = ckpt.diff(store["r@0"], store["r"])
    axes = found.plot()
    assert np.isfinite(axes.images[0].get_array()).all() and axes.images[0].get_array().size == 3
    axes = store.runs["r"].plot()
    line = axes.lines[0].get_xydata()
    assert list(line[:, 0]) == [10, 20, 30] and (line[:, 1] > 0).all() and len(axes.figure.axes) == 2
    axes.figure.savefig(tmp_path / "run.png")
    assert store["odd"].plot() is not None
    with pytest.raises(ValueError):
        ckpt.diff(store["r@0"], store["r"], by="kind").plot()
    with pytest.raises(ValueError):
        store.runs["odd"].plot()
    with pytest.raises(ValueError):
        store.runs["r"].plot(metric="nothing")
