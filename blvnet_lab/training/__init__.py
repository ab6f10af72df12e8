"""Training and evaluation, from a recipe to a log and a checkpoint.

    from blvnet_lab.training import Output, Recipe, build, fit

A module is imported when the first of its names is asked for: recipes do without PyTorch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "recipe": "Output Recipe",
    "presets": "preset",
    "engine": "build fit",
    "evaluation": "evaluate",
    "checkpoint": "load_trained save_trained",
}


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
