"""A JupyterLab and a Chromium, one of each for all the browser tests; networks of few blocks."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from lab import ROOT, Lab, running_browser, running_lab

from blvnet_lab.models.sizes import SIZES, Size


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Its root has a copy of the notebooks: the committed files are never run in place.

    What is trained here for three epochs is trained for one: nbval runs all of them.
    """
    root = tmp_path_factory.mktemp("root")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=ignored)
    for path in (root / "notebooks").glob("*.ipynb"):
        path.write_text(path.read_text("utf-8").replace("epochs=3", "epochs=1"), "utf-8")
    with running_lab(root, tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser():
    with running_browser() as instance:
        yield instance


@pytest.fixture(scope="module")
def few_blocks():
    """What compiles takes its time for every layer: no more than show every kind of block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", Size(8, (1, 2, 1, 1), (2, 2, 2, 1)))
        yield


@pytest.fixture
def torch_hub(tmp_path, monkeypatch):
    """PyTorch's folder of downloads, an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"
