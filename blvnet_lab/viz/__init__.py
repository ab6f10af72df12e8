"""Pictures and widgets: they take plain tensors and results."""

from blvnet_lab.viz.figures import (
    BRANCH_COLOURS,
    GREY,
    class_bars,
    confusion_figure,
    contact_sheet,
    staircase_figure,
)
from blvnet_lab.viz.interactive import learning_curves
from blvnet_lab.viz.show import show
from blvnet_lab.viz.widgets import FrameStepper

__all__ = [
    "BRANCH_COLOURS",
    "GREY",
    "FrameStepper",
    "class_bars",
    "confusion_figure",
    "contact_sheet",
    "learning_curves",
    "show",
    "staircase_figure",
]
