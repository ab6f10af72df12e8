"""Pictures and widgets. Pictures take plain tensors and results; the explorers run models."""

from blvnet_lab.viz.architecture import architecture_figure
from blvnet_lab.viz.explorers.branch import BranchExplorer
from blvnet_lab.viz.explorers.clip import ClipExplorer
from blvnet_lab.viz.explorers.evidence import EvidenceExplorer
from blvnet_lab.viz.explorers.live import LiveView
from blvnet_lab.viz.explorers.recorder import ClipRecorder
from blvnet_lab.viz.explorers.results import (
    EmbeddingExplorer,
    FrameStepper,
    LiveCurves,
    TimelineExplorer,
)
from blvnet_lab.viz.explorers.tam import TamExplorer
from blvnet_lab.viz.figures import (
    ablation_figure,
    class_bars,
    confusion_figure,
    contact_sheet,
    cost_figure,
    deletion_figure,
    importance_figure,
    probe_figure,
    staircase_figure,
    timeline_figure,
    training_figure,
)
from blvnet_lab.viz.images import mosaic, picture
from blvnet_lab.viz.inside import (
    attribution_figure,
    pair_taps_figure,
    receptive_field_figure,
    tap_history_figure,
    taps_figure,
)
from blvnet_lab.viz.interactive import (
    cost_hover,
    embedding_hover,
    learning_curves,
    show,
    tap_history_hover,
    taps_hover,
)
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREY, ROLE_COLOURS, coloured, set_theme
