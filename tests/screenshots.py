"""Pictures for docs/, taken in a browser: python tests/screenshots.py [tam ... exercise page]"""

import sys
import tempfile
from pathlib import Path

import nbformat
from lab import ROOT, lab_and_browser, open_page
from test_browser import open_and_run, write_notebook
from test_page import DESK, PHONE, install_runtime, press, served, visited

from blvnet_lab import paths
from blvnet_lab.course.site import write_page

SETUP = """\
from blvnet_lab import data, models, paths, viz
from blvnet_lab.runs.staircase import PAPER, TITLES

samples = paths.data_samples()
motion = data.DataSet.read(samples / "motion" / "manifest.csv")
manifest = motion.rows
names = motion.classes
networks = {
    TITLES[name]: models.load_model(samples / "checkpoints" / f"{name}.safetensors")
    for name in PAPER
}
row = manifest.query("class_name == 'right_then_left' and source_id == 'val_3_0003'").iloc[0]
clip = data.normalize(data.read_frames(row.path, data.sample_uniform(24, 8)))
"""
# Widget to: how to make it, and what is pressed or chosen before the picture is taken.
EXPLORERS = {
    "clip": (
        "viz.ClipExplorer(networks, manifest.query(\"split == 'val'\"), names)",
        ["right_then_left", "halves exchanged"],
    ),
    "branch": ("viz.BranchExplorer(networks['bLVNet-TAM'], clip)", ["stage1", "most active first"]),
    "tam": (
        "viz.TamExplorer(networks['bLVNet-TAM'], clip, names, names.index('right_then_left'))",
        ["stage1.tam", "this TAM", "difference"],
    ),
    "evidence": (
        "viz.EvidenceExplorer(networks, clip, names, names.index('right_then_left'))",
        ["bLVNet-TAM", "left_then_right"],
    ),
    "embedding": (
        """from pathlib import Path

from blvnet_lab.runs.features import extract_features, flat_features

shown = motion.with_rows(manifest.groupby(["class_name", "split"]).head(12))
body = samples / "checkpoints" / "blvnet_tam.safetensors"
features = extract_features(body, shown.save(Path("shown.csv")), out=Path("shown.safetensors"))
explorer = viz.EmbeddingExplorer(*flat_features(features))
explorer.slider.value = 55
explorer""",
        [],
    ),
    "live": (
        """causal = models.load_model(samples / "checkpoints" / "blvnet_tam_causal.safetensors")
view = viz.LiveView(causal, row.path, names, stride=3)
view.position.value = 23
view""",
        [],
    ),
    "recorder": (
        """recorder = viz.ClipRecorder("mine", ["wave left", "wave right"])
recorder.add(manifest.query("class_name == 'moves_left'").path.iloc[3], "wave left")
recorder""",
        ["camera on"],
    ),
}
SETTLE_MS = 2000  # after each step; nobody waits for this but the one who takes the pictures


WRONG_SHIFT = """\
def shift(x, offset):
    \"\"\"y[t] = x[t + offset], zeros where that is outside the clip; x is (B, T, C, H, W).\"\"\"
    return torch.roll(x, -offset, dims=1)"""


def exercise(lab, browser) -> None:
    """Exercise 2.1 with a wrong answer, and what the check says."""
    nb = nbformat.read(paths.notebooks() / "02_why_time_matters.ipynb", as_version=4)
    found = {cell.id: cell for cell in nb.cells}
    text, stub, check = (found[f"ex-2-1-{part}"] for part in ("text", "stub", "check"))
    stub.source = WRONG_SHIFT
    setup = "import torch\n\nfrom blvnet_lab.course import exercises"
    with open_page(browser, lab) as page:
        page.set_viewport_size({"width": 1300, "height": 900})
        open_and_run(page, lab, write_notebook(lab, "exercise.ipynb", setup, text, stub, check))
        page.wait_for_timeout(SETTLE_MS)
        first, last = (page.locator(".jp-Notebook-cell").nth(n).bounding_box() for n in (1, 3))
        area = {"x": first["x"], "y": first["y"], "width": first["width"]}
        area["height"] = last["y"] + last["height"] - first["y"]
        page.screenshot(path=ROOT / "docs" / "exercise.png", clip=area)


def web_page(browser) -> None:
    """The web page: on a desk its first two parts, on a telephone the first, in dark."""
    with tempfile.TemporaryDirectory() as folder:
        install_runtime(Path(folder))
        write_page(Path(folder))
        for name, size, scheme, part in (
            ("page", DESK, "light", 2),
            ("page_phone", PHONE, "dark", 1),
        ):
            with (
                served(Path(folder)) as address,
                visited(browser, address, viewport=size, color_scheme=scheme) as page,
            ):
                page.select_option("#clip", "right then left")
                press(page, "exchange halves")
                page.wait_for_timeout(SETTLE_MS)
                heading = page.locator("h2").nth(part).bounding_box()
                area = {"x": 0, "y": 0, "width": size["width"], "height": heading["y"] - 8}
                page.screenshot(path=ROOT / "docs" / f"{name}.png", clip=area, full_page=True)


def main() -> None:
    chosen = sys.argv[1:] or [*EXPLORERS, "exercise", "page"]
    with lab_and_browser() as (lab, browser):
        for name in chosen:
            if name == "exercise":
                exercise(lab, browser)
                continue
            if name == "page":
                web_page(browser)
                continue
            source, steps = EXPLORERS[name]
            with open_page(browser, lab) as page:
                page.set_viewport_size({"width": 1400, "height": 1800})
                open_and_run(page, lab, write_notebook(lab, f"{name}.ipynb", SETUP, source))
                kinds = f".blvnet-{name}-explorer, .blvnet-{name}-view, .blvnet-clip-{name}"
                explorer = page.locator(kinds)
                for step in steps:
                    if explorer.locator("option", has_text=step).count():
                        explorer.locator("select").last.select_option(step)
                    else:
                        explorer.get_by_role("button", name=step, exact=True).click()
                    page.wait_for_timeout(SETTLE_MS)
                kind = {"live": "_view", "recorder": ""}.get(name, "_explorer")
                explorer.screenshot(path=ROOT / "docs" / f"{name}{kind}.png")


if __name__ == "__main__":
    main()
