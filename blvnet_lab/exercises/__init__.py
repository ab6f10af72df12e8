"""The checks of the notebooks' exercises.

`check_shift(shift)` says whether the learner's `shift` is right and, if not, which property it
breaks. The exercises of notebook NN are in `nbNN.py`, one right answer to each in `solutions.py`.
"""

from blvnet_lab.exercises.nb02 import check_shift, check_tam, check_tams_needed, check_tsm_taps
from blvnet_lab.exercises.nb03 import (
    check_bottleneck_macs,
    check_conv_macs,
    check_merge,
    check_stage_forward,
)
from blvnet_lab.exercises.nb04 import check_pair_tam, check_pair_taps, check_route, check_to_both

__all__ = [
    "check_bottleneck_macs",
    "check_conv_macs",
    "check_merge",
    "check_pair_tam",
    "check_pair_taps",
    "check_route",
    "check_shift",
    "check_stage_forward",
    "check_tam",
    "check_tams_needed",
    "check_to_both",
    "check_tsm_taps",
]
