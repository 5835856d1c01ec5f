"""The README's session, line for line."""

import doctest
import pathlib

import pytest

torch = pytest.importorskip("torch")


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    torch.manual_seed(0)
    readme = pathlib.Path(__file__).resolve().parent.parent / "README.md"
    found = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 20 and found.failed == 0
