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
    (r"TITLES\.items\(\)(?=:\n    file)", '[("blvnet_tam", TITLES["blvnet_tam"])]'),
    (r"in staircase\.PAPER(?=:)", "in staircase.PAPER[-1:]"),
    (r'\("tsn_blnet", "blvnet_tam"\)(?=:\n    for method)', '("blvnet_tam",)'),
    (r'\["\*\.little", "\*\.big"\]', '["stage3.little"]'),
    (r'subprocess\.run\(command\("undisturbed".*', ""),
    (r'in \("killed", "undisturbed"\)', 'in ("killed", "killed")'),
    (r"for seed in range\(5\)", "for seed in range(1)"),
    (r"dials = \(1, 2, 4, 8\)", "dials = (1, 2)"),
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Its root has a copy of the notebooks, SMALLER and never run, and one as committed."""
    root = tmp_path_factory.mktemp("root")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=ignored)
    for path in (ROOT / "data_samples/motion/val").glob("*/*_000[0-5].mp4"):
        (root / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "few" / path.parent.name)
    shutil.copy(root / "notebooks" / "08_look_inside.ipynb", root / "notebooks" / "committed.ipynb")
    unused = {pattern for pattern, _ in SMALLER}
    for path in (root / "notebooks").glob("0*.ipynb"):
        notebook = nbformat.read(path, 4)
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.outputs, cell.execution_count = [], None  # must not pass for new ones
            for pattern, smaller in SMALLER:
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
        patch.setattr(torch.fx.config, "do_not_emit_stack_traces", True, raising=False)
        yield


@pytest.fixture(scope="module")
def few_blocks(without_callers):
    """Of the networks that are called tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", FEW_BLOCKS)
        yield


@pytest.fixture
def written(monkeypatch):
    """What is written on sheets: (x, words)."""
    from blvnet_lab.viz.images import Sheet  # only here: it brings matplotlib

    found, real = [], Sheet.text

    def text(sheet, x, y, words, *rest, **more):
        found.append((round(x), words))
        real(sheet, x, y, words, *rest, **more)

    monkeypatch.setattr(Sheet, "text", text)
    return found


@pytest.fixture
def torch_hub(tmp_path, monkeypatch):
    """PyTorch's folder of downloads, an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"
