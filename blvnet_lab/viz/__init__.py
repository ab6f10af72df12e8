"""Pictures and widgets: they take plain tensors and results."""

from blvnet_lab.viz.figures import (
    class_bars,
    confusion_figure,
    contact_sheet,
    staircase_figure,
)
from blvnet_lab.viz.interactive import learning_curves
from blvnet_lab.viz.show import show
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREY, ROLE_COLOURS, set_theme
from blvnet_lab.viz.widgets import FrameStepper

__all__ = [
    "BRANCH_COLOURS",
    "GREY",
    "ROLE_COLOURS",
    "FrameStepper",
    "class_bars",
    "confusion_figure",
    "contact_sheet",
    "learning_curves",
    "set_theme",
    "show",
    "staircase_figure",
]
