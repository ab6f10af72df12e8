"""The checks of the notebooks' exercises, each under its name.

`check_shift(shift)` says whether the learner's `shift` is right and, if not, which property it
breaks. The exercises of notebook NN are in `nbNN.py`, one right answer to each in `solutions.py`.
"""

# ruff: noqa: F401 (imported to be found here)
from blvnet_lab.course.nb01 import (
    check_crop_clip,
    check_flip_clip,
    check_frames_to_decode,
    check_sample_evenly,
)
from blvnet_lab.course.nb02 import check_shift, check_tam, check_tams_needed, check_tsm_taps
from blvnet_lab.course.nb03 import (
    check_bottleneck_macs,
    check_conv_macs,
    check_merge,
    check_stage_forward,
)
from blvnet_lab.course.nb04 import check_pair_tam, check_pair_taps, check_route, check_to_both
from blvnet_lab.course.nb05 import (
    check_partner_accuracy,
    check_rate_at,
    check_top_k,
    check_train_epoch,
)
from blvnet_lab.course.nb06 import (
    check_average_views,
    check_fitting_weights,
    check_kinetics_rows,
    check_split_videos,
)
from blvnet_lab.course.nb07 import check_accuracy_of_all, check_average_gradients, check_share
from blvnet_lab.course.nb08 import (
    check_capture_by_hand,
    check_edited,
    check_like_without_learning,
    check_logit_parts,
    check_other_of_class,
    check_standardised,
)
from blvnet_lab.course.nb09 import (
    check_frames_seen,
    check_occlusion_by_hand,
    check_step_elsewhere,
    check_temporal_centre,
)
