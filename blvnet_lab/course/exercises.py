"""The checks of the notebooks' exercises, each under its name.

`check_shift(shift)` says whether the learner's `shift` is right and, if not, which property it
breaks. The exercises of notebook NN are in `nbNN.py`, one right answer to each in `solutions.py`.
"""

from blvnet_lab.course import nb01, nb02, nb03, nb04, nb05, nb06, nb07, nb08, nb09

for _notebook in (nb01, nb02, nb03, nb04, nb05, nb06, nb07, nb08, nb09):
    globals().update({k: v for k, v in vars(_notebook).items() if k.startswith("check_")})
