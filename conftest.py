"""Makes `pytest --nbval notebooks` mean the same for everyone, and skips what cannot run here.

With `--nbval`, each notebook runs in a fresh kernel of this very Python, in this checkout, at the
shipped scale, and its outputs are compared with the committed ones.
"""

from __future__ import annotations

import gc
import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent

CELL_S = 1200  # for a cell: a guard against hanging, far beyond what a busy machine takes

# Never compared, on top of nbval's own list (image/png, image/jpeg, widget views, tracebacks):
NOT_COMPARED = (
    "stderr",  # warnings of other versions; the committed notebooks hold none (tests/notebooks.py)
    "image/svg+xml",  # random ids and dates
    "application/vnd.plotly.v1+json",  # floats differ between CPUs in the last digit
)

# Long work, of which each part may be done by another process; it comes first.
ALONE = "tests/test_browser.py::test_notebook[", "tests/test_walkthrough.py"
# Long files that would come late: at the end, one process would wait for the other. And what goes
# on in a page of ALONE.
LONG = ("browser", "subset", "tam_explorer", "widgets", "with_other")
LONG = tuple(f"tests/test_{name}" for name in LONG)


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if not (getattr(option, "nbval", False) or getattr(option, "nbval_lax", False)):
        return
    # The kernels inherit these.
    os.environ["BLVNET_LAB_SCALE"] = "shipped"
    # Where others want the cores, too, a step on several threads takes ten times as long: they wait
    # for each other by spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if option.nbval_sanitize_with is None:  # absolute: nbval looks from the current directory
        option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")
    if not option.nbval_kernel_name:
        option.nbval_current_env = True  # whatever kernels are registered on this machine
    if option.nbval_cell_timeout == 2000:  # nbval's default
        option.nbval_cell_timeout = CELL_S
    if option.nbval_kernel_startup_timeout == 60:  # nbval's default
        option.nbval_kernel_startup_timeout = CELL_S
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        # `pytest --nbval` alone: testpaths names only tests/, where there is no notebook.
        config.args.append(str(ROOT / "notebooks"))


def pytest_collectstart(collector: pytest.Collector) -> None:
    if type(collector).__name__ == "IPyNbFile":  # nbval's, documented as the place to do this
        collector.skip_compare += NOT_COMPARED


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For `--dist loadfile`: the tests of a file, except ALONE, share a process and fixtures."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(ALONE) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def why_no_gpu() -> str | None:
    """Why tests marked `gpu` cannot run here, or None if they can."""
    import torch  # only when there is such a test: it takes seconds

    if torch.cuda.is_available():
        return None
    return "needs a CUDA device: torch.cuda.is_available() is False"


def why_no_browser() -> str | None:
    """Why tests marked `browser` cannot run here, or None if they can."""
    from lab import find_chromium  # pytest has put tests/ on the path by now

    if importlib.util.find_spec("playwright") is None:
        return "needs playwright: pip install -e '.[dev]'"
    if find_chromium() is None:
        return (
            "needs Chromium: `apt-get install chromium`, or install Google Chrome, "
            "or set BROWSER_PATH to one"
        )
    return None


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there now stays; looking through it would take a second each time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in (ALONE, LONG)])
    for item in items:
        if type(item).__name__ == "IPyNbCell":  # nbval's
            item.output_timeout = CELL_S  # of its own it fails if an output comes 5 seconds late
    for marker, why_not in (("gpu", why_no_gpu), ("browser", why_no_browser)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (reason := why_not()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
