"""What the tests start ends with them, however they end."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from lab import LIMIT_S, ROOT, owned

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="ends processes by signals")

SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(10_000)"
LEAVES_ONE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPS!r}])"
OWNER = """\
import signal, subprocess, sys
from lab import owned

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
with owned([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True) as process:
    print(process.stdout.readline(), end="", flush=True)
    sys.stdin.read()  # until the tests end
"""
LAB_OWNER = """\
import sys
from lab import lab_and_browser, open_page

with lab_and_browser() as (lab, browser), open_page(browser, lab) as page:
    page.goto(lab.url)
    lab.request("api/kernels", method="POST")
    print("ready", flush=True)
    sys.stdin.read()
"""


def wait_until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while (alive := [p for p in processes if lives(p)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in alive:
        process.kill()
    assert alive == []


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(script: str, *words: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-c", script, *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT / "tests", start_new_session=True, **pipes)
    return process, process.stdout.readline()


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_what_is_owned_ends_with_its_owner(end):
    owner, line = start(OWNER, SLEEPS)
    below = [psutil.Process(int(line)), *psutil.Process(owner.pid).children(recursive=True)]
    assert len(below) >= 2
    owner.send_signal(getattr(signal, end))
    wait_until_gone(below)
    owner.communicate()


@pytest.mark.parametrize("script", [SLEEPS, LEAVES_ONE], ids=["itself", "what it leaves"])
def test_what_is_owned_ends_with_the_block(script):
    command = [sys.executable, "-c", script]
    with owned(command, stdout=subprocess.PIPE, text=True) as process:
        sleeping = psutil.Process(int(process.stdout.readline()))
    assert process.poll() is not None
    wait_until_gone([sleeping])  # it is killed, but that takes a moment
    process.stdout.close()


@pytest.mark.browser
def test_no_server_kernel_or_browser_outlives_its_owner():
    owner, line = start(LAB_OWNER)
    assert line == "ready\n"
    below = psutil.Process(owner.pid).children(recursive=True)
    commands = " ".join(word for process in below for word in process.cmdline())
    for part in ("jupyterlab", "ipykernel_launcher", "--headless"):
        assert part in commands
    owner.kill()
    wait_until_gone(below)
    owner.communicate()
