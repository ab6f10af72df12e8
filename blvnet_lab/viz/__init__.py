"""Pictures and widgets. Pictures take plain tensors and results; the explorers run models.

A module is imported when the first of its names is asked for: matplotlib, plotly and ipywidgets
take seconds.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "answers": "embedding_hover timeline_figure",
    "architecture": "architecture_figure",
    "explorers.branch": "BranchExplorer",
    "explorers.clip": "ClipExplorer",
    "explorers.live": "LiveView",
    "explorers.tam": "TamExplorer",
    "figures": "ablation_figure class_bars confusion_figure contact_sheet cost_figure "
    "deletion_figure importance_figure probe_figure staircase_figure training_figure",
    "images": "mosaic picture",
    "inside": "feature_maps receptive_field_figure",
    "interactive": "cost_hover learning_curves show tap_history_hover taps_hover",
    "taps": "pair_taps_figure tap_history_figure taps_figure",
    "theme": "BRANCH_COLOURS GREY ROLE_COLOURS coloured set_theme",
    "widgets": "FrameStepper LiveCurves",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
