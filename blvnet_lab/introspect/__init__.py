"""Look inside a model: capture and edit its maps, read its taps, ask what it rests on.

Other tools work on these models too, if they know three things:

    - Between the layers, clips and their positions share the first axis; pytorch-grad-cam and
      captum's layer methods want the clips alone there. For a target layer such as `model.stage4`
      give them (grad-cam calls it `reshape_transform`)

          lambda maps: maps.unflatten(0, (-1, model.num_positions)).transpose(1, 2)

    - FLOP counters, those of PyTorch, Lightning and fvcore, do not see the TAMs' sums, 0.3 % of the
      whole. `blvnet_lab.models.count_cost` does.
    - Layer-wise relevance propagation by rules for classes needs one for `TAM` and `PairTAM`: that
      of a depthwise convolution without bias, followed by ReLU.
"""

from blvnet_lab.introspect.ablate import ablation_table, ablations
from blvnet_lab.introspect.attribution import (
    Attribution,
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
from blvnet_lab.introspect.evidence import evidence
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

__all__ = [
    "Attribution",
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
    "evidence",
    "grad_cam",
    "gradient_importance",
    "hold_frames",
    "identity_taps",
    "integrated_gradients",
    "layer_table",
    "mean_frame",
    "occlusion_importance",
    "pointing_game",
    "predict",
    "random_weights",
    "receptive_field",
    "replace_with",
    "shuffle_positions",
    "tam_roles",
    "tam_weights",
    "tap_history",
    "taps_table",
    "tsm_taps",
    "wake_residuals",
    "with_controls",
    "zero",
]
