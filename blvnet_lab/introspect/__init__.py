"""Look inside a model: capture and edit its maps, read its taps, ask what its answers rest on.

Other tools (captum, pytorch-grad-cam, ...) work on these models, too: docs/with_other_tools.md.
"""

from blvnet_lab.introspect.attribution import (
    Attribution,
    evidence,
    grad_cam,
    integrated_gradients,
    mean_frame,
    pointing_game,
    random_weights,
    with_controls,
)
from blvnet_lab.introspect.capture import (
    capture,
    edit,
    edit_clip,
    replace_with,
    shuffle_positions,
    zero,
)
from blvnet_lab.introspect.influence import (
    ablation_table,
    ablations,
    deletion_table,
    derived_receptive_field,
    gradient_importance,
    hold_frames,
    occlusion_importance,
    predict,
    receptive_field,
    wake_residuals,
)
from blvnet_lab.introspect.taps import (
    centred_taps,
    channel_roles,
    compare_taps,
    edit_taps,
    effective_pair_taps,
    identity_taps,
    tam_roles,
    tam_weights,
    tap_history,
    taps_table,
)
from blvnet_lab.models.cost import layer_table
from blvnet_lab.models.tam import tsm_taps
