"""What a training run is made of, in frozen records; light to import, for the command line.

    Recipe()                                     the classroom: the motion samples on a laptop
    published("ssv2", depth=50, pairs=8)         a row of the paper, also preset("ssv2-50-f8x2")
    kinetics_subset()                            some classes of Kinetics on one GPU

A run writes its recipe down (`recipe.json`), and `preset` reads such a file too.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

Architecture = Literal["tsn", "tsn_blnet", "blvnet", "blvnet_tam"]
PublishedSet = Literal["ssv1", "ssv2", "kinetics400", "moments"]
WeightKind = Literal["norm", "bias", "taps"]

# A batch this many times larger than the one of the learning rate needs a warm-up (Goyal et al.,
# "Accurate, Large Minibatch SGD", 2017, section 2.2, who take five epochs).
LARGE_BATCH, WARM_UP = 4, 5.0


@dataclass(frozen=True)
class Network:
    """Which network to build."""

    architecture: Architecture = "blvnet_tam"
    """One of the four that the paper compares."""
    depth: Literal["tiny", 50, 101, 152] = "tiny"
    """Number of layers of the ResNet behind it; "tiny" has width 8, for CPUs."""
    alpha: int = 2
    """The little branch has 1/alpha of the channels."""
    beta: int = 4
    """The little branch has about 1/beta of the blocks."""
    num_taps: int = 3
    """r, odd: over how many frames a temporal aggregation module sums."""
    tap_init: Literal["identity", "kaiming"] = "identity"
    """How taps start: each frame keeps itself (learns sooner), or at random (as published)."""
    causal: bool = False
    """Temporal aggregation looks back only, so that live video can be followed; not published."""
    dropout: float = 0.0
    """Probability of dropping a feature before the classifier."""

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            raise ValueError(
                f"expected one of the architectures {', '.join(get_args(Architecture))}, got "
                f'"{self.architecture}"{_near(self.architecture, get_args(Architecture))}'
            )


@dataclass(frozen=True)
class Augmentation:
    """What chance may do to a training clip, the same to all its frames."""

    crop: Literal["resized", "multi-scale"] = "resized"
    """A part of 60 to 100 % of the area, or the published corner crops of four scales."""
    jitter: float = 0.3
    """How far brightness, contrast and saturation may change, as a share; 0 for not at all."""
    rand_augment: int = 0
    """Operations of RandAugment (Cubuk et al., 2019) a clip; 0 for none."""
    erase: float = 0.0
    """Probability of blanking out a rectangle (Zhong et al., 2017)."""
    mirror: bool = False
    """Mirror half of the clips, and their labels with them as the class list says."""
    mixup: float = 0.0
    """Mix two clips and their labels; alpha of the Beta distribution (Zhang et al., 2018)."""
    cutmix: float = 0.0
    """Put a rectangle of one clip into another (Yun et al., 2019); with mixup, one by chance."""

    def __post_init__(self) -> None:
        _at_least_0(self, "jitter", "rand_augment", "erase", "mixup", "cutmix")


@dataclass(frozen=True)
class Views:
    """How a video is evaluated: num_clips x crops views of it, whose logits are averaged."""

    size: tuple[int, int] | None = None
    """Height and width of a view, in pixels; None for that of the training clips."""
    short_side: int | None = None
    """In pixels, to which frames are scaled before the crop; None just fills the view."""
    num_clips: int = 1
    """Clips of each video, spread evenly in time."""
    crops: Literal[1, 3, 5, 10] = 1
    """Crops of each clip: centre; three along the long side; centre and corners; and mirrored."""

    def __post_init__(self) -> None:
        _positive(self, "num_clips")
        if self.crops not in (1, 3, 5, 10):
            raise ValueError(f"expected 1, 3, 5 or 10 crops, got {self.crops}")


@dataclass(frozen=True)
class Hardware:
    """How the work is done: changes speed and memory, and results by no more than rounding."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of activations; weights stay in float32. float16 scales the loss so that none underflows."""
    channels_last: bool = True
    """Keep the channels of a pixel together in memory, with which convolutions run faster."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at first, then faster."""
    checkpointing: bool = False
    """Compute stem and stage 1 again on the way back: about 0.4 of the memory, 1.1 of the time."""
    accumulate: int = 1
    """Steps a batch is divided into, whose gradients are added up: less memory, more time."""
    sync_batch_norm: bool = False
    """Take batch statistics over all processes (GPUs only); for few clips on each."""
    workers: int = 0
    """Processes that read clips, for each process that trains; 0 reads in between."""
    in_memory: bool = False
    """Decode every video once and keep its frames, as far as a quarter of the free memory goes."""

    def __post_init__(self) -> None:
        _positive(self, "accumulate")
        _at_least_0(self, "workers")
        if self.precision not in get_args(type_hints(Hardware)["precision"]):
            raise ValueError(
                f'expected the precision "float32", "bfloat16" or "float16", got "{self.precision}"'
            )


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the classroom recipe for the motion samples."""

    epochs: int = 12
    """Passes over the training clips."""
    batch_size: int = 16
    """Clips in a step, of all processes together."""
    learning_rate: float = 0.03
    """Peak of the schedule, for a batch of rate_batch clips; it scales with the batch."""
    rate_batch: int = 16
    """The batch for which the learning rate is meant."""
    schedule: Literal["one-cycle", "cosine", "steps"] = "one-cycle"
    """Up and down again; down along a cosine; or a tenth after every step_epochs."""
    step_epochs: int = 10
    """Epochs between the steps of the schedule "steps"."""
    warmup_epochs: float | None = None
    """Rise from a tenth of the rate for so long; None for 5 if the batch exceeds 4 rate_batch."""
    momentum: float = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: float = 5e-4
    """L2 penalty on weights."""
    no_decay: tuple[WeightKind, ...] = ()
    """Kinds of weights that are spared the penalty; none are in the published recipe."""
    body_rate: float = 1.0
    """Share of the learning rate for all but the classifier; below 1 to fine-tune, 0 freezes."""
    keep_statistics: bool = False
    """Train with batch norm's running statistics, and keep them: to fine-tune on few clips."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes (Szegedy et al., 2016)."""
    clip_norm: float | None = None
    """Longest gradient, over all weights; longer ones are shortened. None for no limit."""
    ema: float = 0.0
    """Evaluate an exponential moving average of the weights too, and keep it; the decay a step,
    which rises from 0.2 to this within the first 9 / (1 - ema) steps. 0 for none."""
    num_frames: int = 8
    """T, frames of a clip."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the clip, in pixels."""
    stride: int | None = None
    """Distance of frames in dense sampling; None spreads them over the whole video."""
    balanced: bool = False
    """Draw every class equally often, however many clips it has."""
    read_short_side: int | None = None
    """In pixels, to which larger frames are scaled while read; None for what crops need."""
    seed: int = 0
    """Of the first weights, the order of clips, the sampled frames and the augmentation."""
    network: Network = field(default_factory=Network)
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluation: Views = field(default_factory=Views)
    hardware: Hardware = field(default_factory=Hardware)
    starts_from: str = ""
    """Which weights a published run started from: said where a run starts otherwise."""

    def __post_init__(self) -> None:
        _positive(
            self, "epochs", "batch_size", "learning_rate", "rate_batch", "step_epochs", "num_frames"
        )
        _positive(self, "clip_norm", "stride", "read_short_side")
        _at_least_0(self, "momentum", "weight_decay", "body_rate", "warmup_epochs")
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"expected {name} from 0 to below 1, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"expected size as (height, width) in pixels, got {self.size}")
        if self.schedule not in get_args(type_hints(Recipe)["schedule"]):
            raise ValueError(
                f'expected schedule "one-cycle", "cosine" or "steps", got "{self.schedule}"'
            )
        strangers = [kind for kind in self.no_decay if kind not in get_args(WeightKind)]
        if strangers:
            raise ValueError(
                f"expected no_decay as a tuple of {', '.join(get_args(WeightKind))}, got "
                f"{', '.join(strangers)}"
            )

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

    folder: Path
    """For recipe.json, log.jsonl, checkpoints and model.safetensors; new, empty, or of this run."""
    resume: bool = False
    """Go on with the run in the folder, if there is one."""
    save_minutes: float = 10.0
    """Minutes from checkpoint to checkpoint within an epoch; there is one after each."""
    keep_every: int | None = None
    """Keep the checkpoint of every so many epochs; None keeps the last and the best only."""
    tensorboard: bool = False
    """Write events for TensorBoard too, in its subfolder "tensorboard"."""

    def __post_init__(self) -> None:
        _positive(self, "keep_every")
        _at_least_0(self, "save_minutes")


def _positive(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if value is not None and value <= 0:
            raise ValueError(f"expected {name} to be positive, got {value}")


def _at_least_0(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if value is not None and value < 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")


# --- Presets ------------------------------------------------------------------------------------

# Pairs of frames P (the paper's f8x2 has 8) of each depth, for which accuracy was published.
PUBLISHED: dict[PublishedSet, dict[int, tuple[int, ...]]] = {
    "ssv1": {50: (8, 16), 101: (8, 16, 24, 32)},
    "ssv2": {50: (8, 16), 101: (8, 16, 24, 32)},
    "kinetics400": {50: (8, 16, 24)},
    "moments": {50: (8, 16)},
}


def published(data_set: PublishedSet, *, depth: int, pairs: int) -> Recipe:
    """The recipe of a row of the paper (section 4; published code).

    The shortest model of each depth starts from a bLResNet trained on ImageNet, for 50 epochs; a
    longer one from the next shorter, for 25 (the rates of the latter are known at second hand, and
    for Moments in Time not at all: those of Kinetics are taken).

    Args:
        data_set: Something-Something v1 or v2, Kinetics-400, Moments in Time.
        depth: 50 or 101.
        pairs: P; the clip has T = 2 P frames.

    Raises:
        ValueError: no such row.
    """
    rows = PUBLISHED.get(data_set, {}).get(depth, ())
    if pairs not in rows:
        raise ValueError(f"expected a row of the paper, got {data_set}-{depth}-f{pairs}x2: " + ROWS)
    something = data_set.startswith("ss")
    recipe = Recipe(
        epochs=50,
        batch_size=64,
        learning_rate=0.01,
        rate_batch=64,
        schedule="cosine",
        num_frames=2 * pairs,
        size=(224, 224),
        read_short_side=None if something else 256,
        network=Network(depth=depth, tap_init="kaiming", dropout=0.5),
        # Mirrored clips of Something-Something may show another class: the class list knows.
        augmentation=Augmentation(crop="multi-scale", jitter=0.0, mirror=True),
        evaluation=Views()
        if something
        else Views(size=(256, 256), short_side=256, num_clips=3, crops=3),
        hardware=Hardware(workers=8),
        starts_from=f"bLResNet-{depth} trained on ImageNet",
    )
    if pairs > min(rows):
        shorter = rows[rows.index(pairs) - 1]
        return dataclasses.replace(
            recipe,
            epochs=25,
            learning_rate=0.01 if something else 0.005,
            schedule="steps",
            starts_from=f"{data_set}-{depth}-f{shorter}x2",
        )
    return recipe


def classroom() -> Recipe:
    """For the motion samples, on a laptop without a GPU."""
    return Recipe(hardware=Hardware(in_memory=True))


def kinetics_subset() -> Recipe:
    """Some classes of Kinetics-400 on one GPU, starting from ImageNet weights."""
    recipe = published("kinetics400", depth=50, pairs=8)
    return dataclasses.replace(
        recipe,
        epochs=30,
        batch_size=32,
        label_smoothing=0.1,
        network=dataclasses.replace(recipe.network, tap_init="identity"),
        hardware=Hardware(precision="bfloat16", workers=8),
        starts_from="a network trained on ImageNet",
    )


@dataclass(frozen=True)
class Staircase:
    """Train the four architectures on the motion samples and compare them."""

    out: Path = Path("runs/staircase")
    """Folder for checkpoints, logs and the summary."""
    manifest: Path | None = None
    """Manifest of the clips; the shipped samples where none is given."""
    architectures: tuple[Architecture, ...] = ("tsn", "tsn_blnet", "blvnet", "blvnet_tam")
    """Which of the four to train."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every architecture per seed; the first one's checkpoints are kept."""
    recipe: Recipe = field(default_factory=classroom)
    """How to train; its seed and architecture are replaced by each of those above."""

    def __post_init__(self) -> None:
        if not self.architectures or not self.seeds:
            raise ValueError("expected at least one architecture and one seed, got none")


PRESETS = {
    "classroom": classroom,
    "kinetics-subset": kinetics_subset,
    **{
        f"{data_set}-{depth}-f{pairs}x2": partial(published, data_set, depth=depth, pairs=pairs)
        for data_set, depths in PUBLISHED.items()
        for depth, rows in depths.items()
        for pairs in rows
    },
}
ROWS = "there are " + ", ".join(list(PRESETS)[2:])


def preset(name: str) -> Recipe:
    """The recipe of that name, or of the file `recipe.json` of an earlier run.

    Raises:
        ValueError: there is no such preset or file, or the file is no recipe.
    """
    if name in PRESETS:
        return PRESETS[name]()
    if Path(name).is_file():
        return recipe_from_json(Path(name).read_text("utf-8"), name)
    raise ValueError(
        f"expected the name of a preset or a file with a recipe, got {name}{_near(name, PRESETS)}; "
        f"the presets are {', '.join(PRESETS)}"
    )


# --- Recipes in files ---------------------------------------------------------------------------


def recipe_to_json(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), indent=1) + "\n"


def recipe_from_json(text: str, origin: str = "the recipe") -> Recipe:
    """Strict: a key that no recipe has is an error, and so is a value of another kind.

    Args:
        origin: of the text, for messages.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{origin}: expected a recipe in JSON, got {error}") from error
    return _record(Recipe, values, origin)


def type_hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _record(kind: type, values: Any, place: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}: expected the values of {kind.__name__}, got {values!r}")
    hints = type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(
                f"{place}: expected keys of {kind.__name__}, got {name!r}{_near(name, hints)}"
            )
    try:
        return kind(**{k: _value(hints[k], v, f"{place}: {k}") for k, v in values.items()})
    except ValueError as error:
        if str(error).startswith(place):
            raise
        raise ValueError(f"{place}: {error}") from error


def _value(hint: Any, value: Any, place: str) -> Any:
    """The value as its field has it: JSON knows lists but no tuples, and 1 for 1.0."""
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, place)
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        return _value(get_args(hint)[0], value, place)
    origin, of = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        kinds = [of[0]] * len(value) if of[1:] == (...,) else of
        if len(kinds) == len(value):
            return tuple(_value(k, v, place) for k, v in zip(kinds, value, strict=True))
    elif origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in of):
            return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is type(value):
        return value
    expected = str(hint) if origin is tuple else getattr(hint, "__name__", "")
    if origin is Literal:
        expected = ", ".join(map(repr, of))
    raise ValueError(f"{place}: expected {expected}, got {value!r}")


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=3)
    return f" (did you mean {', '.join(near)}?)" if near else ""
