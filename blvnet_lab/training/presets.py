"""Recipes by name; fast to import, for the command line.

preset("classroom")          the motion samples on a laptop
preset("kinetics-subset")    some classes of Kinetics on one GPU
preset("ssv2-50-f8x2")       a row of the paper
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from blvnet_lab.training.recipe import (
    Augmentation,
    Hardware,
    Network,
    Recipe,
    Views,
    near,
    recipe_from_json,
)

# Numbers of pairs P (8 in the paper's f8x2) for which accuracy was published, by depth.
PUBLISHED: dict[tuple[str, int], tuple[int, ...]] = {
    ("ssv1", 50): (8, 16),
    ("ssv1", 101): (8, 16, 24, 32),
    ("ssv2", 50): (8, 16),
    ("ssv2", 101): (8, 16, 24, 32),
    ("kinetics400", 50): (8, 16, 24),
    ("moments", 50): (8, 16),
}


def _published(data_set: str, depth: int, pairs: int) -> Recipe:
    """Return the recipe of a row of the paper (section 4; published code).

    Of each depth, the model with the shortest clips starts from a bLResNet trained on ImageNet,
    each other one from the next shorter (the rates for these are second-hand; for Moments in Time
    they are unknown, and Kinetics' are used).
    """
    something, shortest = data_set.startswith("ss"), pairs == 8
    views = Views(size=(256, 256), short_side=256, num_clips=3, crops=3)
    start = f"bLResNet-{depth} trained on ImageNet"
    return Recipe(
        epochs=50 if shortest else 25,
        batch_size=64,
        learning_rate=0.01 if something or shortest else 0.005,
        rate_batch=64,
        schedule="cosine" if shortest else "steps",
        num_frames=2 * pairs,
        size=(224, 224),
        read_short_side=None if something else 256,
        network=Network(depth=depth, tap_init="kaiming", dropout=0.5),
        # Mirrored clips of Something-Something may show another class, as the class list says.
        augmentation=Augmentation(crop="multi-scale", jitter=0.0, mirror=True),
        evaluation=Views() if something else views,
        hardware=Hardware(workers=8),
        starts_from=start if shortest else f"{data_set}-{depth}-f{pairs - 8}x2",
    )


def classroom() -> Recipe:
    """Return the recipe for the motion samples on a laptop."""
    return Recipe(hardware=Hardware(in_memory=True))


def kinetics_subset() -> Recipe:
    """Return the recipe for some classes of Kinetics-400 on one GPU, from ImageNet weights."""
    recipe = _published("kinetics400", 50, 8)
    return replace(
        recipe,
        epochs=30,
        batch_size=32,
        label_smoothing=0.1,
        network=replace(recipe.network, tap_init="identity"),
        hardware=Hardware(precision="bfloat16", workers=8),
        starts_from="a network trained on ImageNet",
    )


PRESETS = {"classroom": classroom, "kinetics-subset": kinetics_subset}
PRESETS |= {
    f"{data_set}-{depth}-f{pairs}x2": partial(_published, data_set, depth, pairs)
    for (data_set, depth), rows in PUBLISHED.items()
    for pairs in rows
}


def preset(name: str) -> Recipe:
    """Return the recipe of that name, or of the file `recipe.json` of an earlier run."""
    if name in PRESETS:
        return PRESETS[name]()
    if Path(name).is_file():
        return recipe_from_json(Path(name).read_text("utf-8"), name)
    raise ValueError(
        f"expected the name of a preset or a file with a recipe, got {name}{near(name, PRESETS)}; "
        f"the presets are {', '.join(PRESETS)}"
    )
