"""What the models cost on this machine, measured side by side.

    python -m blvnet_lab benchmark --figure cost.png

Everything is a comparison within one run: the runs take turns, and each ratio is the median of the
ratios within a turn. The reader's own machine decides the milliseconds; ratios carry further.
"""

from __future__ import annotations

import copy
import json as json_module
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from blvnet_lab.benchmark.measure import (
    faster_layout,
    gmacs,
    interleaved,
    matmul_peak,
    peak_gb,
    summary,
)
from blvnet_lab.benchmark.peers import all_peers, choose_peers
from blvnet_lab.benchmark.published import published_form
from blvnet_lab.deploy.fold import optimize_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import VideoNet, blvnet_tam, tsn
from blvnet_lab.paths import check_target, written_whole
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import kept_for_backward

Part = Literal["forms", "training", "models", "claims", "scaling", "streaming"]
PARTS: tuple[Part, ...] = get_args(Part)

PAIRS_BEFORE = 50  # a stream's pair is measured after so many others
PUBLISHED_KEPT_GB = 0.779  # for backward, a clip, depth 50, f8x2, 224 pixels: counted from its code


HEADINGS = {
    "forms": "one clip through bLVNet-TAM of depth 50, computed in several ways",
    "training": "forward and backward pass of one clip, and what is kept in between",
    "models": "forward pass of one clip, each model at the input it was published for",
    "accuracies": "accuracies as published, beside the times measured here",
    "claims": "against TSN on the same frames, counted",
    "scaling": "with more frames, and with more clips at once",
    "streaming": "a causal model, pair by pair; ms a pair",
}


@dataclass(frozen=True)
class Benchmark:
    """A table for each part that was measured; times in ms, memory in GB (1e9 bytes)."""

    machine: dict[str, str | int | float]
    forms: pd.DataFrame = field(default_factory=pd.DataFrame)
    training: pd.DataFrame = field(default_factory=pd.DataFrame)
    models: pd.DataFrame = field(default_factory=pd.DataFrame)
    accuracies: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims: pd.DataFrame = field(default_factory=pd.DataFrame)
    scaling: pd.DataFrame = field(default_factory=pd.DataFrame)
    streaming: pd.DataFrame = field(default_factory=pd.DataFrame)
    figure: Path | None = None  # where the command line draws accuracies against cost

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items())]
        for name, heading in HEADINGS.items():
            table = getattr(self, name)
            if not table.empty:
                lines.append(f"\n{heading}\n{table.to_string(float_format='{:.4g}'.format)}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Write all of it for a file, which `from_json` reads."""
        contents: dict[str, Any] = {"machine": self.machine}
        for name in HEADINGS:
            table = getattr(self, name)
            contents[name] = json_module.loads(table.to_json(orient="split", double_precision=12))
        return json_module.dumps(contents, indent=1) + "\n"


def run_benchmark(
    *,
    parts: tuple[Part, ...] = PARTS,
    models: tuple[str, ...] = (),
    device: str = "",
    num_frames: int = 16,
    size: tuple[int, int] = (224, 224),
    quick: bool = False,
    json: Path | None = None,
    figure: Path | None = None,
) -> Benchmark:
    """Measure what the models cost here, next to the published formulation and to other models.

    All that is compared runs alternately; times are medians, ratios the medians of those within a
    round. Published accuracies stand beside what was measured.

    Args:
        parts: forms (one network computed in several ways), training (a step of it), models (next
            to others, with their published accuracies), claims (the paper's, for each depth),
            scaling (with frames and batch), streaming (pair by pair).
        models: rows of the part models, such as blvnet_tam r3d_18; none for all.
        device: cpu, cuda, cuda:1 or mps; the GPU if there is one.
        num_frames: T of the four architectures, even.
        size: height and width of their frames in pixels, multiples of 32.
        quick: 3 repeats instead of 9, and nothing compiled: some minutes on two cores.
        json: file for all the numbers.
        figure: file (.png, .svg, .pdf) for the picture of accuracy against cost.

    Raises:
        ValueError: there is no such part, model or device, or a number makes no sense.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(
            f"expected parts out of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}"
        )
    if num_frames < 2 or num_frames % 2 or min(size) < 32 or any(side % 32 for side in size):
        raise ValueError(
            "expected an even number of frames and sides in pixels that are multiples of 32, got "
            f"{num_frames} and {size}"
        )
    peers = all_peers(num_frames, size)
    if models:
        peers = choose_peers(models, peers)
    if json is not None:
        check_target(json, ".json")
    if figure is not None:
        check_target(figure, ".png", ".svg", ".pdf")
        if "models" not in parts or not any(peer.accuracies for peer in peers):
            raise ValueError(
                "expected models with published accuracies for a figure, got the parts "
                f"{', '.join(parts)} and {', '.join(models) or 'all models'}, {num_frames} frames "
                f"of {size}: take the part models, and others too, such as blvnet_tam_256"
            )
    where = find_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    repeats = 3 if quick else 9
    common = {"device": where, "num_frames": num_frames, "size": size, "repeats": repeats}
    # Each part, and what it needs to know.
    measured: dict[str, Callable[[], dict]] = {
        "forms": lambda: {"forms": measure_forms(**common, compiled=not quick)},
        "training": lambda: {"training": measure_training(**common)},
        "models": lambda: measure_models(peers, device=where, repeats=repeats),
        "claims": lambda: {"claims": count_claims(num_frames, size)},
        "scaling": lambda: {"scaling": measure_scaling(**common)},
        "streaming": lambda: {"streaming": measure_streaming(**common)},
    }
    tables = {}
    # cuDNN may round what convolutions multiply to TF32; the matrix product they are held against
    # does not.
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False
    ):
        for part in tqdm([part for part in PARTS if part in parts], "benchmark", unit="part"):
            torch.manual_seed(0)
            tables |= measured[part]()
    machine = {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "frames": num_frames,
        "pixels": f"{size[0]} x {size[1]}",
        "repeats": repeats,
    }
    found = Benchmark(machine, **tables, figure=figure)
    if json is not None:
        with written_whole(json) as partial:
            partial.write_text(found.to_json(), "utf-8")
    return found


def find_device(name: str) -> torch.device:
    """Raises ValueError if this machine has no such device."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f'expected a device of this machine, such as "cpu" or "cuda", got "{name}": {reason}'
        ) from error
    return device


def stirred_net(num_frames: int, *, causal: bool = False) -> VideoNet:
    """bLVNet-TAM of depth 50 with weights as if trained: no batch norm is at its start."""
    model = blvnet_tam(depth=50, num_frames=num_frames, tap_init="kaiming", causal=causal)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def measure_forms(
    *, device: torch.device, num_frames: int, size: tuple[int, int], repeats: int, compiled: bool
) -> pd.DataFrame:
    """One clip through one network, computed in several ways with the same weights.

    Columns: ms, lowest, highest, speed-up (over the published formulation), share of the matrix
    peak, and the largest deviation from it, relative to its largest logit.
    """
    model = stirred_net(num_frames).eval().to(device)
    clip = torch.randn(1, num_frames, 3, *size, device=device)
    published = published_form(model)
    optimized = optimize_for_inference(model)
    half = optimize_for_inference(model).to(torch.bfloat16)
    half_clip = clip.to(torch.bfloat16)
    forms: dict[str, Callable[[], Tensor]] = {
        "published formulation": lambda: published(clip),
        "as built": lambda: model(clip),
        "channels-last": _bound(_channels_last(model), clip),
        "folded (optimize_for_inference)": lambda: optimized(clip),
    }
    if compiled:
        forms["folded, torch.compile"] = _bound(torch.compile(optimize_for_inference(model)), clip)
    forms["folded, bfloat16"] = lambda: half(half_clip)
    with torch.no_grad():
        seconds = interleaved(forms, repeats, device, "forms")
        logits = {name: form().float() for name, form in forms.items()}
    table = summary(seconds, "published formulation")
    wanted = logits["published formulation"]
    peak, cost = matmul_peak(seconds, device), gmacs(model, clip)
    table["of peak"] = cost / (table["ms"] / 1e3) / peak
    table.loc["folded, bfloat16", "of peak"] = float("nan")  # the peak is that of float32
    table["deviation"] = [
        ((logits[name] - wanted).abs().max() / wanted.abs().max()).item() for name in table.index
    ]
    return table


def measure_training(
    *, device: torch.device, num_frames: int, size: tuple[int, int], repeats: int
) -> pd.DataFrame:
    """Forward and backward of one clip, and what is kept in between.

    Columns: ms, lowest, highest, speed-up, of peak (three times the forward pass's MACs), kept GB,
    and for the published input that over what the published implementation keeps.
    """
    model = stirred_net(num_frames).train().to(device)
    clip = torch.randn(1, num_frames, 3, *size, device=device)
    checkpointed = _channels_last(model)
    checkpointed.set_grad_checkpointing()
    nets = {
        "published formulation": published_form(model),
        "as built": model,
        "channels-last": _channels_last(model),
        "channels-last, checkpointed": checkpointed,
    }

    def step(net: nn.Module) -> Callable[[], None]:
        def run() -> None:
            net.zero_grad()
            net(clip).sum().backward()

        return run

    seconds = interleaved({n: step(net) for n, net in nets.items()}, repeats, device, "training")
    table = summary(seconds, "published formulation")
    cost = 3 * gmacs(model, clip)
    table["of peak"] = cost / (table["ms"] / 1e3) / matmul_peak(seconds, device)
    table["kept GB"] = [kept_for_backward(net, clip) / 1e9 for net in nets.values()]
    if (num_frames, size) == (16, (224, 224)):
        table["of published"] = table["kept GB"] / PUBLISHED_KEPT_GB
    return table


def measure_models(peers: Sequence, *, device: torch.device, repeats: int) -> dict:
    """Forward passes of one clip, of each model at its own input; and published accuracies."""
    rows, runs, accuracies = {}, {}, []
    for peer in tqdm(peers, "building models", leave=False, unit="model"):
        clip = peer.clip().to(device)
        model, layout = faster_layout(peer.build().eval().to(device), clip)
        runs[peer.name] = _bound(model, clip)
        rows[peer.name] = {
            "model": peer.title,
            "frames": peer.num_frames,
            "pixels": f"{peer.size[0]} x {peer.size[1]}",
            "layout": layout,
            "GMACs": gmacs(model, clip),
            "M parameters": sum(p.numel() for p in model.parameters()) / 1e6,
            "peak GB": peak_gb(model, clip),
        }
        accuracies += [(peer.name, peer.title, *accuracy) for accuracy in peer.accuracies]
    with torch.inference_mode():
        seconds = interleaved(runs, repeats, device, "models")
    table = pd.DataFrame.from_dict(rows, orient="index").join(summary(seconds))
    table["clips/s"] = 1e3 / table["ms"]
    table["frames/s"] = table["frames"] * table["clips/s"]
    table["of peak"] = table["GMACs"] * table["clips/s"] / matmul_peak(seconds, device)
    columns = ["name", "model", "dataset", "top-1", "views", "source"]
    found = pd.DataFrame(accuracies, columns=columns)
    found["ms"] = found["name"].map(table["ms"])
    found["GMACs"] = found["name"].map(table["GMACs"])
    return {"models": table, "accuracies": found}


def count_claims(num_frames: int, size: tuple[int, int]) -> pd.DataFrame:
    """The paper's claims against TSN on the same frames, for each depth; counted, so no noise.

    Columns: GMACs of both and their ratio; GB kept for the backward pass of both, a clip, ratio.
    """
    rows = {}
    for depth in tqdm((50, 101, 152), "claims", leave=False, unit="depth"):
        found = {}
        for name, builder in (("TSN", tsn), ("bLVNet-TAM", blvnet_tam)):
            with FakeTensorMode():
                model = builder(depth=depth, num_frames=num_frames).train()
                clip = torch.empty(1, num_frames, 3, *size)
                kept = kept_for_backward(model, clip) / 1e9
            model = builder(depth=depth, num_frames=num_frames)
            found[name] = (gmacs(model, torch.empty(1, num_frames, 3, *size)), kept)
        (macs, kept), (own_macs, own_kept) = found["TSN"], found["bLVNet-TAM"]
        rows[depth] = {
            "TSN GMACs": macs,
            "bLVNet-TAM GMACs": own_macs,
            "times fewer": macs / own_macs,
            "TSN kept GB": kept,
            "bLVNet-TAM kept GB": own_kept,
            "times less": kept / own_kept,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")


def measure_scaling(
    *, device: torch.device, num_frames: int, size: tuple[int, int], repeats: int
) -> pd.DataFrame:
    """Forward passes with more frames and with more clips; ms a frame, relative to the first."""
    cases = [(frames, 1) for frames in sorted({num_frames, 16, 32, 48, 64})]
    cases += [(num_frames, batch) for batch in (2, 4)]
    runs = {}
    for frames, batch in cases:
        model = optimize_for_inference(stirred_net(frames)).to(device)
        clip = torch.randn(batch, frames, 3, *size, device=device)
        runs[f"{frames} frames, batch {batch}"] = _bound(model, clip)
    with torch.inference_mode():
        table = summary(interleaved(runs, repeats, device, "scaling"))
    table["frames"] = [frames * batch for frames, batch in cases]
    table["ms/frame"] = table["ms"] / table["frames"]
    table["relative"] = table["ms/frame"] / table["ms/frame"].iloc[0]
    return table


def measure_streaming(
    *, device: torch.device, num_frames: int, size: tuple[int, int], repeats: int
) -> pd.DataFrame:
    """A pair step by step, early and late, and its share of a whole clip; ms a pair."""
    model = optimize_for_inference(stirred_net(num_frames, causal=True)).to(device)
    clip = torch.randn(1, num_frames, 3, *size, device=device)
    pair, pairs = clip[:, :2], num_frames // 2
    early, late = Stream(model), Stream(model)
    for _ in range(PAIRS_BEFORE):
        late(pair)

    def anew() -> None:
        early.reset()
        early(pair)

    runs = {
        "whole clip": lambda: model(clip),
        "first pair": anew,
        f"pair after {PAIRS_BEFORE} others": lambda: late(pair),
    }
    with torch.inference_mode():
        table = summary(interleaved(runs, repeats, device, "streaming"), "whole clip")
    table = table.drop(columns="speed-up")
    table.loc["whole clip"] /= pairs
    table["relative"] = table["ms"] / table["ms"].iloc[0]
    return table.rename(index={"whole clip": f"whole clip / {pairs} pairs"})


def from_json(text: str) -> Benchmark:
    """Read what `Benchmark.to_json` wrote.

    Raises:
        ValueError: the text is something else.
    """
    try:
        contents = json_module.loads(text)
        parts = {name: contents[name] for name in HEADINGS}
        tables = {
            name: pd.DataFrame(part["data"], part["index"], part["columns"])
            for name, part in parts.items()
        }
        return Benchmark(contents["machine"], **tables)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a file written by `python -m blvnet_lab benchmark --json`, got: {error}"
        ) from error


def _channels_last(model: VideoNet) -> VideoNet:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def _bound(model: nn.Module, clip: Tensor) -> Callable[[], Tensor]:
    return lambda: model(clip)
