#!/usr/bin/env bash
# `InteractiveShell.instance()`, which runs notebook cells within a program (a test, a script),
# puts a module of its own in the place of `sys.modules["__main__"]`, and leaves it there when the
# shell is cleared. After `shell.reset()` that module lacks `__spec__`, and the program cannot start
# a process by "spawn" any more: "module '__main__' has no attribute '__spec__'".
#
# Why it matters: cells run without a kernel start in no time, but data loaders and process pools of
# the same program fail afterwards, far from the cause, on macOS and Windows by default.
# Seen with: IPython 9.18.1, Python 3.11.
# Source: `init_sys_modules` and `reset` in IPython/core/interactiveshell.py: the user module is
# registered by its name, "__main__", and its namespace is emptied but for a few names;
# `get_preparation_data` in multiprocessing/spawn.py asks that module for its `__spec__`.
# Remedy: keep `sys.modules["__main__"]`, and put it back when the shell is done.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet ipython==9.18.1

cat > program.py <<'PY'
import multiprocessing
import sys

import IPython
from IPython.core.interactiveshell import InteractiveShell


def started():
    process = multiprocessing.get_context("spawn").Process(target=print, args=("a process",))
    try:
        process.start()
    except AttributeError as error:
        return str(error)
    process.join()
    return "started"


if __name__ == "__main__":
    print("IPython", IPython.__version__, "Python", sys.version.split()[0])
    main, before = sys.modules["__main__"], started()
    shell = InteractiveShell.instance(ipython_dir="profile")
    shell.run_cell("1 + 1")
    shell.reset()  # the names that the cells have defined
    InteractiveShell.clear_instance()
    is_same, after = sys.modules["__main__"] is main, started()
    sys.modules["__main__"] = main
    print("expected: what a shell has run changes nothing for the program around it")
    print(f"seen: before: {before}; after: {after}; with its own main again: {started()}")
    assert before == "started" and not is_same, "the program's main module stays now"
    assert "__spec__" in after, "processes can be started now"
PY
venv/bin/python program.py
