"""How long from a key press on a slider to the new picture? Measured in JupyterLab in Chromium.

    python tests/widget_speed.py [--repeats 30]

The tiny shipped networks, on this machine: a figure to look at, not a test.
"""

import argparse
import statistics

from lab import lab_and_browser, open_page
from test_browser import open_and_run, write_notebook

SETUP = """\
from blvnet_lab import data, models, paths, viz

motion = data.DataSet.read(paths.data_samples() / "motion" / "manifest.csv")
manifest = motion.rows
model = models.load_model(paths.data_samples() / "checkpoints" / "blvnet_tam.safetensors")
frames = data.read_frames(manifest["path"][0], data.sample_uniform(24, 8))
names = motion.classes
"""
# Widget to: how to make it, its slider, the picture that the slider moves. The slider is a CSS
# class, or the number of the slider among all of the widget.
WIDGETS = {
    "FrameStepper, frame": ("viz.FrameStepper(frames)", 0, ".blvnet-frame-frame"),
    "ClipExplorer, frame": (
        "viz.ClipExplorer({'bLVNet-TAM': model}, manifest, names)",
        1,
        ".blvnet-clip-frame",
    ),
    "BranchExplorer, channel": (
        "viz.BranchExplorer(model, data.normalize(frames))",
        ".blvnet-branch-slider",
        ".blvnet-branch-maps",
    ),
    "TamExplorer, tap": (
        "viz.TamExplorer(model, data.normalize(frames), names)",
        ".blvnet-tam-tap",
        ".blvnet-tam-maps",
    ),
}
# Both ends of the way are timed in the page: the key as it comes, the picture once it is decoded.
WATCH = """(selector) => {
  window.__times = [];
  let pressed = null;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  const image = document.querySelector(selector);
  image.addEventListener('load', () => {
    if (pressed !== null) { window.__times.push(performance.now() - pressed); pressed = null; }
  });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    print("milliseconds from key to picture   median   90 % are below")
    with lab_and_browser() as (lab, browser):
        for number, (name, (source, slider, picture)) in enumerate(WIDGETS.items()):
            with open_page(browser, lab) as page:
                page.set_viewport_size({"width": 1280, "height": 1400})
                open_and_run(page, lab, write_notebook(lab, f"speed{number}.ipynb", SETUP, source))
                page.evaluate(WATCH, picture)
                at_slider = page.locator(slider).first if isinstance(slider, str) else page
                handles = at_slider.get_by_role("slider")
                handles.nth(slider if isinstance(slider, int) else 0).focus()
                for i in range(repeats):
                    page.keyboard.press("ArrowRight" if i % 2 == 0 else "ArrowLeft")
                    page.wait_for_function("count => window.__times.length > count", arg=i)
                times = sorted(page.evaluate("window.__times"))
            p90 = times[int(0.9 * len(times))]
            print(f"{name:34} {statistics.median(times):6.0f} {p90:12.0f}")


if __name__ == "__main__":
    main()
