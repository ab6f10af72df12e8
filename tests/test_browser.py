"""Real trips: JupyterLab in Chromium runs every notebook from top to bottom, and moves its widgets.

A test that fails leaves a picture of the whole notebook under build/screenshots.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from lab import LIMIT_S, ROOT, Lab, new_page, open_page
from nbformat.v4 import new_code_cell, new_notebook

from blvnet_lab import data, introspect, models, paths
from blvnet_lab.viz.inside import sorted_taps

with contextlib.suppress(ImportError):  # then conftest.py skips these tests, and says why
    from playwright.sync_api import TimeoutError, expect

pytestmark = pytest.mark.browser  # conftest.py skips these where there is no browser

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCREENSHOTS = ROOT / "build" / "screenshots"
RUN_MS = 1000 * LIMIT_S
TALLEST_PX = 12_000  # of a screenshot

# Known noise, each with a reason. Anything else on the console fails the test.
HARMLESS = (
    "Unsatisfied version",  # two extensions share a JavaScript package at different versions
)

STEPS = """([step, path]) => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  const steps = {
    open: () => app.commands.execute('docmanager:open', { path }).then(() => true),
    close: async () => {
      for (const each of [...app.shell.widgets('main')]) {
        if (each.context) each.context.model.dirty = false;  // else it asks
        each.close();
      }
      return true;
    },
    ready: async () => {
      await app.restored; await panel.context.ready; await panel.sessionContext.ready;
      await panel.sessionContext.session.kernel.info;
      return true;
    },
    run: () => app.commands.execute('notebook:run-all-cells'),
    save: () => panel.context.save().then(() => true),
    cells: async () => panel.content.model.sharedModel.toJSON().cells,
  };
  return steps[step]();
}"""

OPENED = """(name) => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  return panel?.context?.path === name && panel.sessionContext !== undefined;
}"""

# Every cell has its number, or one failed that should not have.
FINISHED = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const code = panel.content.model.sharedModel.toJSON().cells.filter(c => c.cell_type === 'code');
  const failed = cell => !(cell.metadata.tags ?? []).includes('raises-exception')
    && cell.outputs.some(output => output.output_type === 'error');
  return panel.sessionContext.session.kernel.status === 'idle'
    && (code.some(failed) || code.every(cell => cell.execution_count !== null));
}"""


def do(page, step: str, timeout_ms: int | None = None, path: str = ""):
    """The value of one of STEPS, awaited; without a limit, the page's own."""
    return page.evaluate(STEPS, [step, path], timeout_ms)


def open_notebook(page, lab: Lab, name: str) -> None:
    """Open ``name`` (relative to the lab's root) and wait for its kernel; nothing is run."""
    if page.url == "about:blank":
        page.goto(lab.address(name))
    else:  # the page, which takes many seconds to come, is here
        do(page, "open", path=name)
    page.wait_for_function(OPENED, arg=name)
    do(page, "ready")  # the toolbar says "idle" before there is a kernel: not enough


def open_and_run(page, lab: Lab, name: str) -> None:
    """Open ``name`` (relative to the lab's root), run all cells; fails at anything that went wrong.

    That is: a failed cell not tagged ``raises-exception``, text on stderr, a cell that was not
    run, a widget that cannot be shown, an error on the browser's console.
    """
    open_notebook(page, lab, name)
    do(page, "run", RUN_MS)
    # Its answer says nothing: after an error, meant or not, it is false, and comes while the cells
    # below still run.
    with contextlib.suppress(TimeoutError):  # a cell that was never run: reported below
        page.wait_for_function(FINISHED, timeout=RUN_MS, polling=200)  # not sixty times a second
    code = [cell for cell in do(page, "cells") if cell["cell_type"] == "code"]
    for cell in code:
        for output in cell["outputs"]:
            if "raises-exception" not in cell["metadata"].get("tags", []):
                assert output["output_type"] != "error", f"a cell failed: {output['evalue']}"
            assert output.get("name") != "stderr", f"text on stderr: {output['text']}"
    prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()
    assert prompts == [f"[{number}]:" for number in range(1, len(code) + 1)]
    assert page.get_by_text("Error displaying widget").count() == 0
    assert unexpected(page) == []


def unexpected(page) -> list[str]:
    """What the browser's console complained of, but for the known noise."""
    return [text for text in page.problems if not any(known in text for known in HARMLESS)]


def pixels(page, selector: str) -> list[list[int]]:
    """Mean colour ``[red, green, blue]`` of each of 4 vertical bands of an <img>."""
    return page.evaluate(
        """async (selector) => {
          const img = document.querySelector(selector);
          await img.decode();
          const whole = Object.assign(document.createElement('canvas'),
                                      {width: img.naturalWidth, height: img.naturalHeight});
          const pen = whole.getContext('2d');
          pen.drawImage(img, 0, 0);
          const width = Math.floor(whole.width / 4);
          return [0, 1, 2, 3].map(band => {
            const data = pen.getImageData(band * width, 0, width, whole.height).data;
            return [0, 1, 2].map(channel => {
              let sum = 0;
              for (let i = channel; i < data.length; i += 4) sum += data[i];
              return Math.round(4 * sum / data.length);
            });
          });
        }""",
        selector,
    )


@pytest.mark.parametrize("script", ["while (true);", "new Promise(() => {})"])
def test_what_never_ends_in_a_page_is_given_up(browser, script):
    with new_page(browser) as page:
        page.set_default_timeout(2000)
        with pytest.raises(TimeoutError):
            page.evaluate(script)


def drive_stepper(page) -> None:
    """Move the first frame stepper of the page by key, by number and by its play button."""
    stepper = page.locator(".blvnet-frame-stepper").first
    counter = stepper.locator(".blvnet-frame-caption code")
    handle = stepper.get_by_role("slider")
    last = round(float(handle.get_attribute("aria-valuemax")))
    expect(counter).to_have_text(f"frame 0 (0 to {last})")

    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(counter).to_have_text(f"frame 2 (0 to {last})")  # retried until the kernel has answered

    enter(stepper.locator(".widget-readout"), "1")
    expect(counter).to_have_text(f"frame 1 (0 to {last})")

    stepper.locator(".widget-play button").first.click()
    expect(counter).to_have_text(f"frame {last} (0 to {last})")  # played to the end


def enter(field, text: str) -> None:
    field.fill(text)
    field.press("Enter")


def nudge(handle) -> None:
    """Move a slider one step by key: right, or left where it is at its end."""
    value, last = (handle.get_attribute(f"aria-value{name}") for name in ("now", "max"))
    handle.press("ArrowLeft" if value == last else "ArrowRight")


@contextlib.contextmanager
def redrawn(picture) -> Iterator[None]:
    """What is done inside must bring another picture into this <img>."""
    before = picture.get_attribute("src")
    yield
    expect(picture).not_to_have_attribute("src", before)


def drive_clip_explorer(page) -> None:
    """Step, choose another clip, change the order and ask for a missing file, wherever it stands.

    It is left with the clip as filmed.
    """
    explorer = page.locator(".blvnet-clip-explorer").first
    frame, strip = (explorer.locator(f".blvnet-clip-{part}") for part in ("frame", "strip"))
    counter = explorer.locator(".blvnet-clip-caption code")
    scores, message = (explorer.locator(f".blvnet-clip-{part}") for part in ("scores", "message"))
    clip_handle, frame_handle = explorer.get_by_role("slider").all()

    text = counter.inner_text()
    with redrawn(frame):
        nudge(frame_handle)
    expect(counter).not_to_have_text(text)
    with redrawn(frame):
        explorer.locator(".widget-play button").first.click()
    explorer.locator(".widget-play button").first.click()  # a pause

    if clip_handle.get_attribute("aria-valuemax") != "0.0":
        with redrawn(strip):
            nudge(clip_handle)

    explorer.get_by_role("button", name="as filmed").click()
    expect(scores).not_to_contain_text("against the order as filmed")
    with redrawn(strip):
        explorer.get_by_role("button", name="frames reversed").click()
    expect(scores).to_contain_text("against the order as filmed")
    with redrawn(strip):
        explorer.get_by_role("button", name="shuffle again").click()
    # Pressed before the buttons follow, the next one would be undone.
    shuffled = explorer.get_by_role("button", name="frames shuffled")
    expect(shuffled).to_have_class(re.compile("mod-active"))
    with redrawn(strip):
        explorer.get_by_role("button", name="as filmed").click()

    path = explorer.locator(".blvnet-clip-path input")
    enter(path, "no such file.mp4")
    expect(message).to_contain_text("no such file.mp4: expected a video file")
    enter(path, "")
    expect(message).to_have_text("")


def drive_branch_explorer(page) -> None:
    """Visit every stage, another channel, another order of them, another position."""
    explorer = page.locator(".blvnet-branch-explorer").first
    maps, caption = (explorer.locator(f".blvnet-branch-{part}") for part in ("maps", "caption"))
    parts = (explorer.locator(f".blvnet-branch-{part}") for part in ("slider", "position"))
    channel, position = (part.get_by_role("slider") for part in parts)
    explorer.get_by_role("button", name="by number").click()
    for stage in ("stage1", "stage2", "stage3", "stage4", "stem"):
        with redrawn(maps):
            explorer.get_by_role("button", name=stage).click()
        expect(caption).to_contain_text(f"{stage}, channel")
    explorer.get_by_role("button", name="stage3").click()
    expect(caption).to_contain_text("stage3, channel")
    for handle in (channel, position):
        text = caption.inner_text()
        with redrawn(maps):
            nudge(handle)
        expect(caption).not_to_have_text(text)
    explorer.get_by_role("button", name="most active first").click()
    enter(explorer.locator(".blvnet-branch-slider .widget-readout"), "0")
    expect(caption).to_contain_text("the most active")


def last_channel(module: str) -> tuple[int, str]:
    """Of the shipped network's channels, by their roles: its number and role."""
    model = models.load_model(paths.data_samples() / "checkpoints" / "blvnet_tam.safetensors")
    taps = sorted_taps(introspect.tam_weights(model), introspect.tam_roles(model))[module]
    return taps.channels[-1], taps.roles[-1]


def drive_tam_explorer(page) -> None:
    """Set a tap, press a preset, reset, choose another TAM and frame: all that is shown follows."""
    explorer = page.locator(".blvnet-tam-explorer").first
    pictures = [explorer.locator(f".blvnet-tam-{n}") for n in ("strip", "arithmetic", "maps")]
    scores, numbers = (explorer.locator(f".blvnet-tam-{n}") for n in ("scores", "numbers"))
    message = explorer.locator(".blvnet-tam-message")

    def shown() -> list[str]:
        return [picture.get_attribute("src") for picture in pictures]

    def press(name: str) -> None:
        explorer.get_by_role("button", name=name, exact=True).click()

    # The sliders round what they are given; that must not come back as an edit.
    expect(message).to_have_text("All taps are the model's own.")
    first, score, sums = shown(), scores.inner_text(), numbers.inner_text()

    enter(explorer.locator(".blvnet-tam-tap .widget-readout").first, "-1.5")
    expect(message).to_contain_text("Changed channels: 1 of stem.tam.")
    expect(numbers).to_contain_text("−1.50 ×")
    expect(scores).not_to_have_text(score)
    assert all(new != old for new, old in zip(shown(), first, strict=True)), "a picture stayed"

    handle = explorer.locator(".blvnet-tam-tap").first.get_by_role("slider")
    handle.press("PageUp")
    expect(numbers).to_contain_text("−1.49 ×")

    press("this TAM")
    press("difference")
    expect(message).to_contain_text("Changed channels: all ")
    expect(numbers).to_contain_text("−1.00 ×")

    press("reset all")
    expect(message).to_have_text("All taps are the model's own.")
    expect(numbers).to_have_text(sums, use_inner_text=True)
    expect(scores).to_have_text(score, use_inner_text=True)

    press("stage1.tam")
    title = explorer.locator(".blvnet-tam-title")
    expect(title).to_contain_text("of stage1.tam at frame")
    frame = explorer.locator(".blvnet-tam-frame").get_by_role("slider")
    frame.press("Home")
    expect(title).to_contain_text("frame 0 (little, pair 0)")
    channel = explorer.locator(".blvnet-tam-channel").get_by_role("slider")
    channel.focus()
    for _ in range(7):  # quickly: what comes back late must not end up in another channel
        page.keyboard.press("ArrowRight")
    last, role = last_channel("stage1.tam")
    readout = explorer.locator(".blvnet-tam-channel .widget-readout")
    expect(readout).to_have_text(f"{last} {role}")
    expect(title).to_contain_text(f"Channel {last} of stage1.tam")
    explorer.locator(".widget-play button").first.click()
    expect(title).to_contain_text("frame 7 (big, pair 3)")  # played to the end
    expect(message).to_have_text("All taps are the model's own.")


@pytest.fixture(scope="module")
def jupyterlab(browser, lab):
    """A page for all tests of this file: it takes ten seconds of a processor to come."""
    with open_page(browser, lab) as page:
        yield page


@pytest.fixture
def page(jupyterlab, lab):
    return emptied(jupyterlab, lab)


def emptied(page, lab: Lab):
    """The same page, with nothing open; kernels are about to end."""
    if getattr(page, "spoiled", False):  # by a test that failed: there may be a dialog
        page.goto("about:blank")
        page.spoiled = False
    if page.url != "about:blank":
        do(page, "close")
    lab.end_kernels(wait=False)
    page.problems.clear()
    return page


@pytest.fixture(autouse=True)
def pictured(request) -> Iterator:
    """Where a test fails, the page leaves a picture of itself."""
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before and "jupyterlab" in request.fixturenames:
        name = re.sub(r"[^-.A-Za-z0-9]+", "_", request.node.name)
        page = request.getfixturevalue("jupyterlab")
        take_screenshot(page, SCREENSHOTS / f"{name}.png")
        page.spoiled = True


def take_screenshot(page, path: Path) -> None:
    """The whole notebook in one picture: the window is made as tall as what it scrolls."""
    hidden = page.evaluate(
        """() => Math.max(0, ...[...document.querySelectorAll('.jp-WindowedPanel-outer')]
                  .map(panel => panel.scrollHeight - panel.clientHeight))"""
    )
    page.set_viewport_size({"width": 1280, "height": min(1000 + hidden, TALLEST_PX)})
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(page, lab, notebook):
    open_and_run(page, lab, f"notebooks/{notebook.name}")
    for name, drive in (
        ("frame-stepper", drive_stepper),
        ("clip-explorer", drive_clip_explorer),
        ("branch-explorer", drive_branch_explorer),
        ("tam-explorer", drive_tam_explorer),
    ):
        if page.locator(f".blvnet-{name}").count():
            drive(page)
    assert unexpected(page) == []


# ---------------------------------------------------------------- every widget in one notebook
def write_notebook(lab: Lab, name: str, *cells) -> str:
    """A notebook of code cells (texts or nodes) in the lab's root; returns its name."""
    nodes = [cell if not isinstance(cell, str) else new_code_cell(cell) for cell in cells]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=nodes, metadata=metadata), lab.root / name)
    return name


SQUARE_GOES_RIGHT = """\
import torch

from blvnet_lab.viz.explorers.results import FrameStepper

frames = torch.full((16, 3, 64, 64), 30, dtype=torch.uint8)
for t in range(16):
    frames[t, 0, 24:40, 3 * t : 3 * t + 16] = 250
FrameStepper(frames, captions=[f"<b>{t} of them</b>" for t in range(16)], interval_ms=60)
"""


@pytest.fixture(scope="module")
def widgets(jupyterlab, lab):
    """A notebook with all of them, which the tests below move; it is closed by the next one."""
    name = write_notebook(lab, "widgets.ipynb", SQUARE_GOES_RIGHT, *EXPLORERS)
    open_and_run(emptied(jupyterlab, lab), lab, name)
    return jupyterlab


def test_frame_stepper(widgets):
    image = widgets.locator(".blvnet-frame-stepper .blvnet-frame-frame")
    assert image.bounding_box()["width"] == pytest.approx(320, abs=1)  # 64 pixels, 5 times
    first = pixels(widgets, ".blvnet-frame-frame")
    drive_stepper(widgets)
    last = pixels(widgets, ".blvnet-frame-frame")
    for start, end, band in ((first, last, 0), (last, first, 3)):  # red leaves band 0 for band 3
        assert start[band][0] > 60 > 40 > end[band][0], (first, last)
    assert all(abs(band[1] - 30) < 4 for band in first + last), "green should not move"
    assert widgets.locator(".blvnet-frame-caption b").inner_text() == "15 of them"


MODELS = ("tsn", "tsn_blnet", "blvnet", "blvnet_tam")
SAMPLES = f"""\
from pathlib import Path

import plotly.graph_objects as go

from blvnet_lab import data, introspect, models, paths, viz
from blvnet_lab.runs.predict import OverTime, predict_video

samples = paths.data_samples()
motion = data.DataSet.read(samples / "motion" / "manifest.csv")
manifest = motion.rows
nets = {{
    name: models.load_model(samples / "checkpoints" / f"{{name}}.safetensors")
    for name in {MODELS}
}}
"""
CLIP_EXPLORER = """\
clips = manifest[manifest["split"] == "val"].groupby("class_name").head(3)
viz.ClipExplorer(nets, clips, motion.classes)
"""
BRANCH_EXPLORER = """\
path = manifest["path"][0]
frames = data.read_frames(path, data.sample_uniform(24, 8))
viz.BranchExplorer(nets["blvnet_tam"], data.normalize(frames))
"""

TAM_RESNET = """\
model = models.tsn(temporal="tam", depth=50, num_frames=4, num_classes=3)
viz.TamExplorer(introspect.wake_residuals(model), torch.randn(4, 3, 32, 32))
"""
EVIDENCE_EXPLORER = """\
row = manifest.query("split == 'val' and class_name == 'moves_right'").iloc[0]
clip = data.normalize(data.read_frames(row["path"], data.sample_uniform(24, 8)))
viz.EvidenceExplorer({name: nets[name] for name in ("tsn", "blvnet_tam")}, clip, motion.classes, 0)
"""
LIVE_VIEW = """\
file = samples / "checkpoints" / "blvnet_tam_causal.safetensors"
row = manifest.query("split == 'val' and class_name == 'right_then_left'").iloc[0]
viz.LiveView(models.load_model(file), row["path"], motion.classes, stride=3)
"""
TIMELINE = """\
answer = predict_video(file, Path(row["path"]), OverTime(0.25, window=2))
viz.TimelineExplorer(row["path"], answer.timeline)
"""
EMBEDDING = """\
points = manifest.groupby("class_name").head(1)
points = points.assign(x=range(10), y=[i % 4 for i in range(10)])
viz.EmbeddingExplorer(points, "a plane")
"""
CHART = "viz.show(go.Figure(go.Scatter(y=[1, 3, 2])))"
EXPLORERS = SAMPLES, CLIP_EXPLORER, BRANCH_EXPLORER, TAM_RESNET, EVIDENCE_EXPLORER
EXPLORERS += LIVE_VIEW, TIMELINE, EMBEDDING, CHART


def test_tam_explorer_of_a_resnet(widgets):
    explorer = widgets.locator(".blvnet-tam-explorer")
    title, message = (explorer.locator(f".blvnet-tam-{part}") for part in ("title", "message"))
    expect(title).to_contain_text("of stage1.0.tam at frame 2")
    explorer.locator(".blvnet-tam-module").get_by_role("slider").press("End")
    expect(title).to_contain_text("of stage4.2.tam at frame 2")
    expect(message).to_have_text("All taps are the model's own.")
    enter(explorer.locator(".blvnet-tam-tap .widget-readout").first, "-1.5")
    expect(message).to_have_text("Changed channels: 1 of stage4.2.tam.")
    expect(explorer.locator(".blvnet-tam-numbers")).to_contain_text("−1.50 ×")
    assert unexpected(widgets) == []


def test_clip_explorer(widgets):
    drive_clip_explorer(widgets)
    explorer = widgets.locator(".blvnet-clip-explorer")
    strip, scores = explorer.locator(".blvnet-clip-strip"), explorer.locator(".blvnet-clip-scores")

    def score(model: str) -> float:
        row = scores.locator(f"[data-model={model}] tr[data-class=grows_then_shrinks]")
        return float(row.get_attribute("data-score"))

    with redrawn(strip):
        explorer.locator("select").select_option("grows_then_shrinks")
    expect(scores).to_contain_text("True class: grows_then_shrinks")
    filmed, before = pixels(widgets, ".blvnet-clip-strip"), {m: score(m) for m in MODELS}
    with redrawn(strip):
        explorer.get_by_role("button", name="halves exchanged").click()
    expect(scores).to_contain_text("against the order as filmed")
    exchanged, after = pixels(widgets, ".blvnet-clip-strip"), {m: score(m) for m in MODELS}
    # A band is two frames. (The numbers above them, and antialiasing, move means by less than 2.)
    assert np.allclose(exchanged, filmed[2:] + filmed[:2], atol=2)
    assert not np.allclose(exchanged, filmed, atol=2)
    for model in ("tsn", "tsn_blnet", "blvnet"):
        assert after[model] == pytest.approx(before[model], abs=1e-3), "pairs alone cannot tell"
    assert before["blvnet_tam"] > 0.9 > 0.1 > after["blvnet_tam"]

    path = explorer.locator(".blvnet-clip-path input")
    enter(path, str(ROOT / "data_samples" / "no.mp4"))
    expect(explorer.locator(".blvnet-clip-message")).to_contain_text("it does not exist")
    assert pixels(widgets, ".blvnet-clip-strip") == exchanged
    assert unexpected(widgets) == []


def test_branch_explorer(widgets):
    drive_branch_explorer(widgets)
    explorer = widgets.locator(".blvnet-branch-explorer")
    maps, caption = (explorer.locator(f".blvnet-branch-{part}") for part in ("maps", "caption"))
    box = maps.bounding_box()
    natural = maps.evaluate("img => [img.naturalWidth, img.naturalHeight]")
    assert [box["width"], box["height"]] == pytest.approx(natural, abs=1), "pixels are not crisp"

    seen = [pixels(widgets, ".blvnet-branch-maps")]
    for stage in ("stage1", "stage2", "stage4"):
        with redrawn(maps):
            explorer.get_by_role("button", name=stage).click()
        expect(caption).to_contain_text(f"{stage}, channel")
        seen.append(pixels(widgets, ".blvnet-branch-maps"))
    assert len(set(map(str, seen))) == len(seen)
    enter(explorer.locator(".blvnet-branch-position .widget-readout"), "0")
    expect(caption).to_contain_text("pair 0")
    explorer.locator(".widget-play button").first.click()
    expect(caption).to_contain_text("pair 3")  # played to the end
    assert unexpected(widgets) == []


def test_evidence_explorer_by_keyboard(widgets):
    """From the first control to the last with the tab key alone, and back."""
    explorer = widgets.locator(".blvnet-evidence-explorer")
    parts = (f".blvnet-evidence-{part}" for part in ("maps", "closeup", "sums"))
    maps, closeup, sums = map(explorer.locator, parts)

    def tab_to(words: str, back: bool = False) -> None:
        focused = "document.activeElement.textContent.trim() || document.activeElement.className"
        for _ in range(12):
            widgets.keyboard.press("Shift+Tab" if back else "Tab")
            if words in widgets.evaluate(focused):
                return
        pytest.fail(f"no tab key leads to {words}")

    def whole() -> str:
        return sums.inner_text().split("All ")[1].split(" = ")[1].split(",")[0]

    expect(sums).to_contain_text("tsn answers")
    explorer.get_by_role("button", name="tsn", exact=True).focus()
    seen = [pixels(widgets, ".blvnet-evidence-maps")]
    tab_to("blvnet_tam")
    with redrawn(maps):
        widgets.keyboard.press("Enter")
    expect(sums).to_contain_text("blvnet_tam answers moves_right")
    expect(sums).to_contain_text("All pairs: ")
    tab_to("moves_left")  # the list of classes that the evidence is for
    tab_to("nothing")
    widgets.keyboard.press("Space")  # opens the list: else arrows change JupyterLab's cell
    widgets.keyboard.press("ArrowDown")
    widgets.keyboard.press("ArrowDown")
    with redrawn(maps):
        widgets.keyboard.press("Enter")
    expect(sums).to_contain_text("the logit of moves_right, less that of moves_left.")
    forwards = whole()
    tab_to("frames reversed")
    with redrawn(maps):
        widgets.keyboard.press("Space")
    expect(sums).to_contain_text("blvnet_tam answers moves_left")
    assert not forwards.startswith("−") and whole().startswith("−")
    seen.append(pixels(widgets, ".blvnet-evidence-maps"))
    tab_to("noUi-handle")
    with redrawn(maps):
        widgets.keyboard.press("End")
    expect(sums).to_contain_text("Pair 3, frames 1 and 0:")
    numbers = [float(cell.replace("−", "-")) for cell in closeup.locator("td").all_inner_texts()]
    assert len(numbers) == 4
    printed = re.search(r"frames 1 and 0: .* = (\S+)\.\n", sums.inner_text())[1]
    assert f"{sum(numbers):.2f}" == printed.replace("−", "-")
    table, picture = closeup.locator("table").bounding_box(), maps.bounding_box()
    assert table["width"] == pytest.approx(table["height"], abs=1) and table["width"] >= 256
    assert picture["y"] + picture["height"] <= table["y"], "they overlap"
    tab_to("tsn", back=True)
    with redrawn(maps):
        widgets.keyboard.press("Enter")
    expect(sums).to_contain_text("tsn answers")
    assert abs(float(whole().replace("−", "-"))) < 0.1, "a coin toss"
    explorer.locator(".widget-play button").first.click()
    expect(sums).to_contain_text("Position 7, frame 0:")  # played to the end
    assert len(set(map(str, seen))) == len(seen)
    assert unexpected(widgets) == []


def test_live_view(widgets):
    view = widgets.locator(".blvnet-live-view")
    caption, cost = (view.locator(f".blvnet-live-{part}") for part in ("caption", "cost"))
    expect(caption).to_contain_text("frame 0 (0 to 23)")
    first = pixels(widgets, ".blvnet-live-chart")
    view.locator(".blvnet-live-play button").first.click()
    expect(caption).to_contain_text("frame 23 (0 to 23)")  # played to the end
    expect(cost).to_contain_text("4 of 4 pairs seen")
    assert pixels(widgets, ".blvnet-live-chart") != first
    view.locator("button.blvnet-live-restart").click()
    expect(cost).to_contain_text("has not seen a pair yet")
    assert pixels(widgets, ".blvnet-live-chart") == first
    assert unexpected(widgets) == []


def test_timeline_explorer(widgets):
    view = widgets.locator(".blvnet-timeline-explorer")
    caption, chart = (view.locator(f".blvnet-timeline-{part}") for part in ("caption", "chart"))
    expect(caption).to_contain_text("frame 0 (0 to 23) at 0.00 s: no answer yet")
    seen = [pixels(widgets, ".blvnet-timeline-chart")]
    with redrawn(chart):  # or it is this one that comes after the next step
        nudge(view.get_by_role("slider"))
    expect(caption).to_contain_text("frame 1 (0 to 23)")
    with redrawn(chart):
        enter(view.locator(".widget-readout"), "12")
    seen.append(pixels(widgets, ".blvnet-timeline-chart"))
    view.locator(".widget-play button").first.click()
    expect(caption).to_contain_text("frame 23 (0 to 23) at 1.92 s: answer of 2 s: right_then_left")
    seen.append(pixels(widgets, ".blvnet-timeline-chart"))
    assert len(set(map(str, seen))) == 3 and unexpected(widgets) == []


def test_embedding_explorer_follows_the_mouse_and_the_keyboard(widgets):
    view = widgets.locator(".blvnet-embedding-explorer")
    caption, dots = view.locator(".blvnet-embedding-caption"), view.locator(".point")
    expect(dots).to_have_count(11)  # and the ring
    first = caption.inner_text()
    seen = [pixels(widgets, ".blvnet-embedding-frames")]
    with redrawn(view.locator(".blvnet-embedding-frames")):
        dots.nth(7).hover(force=True)
    expect(caption).not_to_have_text(first)
    seen.append(pixels(widgets, ".blvnet-embedding-frames"))
    second = caption.inner_text()
    nudge(view.get_by_role("slider"))
    expect(caption).not_to_have_text(second)
    seen.append(pixels(widgets, ".blvnet-embedding-frames"))
    assert len(set(map(str, seen))) == 3 and unexpected(widgets) == []


def test_plotly_figure_comes_alive(widgets):
    chart = widgets.locator(".jp-RenderedPlotly")
    chart.hover()  # may be a static picture until then
    expect(chart.locator(".main-svg").first).to_be_visible()
    assert unexpected(widgets) == []


# ---------------------------------------------------------------- opened again
VARIOUS_WIDGETS = (
    SQUARE_GOES_RIGHT,
    "import ipywidgets\n\nipywidgets.IntSlider()",
    "from tqdm.auto import tqdm\n\nfor _ in tqdm(range(3), desc='steps'):\n    pass",
)


def assert_shown_as_saved(page, saved: list[dict]) -> None:
    """The picture of each output, or its text where it has none."""
    shown = page.locator(".jp-CodeCell .jp-OutputArea-output")
    expect(shown).to_have_count(len(saved))
    for place, bundle in zip(shown.all(), saved, strict=True):
        kind = next((kind for kind in bundle if kind.startswith("image/")), None)
        if kind is None:
            expect(place).to_have_text(bundle["text/plain"])
        else:
            source = f"data:{kind};base64,{bundle[kind]}".replace("\n", "")
            expect(place.locator("img")).to_have_attribute("src", source)
            expect(place).to_have_text("")


def test_reopened_notebook_shows_what_was_saved(page, lab, browser):
    """As a learner's JupyterLab saved it, before there is a kernel and when there is one."""
    name = write_notebook(lab, "reopened.ipynb", *VARIOUS_WIDGETS)
    open_and_run(page, lab, name)
    do(page, "save")
    lab.end_kernels()
    cells = nbformat.read(lab.root / name, as_version=4).cells
    saved = [output.data for cell in cells for output in cell.outputs]
    view = "application/vnd.jupyter.widget-view+json"
    assert [view in data for data in saved] == [True] * len(VARIOUS_WIDGETS), "else no test"
    assert "image/jpeg" in saved[0]
    held, released = [], []

    def hold(route) -> None:
        if route.request.method == "POST" and not released:  # a kernel is asked for
            held.append(route)
        else:
            route.continue_()

    with open_page(browser, lab) as again:
        again.route("**/api/sessions?*", hold)
        again.goto(lab.address(name))
        assert_shown_as_saved(again, saved)
        with again.expect_console_message(lambda message: "model not found" in message.text):
            released.append(True)
            for route in held:
                route.continue_()
        do(again, "ready")
        assert_shown_as_saved(again, saved)
        assert all("widget model not found" in text for text in unexpected(again))
        do(again, "run")
        expect(again.locator(".blvnet-frame-stepper")).to_be_visible()
        expect(again.locator(".blvnet-frame-stepper img")).to_have_count(1)


def test_committed_notebook_is_shown_before_it_is_run(page, lab):
    path = lab.root / "notebooks" / "committed.ipynb"
    open_notebook(page, lab, f"notebooks/{path.name}")
    pictures = page.locator(".jp-CodeCell .jp-RenderedImage img")
    pictures.first.wait_for()
    outputs = [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert pictures.count() == sum(kind in ("image/png", "image/jpeg") for kind in kinds)
    assert all(pictures.evaluate_all("all => all.map(img => img.naturalWidth > 0)"))
    no_widget = re.compile("(Error displaying|Loading) widget")
    assert page.locator(".jp-CodeCell").get_by_text(no_widget).count() == 0
    assert unexpected(page) == []


def test_extension_is_installed():
    installed = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "blvnet_lab"
    ours = ROOT / "blvnet_lab" / "viz" / "labextension"
    for path in (path for path in ours.rglob("*") if path.is_file()):
        there = installed / path.relative_to(ours)
        assert there.is_file() and there.read_bytes() == path.read_bytes(), (
            f"expected a copy of {path} at {there}; install the package again: pip install -e ."
        )


# ---------------------------------------------------------------- the trip itself notices faults
def test_faults_are_noticed_unless_they_are_meant(page, lab):
    meant = new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})
    open_and_run(page, lab, write_notebook(lab, "meant.ipynb", "1 + 1", meant, "2 + 2"))
    for name, source, words in (  # what the last one says stays in the console
        ("error", "raise ValueError('meant to fail')", "a cell failed: meant to fail"),
        ("stderr", "import sys\n\n_ = sys.stderr.write('a warning')", "text on stderr: a warning"),
        ("console", "display(HTML('<script>console.error(404)</script>'))", "404"),
    ):
        cells = "from IPython.display import HTML, display", source, "2 + 2"
        name = write_notebook(lab, f"{name}.ipynb", *cells)
        with pytest.raises(AssertionError, match=words):
            open_and_run(emptied(page, lab), lab, name)


# ---------------------------------------------------------------- the camera (a fake one)
RECORDER = """
from blvnet_lab import models, paths, viz

viz.ClipRecorder("mine", ["wave left", "wave right"])
"""
CAMERA = """
model = models.load_model(paths.data_samples() / "checkpoints" / "blvnet_tam_causal.safetensors")
viz.LiveView(model, source="camera")
"""

NO_RECORDER = """
window.MediaRecorder = function () { throw Error('no codec'); };
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => (window.given = await ask(wanted));
"""
DENIED = "navigator.mediaDevices.getUserMedia = async () => { throw Error('Permission denied'); }"
NOT_SECURE = "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})"


def button(widget, name: str):
    return widget.get_by_role("button", name=name, exact=True)


@pytest.fixture(scope="module")
def camera(jupyterlab, lab):
    """A notebook for the tests below; the last of them leaves the page without a camera."""
    name = write_notebook(lab, "camera.ipynb", RECORDER, CAMERA)
    open_and_run(emptied(jupyterlab, lab), lab, name)
    return jupyterlab


def test_recorder(camera, lab):
    """Two recordings, a file in several pieces, and one that is no video."""
    recorder, folder = camera.locator(".blvnet-clip-recorder"), lab.root / "mine"
    status, message = recorder.get_by_role("status"), recorder.locator(".blvnet-clip-message")
    expect(button(recorder, "record")).to_be_disabled()
    button(recorder, "camera on").click()
    for number, label in ((1, "wave right"), (2, "wave left")):
        button(recorder, label).click()
        button(recorder, "record").click()
        expect(status).to_contain_text(f"{label}: ")
        button(recorder, "wave left").click()  # the class is the one that was chosen before
        expect(message).to_contain_text(f"Taken: {label}, number 00{number}")
    clips = sorted(path.relative_to(folder).as_posix() for path in folder.glob("clips/*/*/*"))
    assert clips == [
        "clips/wave left/001/reversed.mp4",
        "clips/wave left/002/filmed.mp4",
        "clips/wave right/001/filmed.mp4",
        "clips/wave right/002/reversed.mp4",
    ]
    two = clips[2:0:-2] + clips[:1]
    filmed, backwards = (data.read_frames(folder / name, range(24)).float() for name in two)
    assert torch.equal(filmed, backwards.flip(0)) and (filmed[0] - filmed[9]).abs().max() > 50
    for path in folder.glob("originals/*/*.webm"):
        info = data.probe_video(path)
        assert 1.6 < info.seconds < 3 and 8 <= info.num_frames <= 90 and info.size == (128, 128)

    large = next((ROOT / "data_samples/motion").rglob("*.mp4")).read_bytes()
    large += bytes(3 << 20)  # zeros behind a video are no fault
    for name, content in (("large.mp4", large), ("text.mp4", b"no video")):
        file = {"name": name, "mimeType": "video/mp4", "buffer": content}
        recorder.locator("input[type=file]").set_input_files(file)
        expect(status).to_have_text("")
    expect(message).to_contain_text("Not taken. text.mp4: expected a video file")
    assert (folder / "originals/wave left/003.mp4").read_bytes() == large
    with redrawn(recorder.locator(".blvnet-clip-strip")):
        button(recorder, "remove the last").click()
    expect(message).to_have_text("Removed: wave left, 003.")
    assert (folder / "removed/originals/wave left/003.mp4").read_bytes() == large
    button(recorder, "camera off").click()
    assert unexpected(camera) == []


def test_camera_view(camera):
    view = camera.locator(".blvnet-camera-view")
    chart, cost = (view.locator(f".blvnet-camera-{part}") for part in ("chart", "cost"))
    for _ in range(2):  # after a pause it begins again
        button(view, "camera on").click()
        expect(cost).to_contain_text("pairs a second")
        button(view, "camera off").click()
        with redrawn(chart):
            view.locator("button.blvnet-camera-restart").click()
        expect(cost).to_have_text(re.compile("^What the camera sees goes .* nowhere else"))
    assert unexpected(camera) == []


def test_recording_that_fails_and_no_camera(camera):
    """None that records, one that is unplugged, one that is denied, and a page that is not safe."""
    camera.evaluate(NO_RECORDER + "null")  # a function would be called
    recorder = camera.locator(".blvnet-clip-recorder")
    status = recorder.get_by_role("status")
    button(recorder, "camera on").click()
    button(recorder, "record").click()
    expect(status).to_have_text("Not taken: no codec.")
    expect(button(recorder, "record")).to_be_enabled()
    camera.evaluate("given.getTracks()[0].dispatchEvent(new Event('ended'))")
    expect(status).to_have_text("The camera is gone.")
    expect(button(recorder, "record")).to_be_disabled()
    for script, words in ((DENIED, "Permission denied."), (NOT_SECURE, "only to pages from https")):
        camera.evaluate(f"{script}; null")
        button(recorder, "camera on").click()
        expect(status).to_contain_text(words)
        expect(status).to_contain_text("Choose files instead.")
        expect(button(recorder, "record")).to_be_disabled()
