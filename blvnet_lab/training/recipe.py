"""The settings of a training run, as frozen records; fast to import, for the command line.

    Recipe()                     the classroom's: the motion samples on a laptop
    preset("kinetics-subset")    some classes of Kinetics on one GPU
    preset("ssv2-50-f8x2")       a row of the paper
    Output("runs/first")         where a run writes

A run saves its recipe (`recipe.json`).
"""

import difflib
import functools
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

Architecture = Literal["tsn", "tsm", "tam_resnet", "tsn_blnet", "blvnet", "blvnet_tam"]
WeightKind = Literal["norm", "bias", "taps"]

LIMITS = [  # words for the message, the condition, and the fields it applies to
    (
        "to be positive",
        lambda value: value > 0,
        "epochs batch_size learning_rate rate_batch step_epochs num_frames size clip_norm stride "
        "read_short_side num_clips accumulate keep_every",
    ),
    (
        "to be at least 0",
        lambda value: value >= 0,
        "momentum weight_decay body_rate warmup_epochs jitter rand_augment erase mixup cutmix "
        "workers save_minutes",
    ),
    ("from 0 to below 1", lambda value: 0 <= value < 1, "label_smoothing ema"),
]


class _Record:
    """A record that checks types and limits of its fields, and converts JSON values."""

    def __post_init__(self) -> None:
        for name, hint in _type_hints(type(self)).items():
            value = _value(hint, getattr(self, name), name)
            object.__setattr__(self, name, value)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            for words, is_right, names in LIMITS:
                if name in names.split() and not all(map(is_right, numbers)):
                    raise ValueError(f"expected {name} {words}, got {value}")


@dataclass(frozen=True)
class Network(_Record):
    """Which network to build."""

    architecture: Architecture = "blvnet_tam"  # The paper's four, and two more ResNets.
    # Number of layers of the underlying ResNet; "tiny" has width 8, for CPUs; 18 and 34 exist only
    # for tsn, tsm and tam_resnet.
    depth: Literal["tiny", 18, 34, 50, 101, 152] = "tiny"
    alpha: int = 2  # The little branch has 1/alpha of the channels.
    beta: int = 4  # The little branch has about 1/beta of the blocks.
    num_taps: int = 3  # r, odd: the number of frames that a temporal aggregation module sums over.
    # Initial taps: the identity, random (as published), or TSM's shift; None takes what learns
    # fastest, the shift in tam_resnet and the identity in blvnet_tam.
    tap_init: Literal["identity", "kaiming", "shift"] | None = None
    causal: bool = False  # Look only back in time, so that live video can be followed.
    dropout: float = 0.0  # Probability of dropping a feature before the classifier.


@dataclass(frozen=True)
class Augmentation(_Record):
    """How training clips are changed at random, all frames of a clip alike."""

    # A random 60 to 100 % of the area, or the published corner crops at four scales.
    crop: Literal["resized", "multi-scale"] = "resized"
    # Largest relative change of brightness, contrast and saturation; 0 for none.
    jitter: float = 0.3
    rand_augment: int = 0  # Operations of RandAugment (Cubuk et al., 2019) per clip; 0 for none.
    erase: float = 0.0  # Probability of blanking out a rectangle (Zhong et al., 2017).
    mirror: bool = False  # Mirror half of the clips, and their labels as the class list says.
    mixup: float = 0.0  # Mix two clips and their labels; alpha of the Beta distribution.
    cutmix: float = 0.0  # Paste a rectangle of one clip into another; with mixup, one of the two.


@dataclass(frozen=True)
class Views(_Record):
    """How a video is evaluated: num_clips x crops views of it, whose logits are averaged."""

    # Height and width of a view in pixels; None for that of the training clips.
    size: tuple[int, int] | None = None
    # Short side in pixels, to which frames are scaled before the crop; None just fills the view.
    short_side: int | None = None
    num_clips: int = 1  # Clips per video, spread evenly in time.
    # Crops per clip: centre; three along the long side; centre and corners; these and mirrored.
    crops: Literal[1, 3, 5, 10] = 1


@dataclass(frozen=True)
class Hardware(_Record):
    """How the work is done: affects results only by rounding, and by what batch norms see."""

    # Precision of activations; weights stay in float32. With float16 the loss is scaled, so that
    # gradients do not underflow.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True  # Keep a pixel's channels together: convolutions run faster.
    # Compile the network with torch.compile: takes minutes at first, then is faster on a GPU; tiny
    # networks on a CPU do not train faster.
    compile: bool = False
    # Recompute stem and stage 1 in the backward pass: 0.4 of the memory, 1.2 times the time.
    checkpointing: bool = False
    # Split each batch into this many parts and add up their gradients: less memory, more time.
    # Batch norms then see one part at a time.
    accumulate: int = 1
    # Compute batch statistics over all processes (GPUs only), for few clips on each.
    sync_batch_norm: bool = False
    workers: int = 0  # Processes that read clips, per training process; 0 reads in that process.
    # Decode every video once and keep its frames, in up to a quarter of the free memory.
    in_memory: bool = False


@dataclass(frozen=True)
class Recipe(_Record):
    """How to train; the defaults are the classroom recipe for the motion samples."""

    epochs: int = 12  # Passes over the training clips.
    batch_size: int = 16  # Clips per step, all processes together.
    # Peak learning rate for a batch of rate_batch clips; it scales with the batch size.
    learning_rate: float = 0.03
    rate_batch: int = 16  # Batch size that the learning rate refers to.
    # Up and down again; down along a cosine; or divided by ten after every step_epochs.
    schedule: Literal["one-cycle", "cosine", "steps"] = "one-cycle"
    step_epochs: int = 10  # Epochs between the steps of the schedule "steps".
    # Epochs of warm-up from a tenth, not in one-cycle; None: 5 above 4 rate_batch clips, else 0.
    warmup_epochs: float | None = None
    momentum: float = 0.9  # Nesterov momentum of SGD.
    weight_decay: float = 5e-4  # L2 penalty on weights.
    no_decay: tuple[WeightKind, ...] = ()  # Kinds of weights without the penalty.
    # Learning rate of all but the classifier, relative to it; below 1 to fine-tune, 0 freezes.
    body_rate: float = 1.0
    # What not to train: "body" is everything but the classifier, both its weights and its batch
    # norm statistics, whatever body_rate is.
    freeze: Literal["nothing", "body"] = "nothing"
    # Train with batch norm's running statistics, and keep them, to fine-tune on few clips.
    keep_statistics: bool = False
    label_smoothing: float = 0.0  # Share of the target spread over all classes.
    clip_norm: float | None = None  # Largest norm of the gradient of all weights; None: any.
    # Also evaluate an exponential moving average of the weights, and keep that; the decay per step,
    # which rises from 0.2 to this value in the first 9 / (1 - ema) steps. 0 for no average.
    ema: float = 0.0
    num_frames: int = 8  # T, frames per clip.
    size: tuple[int, int] = (64, 64)  # Height and width of clips in pixels.
    stride: int | None = None  # From frame to frame; None spreads frames over the whole video.
    balanced: bool = False  # Draw every class equally often, however many clips it has.
    # Short side in pixels, to which larger frames are scaled when read; None: what crops need.
    read_short_side: int | None = None
    seed: int = 0  # For initial weights, the order of clips, their frames and augmentation.
    network: Network = field(default_factory=Network)
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluation: Views = field(default_factory=Views)
    hardware: Hardware = field(default_factory=Hardware)
    # Weights that the published run started from; reported if a run starts from others.
    starts_from: str = ""

    @property
    def body_share(self) -> float:
        """The relative learning rate of all but the classifier; 0 if that is frozen."""
        return 0.0 if self.freeze == "body" else self.body_rate

    @property
    def peak_rate(self) -> float:
        """The learning rate for this batch (linear scaling; Goyal et al., 2017)."""
        return self.learning_rate * self.batch_size / self.rate_batch

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, which large batches need (the same paper, section 2.2)."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs
        return 5.0 if self.batch_size > 4 * self.rate_batch else 0.0


@dataclass(frozen=True)
class Output(_Record):
    """Where a training run writes, and how often."""

    # For recipe.json, log.jsonl, checkpoints and model.safetensors; new, empty, or of this run.
    folder: Path
    resume: bool = False  # Continue the run in the folder, if there is one.
    save_minutes: float = 10.0  # Minutes between checkpoints within an epoch; each ends with one.
    # Keep every n-th epoch's checkpoint; None keeps only the last and the best.
    keep_every: int | None = None
    tensorboard: bool = False  # Write events for TensorBoard too, in its subfolder "tensorboard".


@functools.cache
def _type_hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any, name: str) -> Any:
    """Convert a value to the type of its field: JSON has no tuples, and may write 1 for 1.0."""
    of, expected = get_args(hint), f"as {getattr(hint, '__name__', hint)}"
    if get_origin(hint) in (UnionType, Union):  # a type or a Literal, or None
        return None if value is None else _value(of[0], value, name)
    if get_origin(hint) is Literal:
        if (value, type(value)) in [(choice, type(choice)) for choice in of]:
            return value
        expected = f"among {', '.join(map(str, of))}"
    elif get_origin(hint) is tuple:
        expected = f"as {hint}"
        kinds = [of[0]] * len(value) if of[-1] is ... else of
        if isinstance(value, list | tuple) and len(value) == len(kinds):
            return tuple(_value(kind, one, name) for kind, one in zip(kinds, value, strict=True))
    elif is_dataclass(hint) and isinstance(value, Mapping):
        hints = _type_hints(hint)
        if unknown := [key for key in value if key not in hints]:
            key, expected = unknown[0], f"expected keys of {hint.__name__}"
            raise ValueError(f"{name}: {expected}, got {key!r}{near(key, hints)}")
        try:
            return hint(**value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    elif hint is Path or (hint is float and type(value) is int):
        return hint(value)
    elif type(value) is hint:
        return value
    raise ValueError(f"expected {name} {expected}, got {value!r}{near(str(value), map(str, of))}")


def near(name: str, names: Iterable[str]) -> str:
    """Return a question that suggests names similar to `name`; empty if there are none."""
    found = difflib.get_close_matches(name, list(names))
    return f" (did you mean {', '.join(found)}?)" if found else ""


def recipe_to_json(recipe: Recipe) -> str:
    """Return the recipe as the text of `recipe.json`."""
    return json.dumps(asdict(recipe), indent=1) + "\n"


def recipe_from_json(text: str, origin: str = "the recipe") -> Recipe:
    """Parse the text of `recipe.json`; missing values are the classroom's.

    Raises ValueError, naming the `origin`, if a key is unknown or a value has another type.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{origin}: expected a recipe in JSON, got {error}") from error
    return _value(Recipe, values, origin)


# --- Recipes by name ------------------------------------------------------------------------------

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
    f"{data_set}-{depth}-f{pairs}x2": functools.partial(_published, data_set, depth, pairs)
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
