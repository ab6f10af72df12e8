#!/usr/bin/env bash
# A Dropdown of ipywidgets with the options "no frame" (False), "frame 0" and "frame 1" cannot give
# the number 0. Whoever picks "frame 0" reads "frame 0" on the widget, and the program gets False:
# the value of the first option that is equal. In Python 0 == False and 1 == True.
#
# Why it matters: numbers of frames, classes and layers begin at 0, and False or True stand for
# "none" and "all". Coming from "no frame", "frame 0" is not even a change: no observer of `value`
# is called, and the picture under the words "frame 0" is the old one. In the other order False
# becomes 0. Lists with 0, 1 and 0.0, 1.0 are mixed up alike. This holds for all widgets that select
# one value.
# Seen with: ipywidgets 8.1.9.
# Source: `_Selection` in ipywidgets/widgets/widget_selection.py. The browser sends the index;
# `_propagate_index` sets `value` to that option's, and `_validate_value` exchanges it for the first
# one for which `equals`, by default ==, holds.
# Remedy: None, or a negative number, for "none". With a stricter `equals` the value is right, but
# observers are still not called, since traitlets compares by == as well.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet ipywidgets==8.1.9 ipython==9.18.1

venv/bin/python - <<'PY'
import ipywidgets

OPTIONS = [("no frame", False), ("frame 0", 0), ("frame 1", 1)]


def picked(label, **options):
    """What the widget shows, its value, and the values that observers saw."""
    seen = []
    widget = ipywidgets.Dropdown(options=OPTIONS, **options)  # shows "no frame"
    widget.observe(lambda change: seen.append(change.new), "value")
    widget.set_state({"index": [name for name, _ in OPTIONS].index(label)})  # as a browser does
    return widget.label, widget.value, seen


print("ipywidgets", ipywidgets.__version__)
strict = {"equals": lambda x, y: type(x) is type(y) and x == y}
for label, value in OPTIONS[1:]:
    print(f"expected: {label!r} is {value!r}, and observers are called with it")
    print("seen:", *map(repr, picked(label)))
    print("seen, by type:", *map(repr, picked(label, **strict)))

label, value, seen = picked("frame 0")
assert (label, seen) == ("frame 0", []) and value is False, "0 is 0 now"
assert repr(picked("frame 1")) == "('frame 1', 1, [1])"
assert picked("frame 0", **strict)[1] is not False and not picked("frame 0", **strict)[2]
PY
