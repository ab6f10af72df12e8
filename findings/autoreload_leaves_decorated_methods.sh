#!/usr/bin/env bash
# After a change of its file, IPython's `%autoreload 2` renews functions, decorated ones as well,
# and the plain methods of a class, but not its decorated methods (`@torch.no_grad()`, any wrapper
# of Python): they run the old code in old objects, in new ones, and in those made by the module.
#
# Why it matters: whoever edits `@torch.no_grad() def predict(self)` beside a notebook gets the old
# numbers without a warning, while the helper that was changed in the same edit is up to date.
# Making the object again, which helps with other leftovers of autoreload, does not help.
# Seen with: IPython 9.18.1. `%autoreload 3` renews the method in the module and in old objects.
# Source: `_patch_namespace_inner` in IPython/extensions/deduperreload/deduperreload.py wraps the
# new method in a class and looks for decorators on that class, so it never makes the version
# without them by which a decorated function is renewed.
# Remedy: importlib.reload(steps), and import names and make objects again; or restart the kernel.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet ipython==9.18.1

venv/bin/python - <<'PY'
import importlib
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
    def plain(self):
        return VERSION

    @logged
    def decorated(self):
        return VERSION
'''


def write(version, changed):
    Path("steps.py").write_text(STEPS.replace("VERSION", repr(version)))
    os.utime("steps.py", (changed, changed))


write("old", 1_700_000_000)
sys.path.insert(0, ".")
shell = InteractiveShell.instance(ipython_dir="profile")
shell.run_cell("%load_ext autoreload\n%autoreload 2")
shell.run_cell("import steps; from steps import *; earlier = Network()")
shell.run_cell("numbers = decorated(), earlier.decorated()")  # a notebook goes on for a while
write("new", 1_700_000_100)
shell.run_cell("later = Network()")

names = shell.user_ns
module, earlier, later = (names[name] for name in ("steps", "earlier", "later"))
renewed = {
    "function": names["plain"](),
    "decorated function": names["decorated"](),
    "method of the earlier object": earlier.plain(),
    "method of a new object": later.plain(),
}
methods = {
    "decorated method of the earlier object": earlier.decorated(),
    "decorated method of a new object": later.decorated(),
    "decorated method by way of the module": module.Network().decorated(),
}
print("IPython", IPython.__version__)
print("expected: 'new' everywhere")
print("seen:", renewed | methods)
again = importlib.reload(module).Network().decorated()
print("seen: after importlib.reload:", again)

assert names["numbers"] == ("old", "old") and again == "new"
assert set(renewed.values()) == {"new"}
assert set(methods.values()) == {"old"}, "decorated methods are renewed now"
PY
