"""What a training run is made of, in frozen records; light to import, for the command line.

    Recipe()                     the classroom's: the motion samples on a laptop
    Output("runs/first")         where a run writes

`presets.py` has recipes by name. A run writes its recipe down (`recipe.json`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

Architecture = Literal["tsn", "tsn_blnet", "blvnet", "blvnet_tam"]
WeightKind = Literal["norm", "bias", "taps"]

# A batch this many times larger than the one of the learning rate needs a warm-up (Goyal et al.,
# "Accurate, Large Minibatch SGD", 2017, section 2.2, who take five epochs).
LARGE_BATCH, WARM_UP = 4, 5.0


@dataclass(frozen=True)
class Network:
    """Which network to build."""

    architecture: Architecture = "blvnet_tam"  # One of the four that the paper compares.
    # Number of layers of the ResNet behind it; "tiny" has width 8, for CPUs.
    depth: Literal["tiny", 50, 101, 152] = "tiny"
    alpha: int = 2  # The little branch has 1/alpha of the channels.
    beta: int = 4  # The little branch has about 1/beta of the blocks.
    num_taps: int = 3  # r, odd: over how many frames a temporal aggregation module sums.
    # How taps start: each frame keeps itself (learns sooner), or at random (as published).
    tap_init: Literal["identity", "kaiming"] = "identity"
    causal: bool = False  # Look back in time only, so that live video can be followed.
    dropout: float = 0.0  # Probability of dropping a feature before the classifier.

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Augmentation:
    """How training clips are changed at random, all frames of a clip alike."""

    # A part of 60 to 100 % of the area, or the published corner crops of four scales.
    crop: Literal["resized", "multi-scale"] = "resized"
    # How far brightness, contrast and saturation may change, as a share; 0 for not at all.
    jitter: float = 0.3
    rand_augment: int = 0  # Operations of RandAugment (Cubuk et al., 2019) a clip; 0 for none.
    erase: float = 0.0  # Probability of blanking out a rectangle (Zhong et al., 2017).
    mirror: bool = False  # Mirror half of the clips, and their labels as the class list says.
    mixup: float = 0.0  # Mix two clips and their labels; alpha of the Beta distribution.
    cutmix: float = 0.0  # Put a rectangle of one clip into another; with mixup, either.

    def __post_init__(self) -> None:
        _check(self, not_negative="jitter rand_augment erase mixup cutmix")


@dataclass(frozen=True)
class Views:
    """How a video is evaluated: num_clips x crops views of it, whose logits are averaged."""

    # Height and width of a view, in pixels; None for that of the training clips.
    size: tuple[int, int] | None = None
    # In pixels, to which frames are scaled before the crop; None just fills the view.
    short_side: int | None = None
    num_clips: int = 1  # Clips of each video, spread evenly in time.
    # Crops of each clip: centre; three along the long side; centre and corners; and mirrored.
    crops: Literal[1, 3, 5, 10] = 1

    def __post_init__(self) -> None:
        _check(self, positive="num_clips")


@dataclass(frozen=True)
class Hardware:
    """How the work is done: changes speed and memory, and results by no more than rounding."""

    # Of activations; weights stay in float32. float16 scales the loss, lest gradients underflow.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True  # Keep a pixel's channels together: convolutions run faster.
    compile: bool = False  # Compile the network with torch.compile: minutes at first, then faster.
    # Compute stem and stage 1 again in the backward pass: 0.4 of the memory, 1.2 of the time.
    checkpointing: bool = False
    # Parts that a batch is divided into, whose gradients are added: less memory, more time.
    accumulate: int = 1
    # Take batch statistics over all processes (GPUs only); for few clips on each.
    sync_batch_norm: bool = False
    workers: int = 0  # Processes that read clips, per training process; 0 reads in that process.
    # Decode every video once and keep its frames, as far as a quarter of the free memory goes.
    in_memory: bool = False

    def __post_init__(self) -> None:
        _check(self, positive="accumulate", not_negative="workers")


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the classroom recipe for the motion samples."""

    epochs: int = 12  # Passes over the training clips.
    batch_size: int = 16  # Clips in a step, of all processes together.
    # Peak of the schedule, for a batch of rate_batch clips; it scales with the batch.
    learning_rate: float = 0.03
    rate_batch: int = 16  # The batch for which the learning rate is meant.
    # Up and down again; down along a cosine; or a tenth after every step_epochs.
    schedule: Literal["one-cycle", "cosine", "steps"] = "one-cycle"
    step_epochs: int = 10  # Epochs between the steps of the schedule "steps".
    # Epochs of warm-up from a tenth of the rate; None: 5 for a batch above 4 rate_batch, else 0.
    warmup_epochs: float | None = None
    momentum: float = 0.9  # Nesterov momentum of SGD.
    weight_decay: float = 5e-4  # L2 penalty on weights.
    no_decay: tuple[WeightKind, ...] = ()  # Kinds of weights without the penalty.
    # Share of the learning rate for all but the classifier; below 1 to fine-tune, 0 freezes.
    body_rate: float = 1.0
    # Train with batch norm's running statistics, and keep them: to fine-tune on few clips.
    keep_statistics: bool = False
    label_smoothing: float = 0.0  # Share of the target spread over all classes.
    clip_norm: float | None = None  # Largest norm of the gradient of all weights; None: any.
    # Evaluate an exponential moving average of the weights too, and keep it; the decay a step,
    # which rises from 0.2 to this within the first 9 / (1 - ema) steps. 0 for none.
    ema: float = 0.0
    num_frames: int = 8  # T, frames of a clip.
    size: tuple[int, int] = (64, 64)  # Height and width of the clip, in pixels.
    stride: int | None = None  # From frame to frame; None spreads them over the whole video.
    balanced: bool = False  # Draw every class equally often, however many clips it has.
    # Short side, in pixels, to which larger frames are scaled when read; None: what crops need.
    read_short_side: int | None = None
    seed: int = 0  # Of the first weights, the order of clips, their frames and augmentation.
    network: Network = field(default_factory=Network)
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluation: Views = field(default_factory=Views)
    hardware: Hardware = field(default_factory=Hardware)
    # Weights that the published run started from; reported where a run starts from others.
    starts_from: str = ""

    def __post_init__(self) -> None:
        _check(
            self,
            positive="epochs batch_size learning_rate rate_batch step_epochs num_frames clip_norm "
            "stride read_short_side",
            not_negative="momentum weight_decay body_rate warmup_epochs",
        )
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"expected {name} from 0 to below 1, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"expected size as (height, width) in pixels, got {self.size}")

    @property
    def peak_rate(self) -> float:
        """The learning rate for this batch (linear scaling; Goyal et al., 2017)."""
        return self.learning_rate * self.batch_size / self.rate_batch

    @property
    def warmup(self) -> float:
        """Epochs of warm-up."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs
        return WARM_UP if self.batch_size > LARGE_BATCH * self.rate_batch else 0.0


@dataclass(frozen=True)
class Output:
    """Where a training run writes, and how often."""

    # For recipe.json, log.jsonl, checkpoints and model.safetensors; new, empty, or of this run.
    folder: Path
    resume: bool = False  # Go on with the run in the folder, if there is one.
    save_minutes: float = 10.0  # Minutes between checkpoints; there is one after each epoch.
    # Keep a checkpoint every this many epochs; None keeps only the last and the best.
    keep_every: int | None = None
    tensorboard: bool = False  # Write events for TensorBoard too, in its subfolder "tensorboard".

    def __post_init__(self) -> None:
        _check(self, positive="keep_every", not_negative="save_minutes")


def _check(record: Any, positive: str = "", not_negative: str = "") -> None:
    """Raise ValueError for a value out of range or not among the choices of its type."""
    for name, hint in type_hints(type(record)).items():
        value, origin, of = getattr(record, name), get_origin(hint), get_args(hint)
        choices = of if origin is Literal else get_args(of[0]) if origin is tuple else ()
        for one in value if origin is tuple else (value,):
            if choices and (one, type(one)) not in [(choice, type(choice)) for choice in choices]:
                raise ValueError(
                    f"expected {name} among {', '.join(map(str, choices))}, got {one}"
                    f"{near(str(one), map(str, choices))}"
                )
    for name in positive.split():
        if (value := getattr(record, name)) is not None and value <= 0:
            raise ValueError(f"expected {name} to be positive, got {value}")
    for name in not_negative.split():
        if (value := getattr(record, name)) is not None and value < 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")


@functools.cache
def type_hints(kind: type) -> dict[str, Any]:
    """Return the types of a record's fields."""
    return typing.get_type_hints(kind)


def near(name: str, names: Iterable[str]) -> str:
    """Return a question that offers the names like `name`; empty where there are none."""
    found = difflib.get_close_matches(name, list(names))
    return f" (did you mean {', '.join(found)}?)" if found else ""


# --- In files -----------------------------------------------------------------------------------


def recipe_to_json(recipe: Recipe) -> str:
    """Return the recipe as the text of `recipe.json`."""
    return json.dumps(asdict(recipe), indent=1) + "\n"


def recipe_from_json(text: str, origin: str = "the recipe") -> Recipe:
    """Read the text of `recipe.json`; what it leaves out has the classroom's value.

    Args:
        origin: of the text, for messages.

    Raises:
        ValueError: a key that no recipe has, or a value of another kind.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{origin}: expected a recipe in JSON, got {error}") from error
    return _record(Recipe, values, origin)


def _record(kind: type, values: Any, place: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}: expected the values of {kind.__name__}, got {values!r}")
    hints = type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(
                f"{place}: expected keys of {kind.__name__}, got {name!r}{near(name, hints)}"
            )
    found = {name: _value(hints[name], v, f"{place}: {name}") for name, v in values.items()}
    try:
        return kind(**found)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _value(hint: Any, value: Any, place: str) -> Any:
    """The value as its field has it: JSON knows lists but no tuples, and 1 for 1.0."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = get_args(hint)[0]
    origin, of = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, place)
    if origin is Literal:  # the record itself looks whether it is among them
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [of[0]] * len(value) if of[1:] == (...,) else of
        if len(kinds) == len(value):
            return tuple(_value(k, v, place) for k, v in zip(kinds, value, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is type(value):
        return value
    expected = hint if origin is tuple else hint.__name__
    raise ValueError(f"{place}: expected {expected}, got {value!r}")
