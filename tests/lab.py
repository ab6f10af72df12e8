"""A JupyterLab of its own for the browser tests: on loopback, with nobody's settings.

And what all tests need on a machine that others use, too: long limits, and processes that end with
the tests.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Tests wait for events. These limits say only when to give up, so they are far beyond what
# anything takes on a machine whose cores others want, too.
LIMIT_S = 1200  # for a process, or a whole notebook, that should end by itself
WAIT_MS = 120_000  # for one wait in a page, on a quiet machine: times `slowness`
CHROMIUM_ARGS = [
    "--no-sandbox",  # needed as root and in most containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a clock and a disc that is eaten,
    "--use-fake-ui-for-media-stream",  # and that everybody allows
]
# What is waited for is an object: also where a value, or what a promise brings, is false.
IN_A_BOX = """async ([script, arg]) => {
  const found = (0, eval)(script);
  return { value: await (typeof found === 'function' ? found(arg) : found) };
}"""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_APPS = (  # macOS
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension/tracker": {
        "windowingMode": "none",  # else cells off screen are not in the page for locators
        "scrollPastEnd": False,  # no empty page below the last cell in screenshots
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome: BROWSER_PATH, as for plotly's pictures, or one found."""
    if path := os.environ.get("BROWSER_PATH"):
        return path
    found = (shutil.which(name) for name in CHROMIUM_NAMES)
    apps = (path for path in CHROMIUM_APPS if os.path.exists(path))
    return next(filter(None, (*found, *apps)), None)


def slowness() -> float:
    """How many times longer than alone on this machine a process takes at this moment, from 1."""
    begin, used = time.perf_counter(), time.thread_time()
    while time.thread_time() - used < 0.1:
        pass
    return max(1.0, (time.perf_counter() - begin) / 0.1)


def setting(control, value) -> Callable[[], None]:
    """What sets a control's value."""
    return lambda: setattr(control, "value", value)


def type_command(monkeypatch, *words: object) -> None:
    """Run a command in this process, where PyTorch is loaded already; errors are `SystemExit`."""
    from blvnet_lab import cli

    monkeypatch.setattr(sys, "argv", ["blvnet_lab", *map(str, words)])
    cli.main()


def run_python(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """Python with this checkout and one thread, to its end, and what it said."""
    there = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    command, env = [sys.executable, *map(str, words)], os.environ | there
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=env)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths from it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@contextlib.contextmanager
def owned(command: list[str], **options) -> Iterator[subprocess.Popen]:
    """A process that ends with the block, and with this process, whatever ends that: SIGKILL, too.

    Between the two stands another one, which sees its standard input close. It ends the command by
    SIGTERM, then all that is left of its process group by SIGKILL.
    """
    command = [sys.executable, __file__, *command]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()


def run_until_input_ends(command: list[str], grace_s: float = 60) -> int:
    """What stands between, `python tests/lab.py COMMAND ...`; the command's exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ending = threading.Event()

    def end() -> None:
        sys.stdin.buffer.read()
        ending.set()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        os.killpg(0, signal.SIGKILL)  # what it left behind, and this process

    threading.Thread(target=end, daemon=True).start()
    code = process.wait()
    if ending.is_set():
        time.sleep(grace_s)  # until it is killed
    return code


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab; ``url`` ends with a slash."""

    url: str
    token: str
    root: Path

    def address(self, name: str) -> str:
        """Where the browser finds the notebook ``name``, given relative to ``root``."""
        # `reset` forgets the saved workspace, so only this notebook is open
        return f"{self.url}lab/tree/{name}?token={self.token}&reset"

    def request(self, path: str, method: str = "GET"):
        """The server's answer as JSON, or None where it is empty."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return json.loads(answer.read() or "null")

    def end_kernels(self, wait: bool = True) -> None:
        """Give their memory back: an idle kernel with torch keeps hundreds of megabytes."""
        paths = [f"api/sessions/{session['id']}" for session in self.request("api/sessions")]

        def delete(path: str) -> None:
            with contextlib.suppress(urllib.error.HTTPError):  # it is ending already
                self.request(path, "DELETE")

        ends = [threading.Thread(target=delete, args=(path,)) for path in paths]
        for end in ends:
            end.start()
        for end in ends if wait else ():
            end.join()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running_lab(root: Path, work: Path) -> Iterator[Lab]:
    """JupyterLab serving ``root``; everything else it writes goes under ``work``.

    Its kernels use this checkout, installed or not, at the shipped scale. Raises RuntimeError with
    the server's log if it ends early, TimeoutError if it does not answer in ``LIMIT_S``.
    """
    extension = ROOT / "blvnet_lab" / "viz" / "labextension"  # of this checkout, installed or not
    shutil.copytree(extension, work / "labextensions" / "blvnet_lab")
    for name, value in SETTINGS.items():
        path = work / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    port, token = free_port(), secrets.token_hex(16)
    env = os.environ | {
        "BLVNET_LAB_SCALE": "shipped",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "JUPYTER_CONFIG_DIR": str(work / "config"),
        "JUPYTER_DATA_DIR": str(work / "data"),
        "JUPYTER_RUNTIME_DIR": str(work / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(work / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(work / "workspaces"),
        "IPYTHONDIR": str(work / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    env.pop("PYTEST_CURRENT_TEST", None)  # ipykernel behaves differently when it sees this
    log = work / "lab.log"
    command = [
        sys.executable, "-m", "jupyterlab",
        "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",  # window.jupyterapp, see test_browser.py
        "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        f"--LabApp.extra_labextensions_path={work / 'labextensions'}",
    ]  # fmt: skip
    with (
        log.open("wb") as out,
        # SIGTERM: it ends its kernels too. Without it they notice that it is gone.
        owned(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=work) as server,
    ):
        lab = Lab(f"http://127.0.0.1:{port}/", token, root)
        deadline = time.monotonic() + LIMIT_S
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab ended early:\n{log.read_text()}")
            try:
                lab.request("api")
                break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"JupyterLab is not up:\n{log.read_text()}") from None
                time.sleep(0.2)
        yield lab


@contextlib.contextmanager
def running_browser() -> Iterator:
    """Chromium, as playwright's Browser; a process can have one at a time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": find_chromium(), "args": CHROMIUM_ARGS}
        browser = playwright.chromium.launch(**options, timeout=1000 * LIMIT_S)
        yield browser
        browser.close()


@contextlib.contextmanager
def new_page(browser, complaints: tuple[str, ...] = ("error",), **options) -> Iterator:
    """A page of an empty profile; its ``problems`` are what its console complained of.

    Its ``evaluate`` takes a time limit, the page's own by default: Playwright's has none, and would
    wait for a promise that nobody keeps, or for a page that hangs.
    """
    from playwright.sync_api import expect

    def evaluate(script: str, arg: object = None, timeout: float | None = None):
        found = page.wait_for_function(IN_A_BOX, arg=[script, arg], timeout=timeout)
        return found.json_value()["value"]

    wait_ms = WAIT_MS * slowness()
    expect.set_options(timeout=wait_ms)
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(wait_ms)
    page.evaluate, page.problems = evaluate, []
    page.on("console", lambda m: m.type in complaints and page.problems.append(m.text))
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    yield page
    context.close()


@contextlib.contextmanager
def open_page(browser, lab: Lab) -> Iterator:
    """A page, whose kernels end with it."""
    with new_page(browser, viewport={"width": 1280, "height": 1000}) as page:
        yield page
    lab.end_kernels()


@contextlib.contextmanager
def lab_and_browser() -> Iterator:
    """(Lab, Browser) on empty folders, for scripts: tests have fixtures."""
    with (
        tempfile.TemporaryDirectory() as root,
        tempfile.TemporaryDirectory() as work,
        running_lab(Path(root), Path(work)) as lab,
        running_browser() as browser,
    ):
        yield lab, browser


if __name__ == "__main__":
    os._exit(run_until_input_ends(sys.argv[1:]) & 0xFF)  # a thread waits for input
