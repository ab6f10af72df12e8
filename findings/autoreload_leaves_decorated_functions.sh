#!/usr/bin/env bash
# After a change of its file, IPython's `%autoreload 2` runs the new code of a function imported by
# `from steps import ...`, but the old code of one that is decorated (`@torch.no_grad()`,
# `@contextmanager`, any wrapper of Python), while `inspect.getsource` and `??` show the new one.
# Of a class so imported new objects have the old decorated methods, and those that were there
# before the change have the new ones.
#
# Why it matters: whoever edits a network or a hook beside a notebook reads the new code, gets the
# old numbers, and no word of warning; undecorated functions of the same file are up to date.
# Seen with: IPython 9.18.1, Python 3.11, with `%autoreload 2` and `3` alike.
# Source: `update_function` in IPython/extensions/autoreload.py gives the old function the new
# one's `__code__`, `__dict__` (so `__wrapped__`, by which the source is found), and passes over
# what cannot be set. `__closure__` is read-only, and there a wrapper keeps the function it calls.
# Remedy: `import steps` and call `steps.predict()`; or restart the kernel.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet ipython==9.18.1

cat > session.py <<'PY'
import inspect
import os
import sys
from pathlib import Path

import IPython
from IPython.core.interactiveshell import InteractiveShell

STEPS = '''
from functools import wraps

def logged(function):
    @wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

def plain():
    return VERSION

@logged
def decorated():
    return VERSION

class Network:
    @logged
    def forward(self):
        return VERSION
'''


def write(version, changed):
    Path("steps.py").write_text(STEPS.replace("VERSION", repr(version)))
    os.utime("steps.py", (changed, changed))


write("old", 1_700_000_000)
sys.path.insert(0, ".")
shell = InteractiveShell.instance(ipython_dir="profile")
shell.run_cell(f"%load_ext autoreload\n%autoreload {sys.argv[1]}")
shell.run_cell("import steps; from steps import *; earlier = Network()")
write("new", 1_700_000_100)
shell.run_cell("pass")

names = shell.user_ns
found = {
    "plain": names["plain"](),
    "decorated": names["decorated"](),
    "steps.decorated": names["steps"].decorated(),
    "method of an earlier object": names["earlier"].forward(),
    "method of a new object": names["Network"]().forward(),
}
source = inspect.getsource(names["decorated"]).split()[-1]
print(f"IPython {IPython.__version__}, %autoreload {sys.argv[1]}")
print("expected: 'new' everywhere")
print("seen:", found, "source of decorated:", source)
assert found["plain"] == found["steps.decorated"] == found["method of an earlier object"] == "new"
assert source == "'new'"
assert found["decorated"] == found["method of a new object"] == "old", "wrappers are updated now"
PY
venv/bin/python session.py 2
venv/bin/python session.py 3
