"""A JupyterLab of its own for the browser tests: on loopback, with nobody's settings."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WAIT_MS = 120_000  # for every wait in a page: slow shared machines
CHROMIUM_ARGS = [
    "--no-sandbox",  # needed as root and in most containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def end_kernels(self) -> None:
        """Give their memory back: an idle kernel with torch keeps hundreds of megabytes."""
        for session in self.request("api/sessions"):
            self.request(f"api/sessions/{session['id']}", method="DELETE")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running_lab(root: Path, work: Path, timeout_s: float = 90) -> Iterator[Lab]:
    """JupyterLab serving ``root``; everything else it writes goes under ``work``.

    Its kernels use this checkout, installed or not, at the shipped scale. Raises RuntimeError with
    the server's log if it ends early, TimeoutError if it does not answer in ``timeout_s``.
    """
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
    ]  # fmt: skip
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=work)
    try:
        lab = Lab(f"http://127.0.0.1:{port}/", token, root)
        deadline = time.monotonic() + timeout_s
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
    finally:
        server.terminate()  # SIGTERM: it ends its kernels too
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def running_browser() -> Iterator:
    """Chromium, as playwright's Browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(browser, lab: Lab) -> Iterator:
    """A page whose ``problems`` are what its console complained of; its kernels end with it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.problems = []
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    yield page
    context.close()
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
