"""The checks of the notebooks' exercises, each under its name.

`check_shift(shift)` says whether the learner's `shift` is right and, if not, which property it
breaks. The exercises of notebook NN are in `nbNN.py`, one right answer to each in `solutions.py`.
"""

from importlib import import_module

from blvnet_lab.course.checking import Check

for number in range(1, 10):
    found = vars(import_module(f"blvnet_lab.course.nb{number:02}"))
    globals().update({name: it for name, it in found.items() if isinstance(it, Check)})
