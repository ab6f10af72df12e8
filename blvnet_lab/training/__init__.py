"""Training and evaluation, from a recipe to a log and a checkpoint.

    from blvnet_lab.training import Output, Recipe, build, fit

A module is imported when the first of its names is asked for: recipes do without PyTorch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "recipe": "Augmentation Hardware Network Output Recipe Views recipe_from_json recipe_to_json",
    "presets": "PRESETS preset published",
    "engine": "Fitted build fit train_one_epoch",
    "evaluation": "Predictions evaluate predictions_table standard_scores",
    "metrics": "confusion_matrix partner_accuracy per_class_scores ranked top_k_accuracy",
    "checkpoint": "Trained load_trained read_checkpoint save_trained",
    "distributed": "Ranks pick_device process_group",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *_NAMES]
