"""Look inside a model: capture and edit its maps, read its taps, ask what it rests on."""

from blvnet_lab.introspect.ablate import ablation_table, ablations
from blvnet_lab.introspect.capture import (
    capture,
    edit,
    edit_clip,
    replace_with,
    shuffle_positions,
    zero,
)
from blvnet_lab.introspect.influence import (
    deletion_table,
    derived_receptive_field,
    gradient_importance,
    hold_frames,
    occlusion_importance,
    predict,
    receptive_field,
    wake_residuals,
)
from blvnet_lab.introspect.structure import layer_table
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
    tsm_taps,
)

__all__ = [
    "ablation_table",
    "ablations",
    "capture",
    "centred_taps",
    "channel_roles",
    "compare_taps",
    "deletion_table",
    "derived_receptive_field",
    "edit",
    "edit_clip",
    "edit_taps",
    "effective_pair_taps",
    "gradient_importance",
    "hold_frames",
    "identity_taps",
    "layer_table",
    "occlusion_importance",
    "predict",
    "receptive_field",
    "replace_with",
    "shuffle_positions",
    "tam_roles",
    "tam_weights",
    "tap_history",
    "taps_table",
    "tsm_taps",
    "wake_residuals",
    "zero",
]
