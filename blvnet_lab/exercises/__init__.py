"""The checks of the notebooks' exercises.

`check_shift(shift)` says whether the learner's `shift` is right and, if not, which property it
breaks. The exercises of notebook NN are in `nbNN.py`, one right answer to each in `solutions.py`.
"""

from blvnet_lab.exercises.nb02 import check_shift, check_tam, check_tams_needed, check_tsm_taps

__all__ = [
    "check_shift",
    "check_tam",
    "check_tams_needed",
    "check_tsm_taps",
]
