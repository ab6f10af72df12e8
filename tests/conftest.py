"""A JupyterLab and a Chromium, one of each for all the browser tests; networks of few blocks."""

import re
import shutil
from collections.abc import Iterator

import nbformat
import pytest
import torch
from lab import ROOT, Lab, running_browser, running_lab
from nets import FEW_BLOCKS

from blvnet_lab.models.networks import SIZES

# The same cells with less to train and to evaluate: what comes out of all of it, nbval compares.
SMALLER = (
    (r"\bepochs=\d+", "epochs=1"),
    (r'"--epochs", "\d+"', '"--epochs", "1"'),
    (r"(per_class=|[*%] |head\()(?:25|60)\b", r"\g<1>5"),  # clips of a class
    (r"range\(20\b", "range(2"),  # draws of a control
    (r"(?<=@classes\"\))", "[::4]"),
    (r"\(motion(?=, \"val\", 8, data)", "(motion.with_rows(motion.rows[::10])"),
    (r"in \(None, 2\)", "in (None,)"),  # without torchrun
    (r"(?<=batch_size=8, size=)\(64, 64\)", "(32, 32)"),
    (r"\[:(20|40)\]", "[:6]"),  # videos of one's own
    (r'\("train", 12\), \("val", 8\)', '("train", 4), ("val", 2)'),
    (r'samples / "motion" / "val"(?=  # or)', 'Path("../few")'),
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Its root has a copy of the notebooks, SMALLER: the committed files are never run in place."""
    root = tmp_path_factory.mktemp("root")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=ignored)
    for path in (ROOT / "data_samples/motion/val").glob("*/*_000[0-5].mp4"):
        (root / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "few" / path.parent.name)
    unused = {pattern for pattern, _ in SMALLER}
    for path in (root / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            for pattern, smaller in SMALLER if cell.cell_type == "code" else ():
                cell.source, count = re.subn(pattern, smaller, cell.source)
                unused -= {pattern} if count else set()
        nbformat.write(notebook, path)
    assert not unused, "no cell has what these make smaller"
    with running_lab(root, tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser():
    with running_browser() as instance:
        yield instance


@pytest.fixture(scope="module")
def without_callers():
    """Programs are recorded without who called what, which takes a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fx.config, "do_not_emit_stack_traces", True)
        yield


@pytest.fixture(scope="module")
def few_blocks(without_callers):
    """Of the networks that are called tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", FEW_BLOCKS)
        yield


@pytest.fixture
def torch_hub(tmp_path, monkeypatch):
    """PyTorch's folder of downloads, an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"
