"""The recipes of docs/with_other_tools.md, run as a reader runs them."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lab import ROOT

from blvnet_lab.introspect import capture

PAGE = (ROOT / "docs" / "with_other_tools.md").read_text("utf-8")
BEGINNING, *BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def imported(code: str) -> set[str]:
    """Names of the packages that the code imports."""
    nodes = list(ast.walk(ast.parse(code)))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    return {module.partition(".")[0] for module in modules}


def id_of(code: str) -> str:
    """The first thing that is imported, and what it is imported from."""
    return " ".join(re.findall(r"[\w.]+", code.partition("\n\n")[0])[1:4])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the samples in it, as the top folder of a clone."""
    (tmp_path / "data_samples").symlink_to(ROOT / "data_samples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def corners(maps) -> torch.Tensor:
    """The ends of the last three axes of maps (B, ..., T, H, W), which enlarging leaves alone."""
    ends = [0, -1]
    maps = torch.as_tensor(maps)
    return maps.reshape(len(maps), *maps.shape[-3:])[:, ends][:, :, ends][..., ends]


def grad_cam(model, clips, labels, name) -> torch.Tensor:
    """Grad-CAM by hand: (B, P, h, w), with its signs."""
    with capture(model, name, detach=False) as cache:
        score = model(clips).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, cache[name])
    return (gradient.mean((1, 3, 4), keepdim=True) * cache[name]).sum(2).detach()


def check_captum_layer(names: dict) -> None:
    expected = grad_cam(names["model"], names["clips"], names["labels"], "stage2.out")
    torch.testing.assert_close(corners(names["cams"].detach()), corners(expected))


def check_pytorch_grad_cam(names: dict) -> None:
    expected = grad_cam(names["model"], names["clips"], names["labels"], "stage3.out").relu()
    ours, theirs = corners(expected).flatten(1), corners(names["cams"]).flatten(1)
    for one in (ours, theirs):  # from 0 to 1, whatever the scale
        one -= one.amin(1, keepdim=True)
        one /= one.amax(1, keepdim=True)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


CHECKS = {"LayerConductance": check_captum_layer, "GradCAM(": check_pytorch_grad_cam}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("code", BLOCKS, ids=id_of)
def test_recipe(code, folder):
    lacking = sorted(name for name in imported(code) if importlib.util.find_spec(name) is None)
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}: pip install -e '.[tools]'")
    if "init_process_group" in code:
        (folder / "parallel.py").write_text(code)
        done = subprocess.run([*LAUNCH, "parallel.py"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "saved True\n"), done.stderr
        return
    names = {"__name__": "recipe"}
    exec(compile(BEGINNING + code, "with_other_tools.md", "exec"), names)
    for words, check in CHECKS.items():
        if words in code:
            check(names)
