"""Training and evaluation, from a recipe to a log and a checkpoint.

    from blvnet_lab.training import Output, Recipe, build, fit

Modules are imported when one of their names is first used, since recipes do not need PyTorch.
"""

from importlib import import_module
from typing import Any

_MODULES = {"Output": "recipe", "Recipe": "recipe", "preset": "recipe", "build": "engine"}
_MODULES |= {"fit": "engine", "evaluate": "evaluation"}
_MODULES |= {"load_trained": "checkpoint", "save_trained": "checkpoint"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
