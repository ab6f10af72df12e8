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
import torch.nn.functional as F
from lab import ROOT

from blvnet_lab.introspect import capture
from blvnet_lab.models import PairTAM

PAGE = (ROOT / "docs" / "with_other_tools.md").read_text("utf-8")
BEGINNING, *BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def imported(code: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(code)))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    return {module.partition(".")[0] for module in modules}


def id_of(code: str) -> str:
    """What it imports first, and from where."""
    return " ".join(re.findall(r"[\w.]+", code)[1:4])


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


def check_lrp(names: dict) -> None:
    """Of one TAM, by the formula: what a frame gets is its share in the sum of another."""
    torch.manual_seed(0)
    tam, x = PairTAM(2).requires_grad_(False), torch.rand(1, 2, 2, 1, 1, requires_grad=True)
    tam.taps.copy_(torch.tensor([[0.5, -0.3], [-0.2, 0.8], [0.4, 0.6]]))
    names["lrp_gamma"](tam)
    y = torch.stack(tam(x), 2).flatten(1, 2)  # of the frames 0 to 3
    found = x * torch.autograd.grad(y.sum(), x)[0]
    offsets = torch.arange(4) - torch.arange(4)[:, None] + 1  # (to, from): the tap between them
    taps = F.pad(tam.taps + 0.25 * tam.taps.clamp(min=0), (0, 0, 2, 2))  # those too far are 0
    parts = taps[offsets + 2] * x.repeat_interleave(2, 1)[0, :, :, 0, 0].detach()  # (4, 4, C)
    shares = (parts / parts.sum(1, keepdim=True) * y[0, :, None, :, 0, 0]).sum(0)  # (4, C)
    torch.testing.assert_close(found[0, :, :, 0, 0], shares[0::2] + shares[1::2])


CHECKS = {"LayerConductance": check_captum_layer, "GradCAM(": check_pytorch_grad_cam}
CHECKS["lrp_gamma"] = check_lrp


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
