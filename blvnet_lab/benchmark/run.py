"""Measure what models cost on this machine, side by side.

    python -m blvnet_lab benchmark --figure cost.png

Everything is compared within one run: models alternate, and each ratio is the median of the ratios
per round. Milliseconds depend on the machine; ratios carry over better.
"""

import copy
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from blvnet_lab.benchmark import measure, peers
from blvnet_lab.benchmark.measure import Benchmark, count_gmacs
from blvnet_lab.data import DataSet, evaluation_transform, load_clips
from blvnet_lab.deploy.inference import compile_for_inference, optimize_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import VideoNet, blvnet_tam, count_cost, load_model, tsn
from blvnet_lab.models.networks import Depth
from blvnet_lab.paths import check_target, data_samples
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import kept_for_backward
from blvnet_lab.training.distributed import pick_device
from blvnet_lab.training.metrics import top_k_accuracy

Part = Literal["forms", "training", "models", "claims", "scaling", "streaming"]

PUBLISHED = "published formulation"  # the row that others are compared with
COARSE = "bfloat16|int8|default"  # rows that do not compute in float32
BATCH = 64  # clips per step where training is measured on a GPU
PAIRS_BEFORE = 50  # after which a stream's pair is timed again
PUBLISHED_KEPT_GB = 0.779  # for backward, per clip, depth 50, f8x2, 224 pixels: from its code


@dataclass(frozen=True)
class Setting:
    """Settings shared by all parts."""

    device: torch.device
    num_frames: int  # of the four architectures
    size: tuple[int, int]  # height and width of their frames, in pixels
    peers: Sequence[peers.Peer]  # for the part "models"
    repeats: int  # how often each run is timed
    compile: bool  # whether to time compiled forms

    def clip(self, batch: int = 1, num_frames: int = 0) -> Tensor:
        """Make noise, (B, T, 3, H, W)."""
        shape = (batch, num_frames or self.num_frames, 3, *self.size)
        return torch.randn(shape, device=self.device)

    def time(self, runs: dict[str, Callable[[], object]], **more) -> pd.DataFrame:
        """Time all runs alternately; `more` are further arguments of `compare_times`."""
        return measure.compare_times(runs, self.repeats, self.device, **more)


def run_benchmark(
    *,
    parts: tuple[Part, ...] = get_args(Part),
    models: tuple[str, ...] = (),
    device: str = "",
    num_frames: int = 16,
    size: tuple[int, int] = (224, 224),
    quick: bool = False,
    json: Path | None = None,
    figure: Path | None = None,
) -> Benchmark:
    """Measure what the models cost here, next to the published formulation and other models.

    Published accuracies are listed beside the measurements.

    Args:
        parts: forms (one network computed in several ways), training (one step), models (next to
            others, with published accuracies), claims (the paper's, for each depth), scaling (with
            frames and batch), streaming (pair by pair).
        models: rows of the part "models", such as blvnet_tam r3d_18; all by default.
        device: cpu, cuda, cuda:1 or mps; by default the GPU if there is one.
        num_frames: T of the four architectures, even.
        size: height and width of their frames in pixels.
        quick: 3 repeats instead of 9, and nothing compiled: some minutes on two cores.
        json: file for all numbers.
        figure: file (.png, .svg, .pdf) for the picture of accuracy against cost.

    Raises ValueError for an unknown model or device, or an odd number of frames.
    """
    rows = peers.all_peers(num_frames, size)
    chosen = [peer for peer in rows if peer.name in models or not models]
    if len(chosen) < len(models):
        known = ", ".join(peer.name for peer in rows)
        raise ValueError(f"expected models out of {known}, got {', '.join(models)}")
    if json is not None:
        check_target(json, ".json")
    if figure is not None:
        check_target(figure, ".png", ".svg", ".pdf")
        if "models" not in parts or peers.published_accuracies(chosen).empty:
            raise ValueError(
                "expected models with published accuracies for a figure: take the part models, and "
                "one such as blvnet_tam_256"
            )
    try:
        place = torch.empty(1, device=device or pick_device()).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f'expected a device of this machine, such as "cpu" or "cuda", got "{device}"'
        ) from error
    given = Setting(place, num_frames, size, chosen, 3 if quick else 9, compile=not quick)
    found = Benchmark(describe_machine(given), measure_parts(parts, given), figure)
    if json is not None:
        found.save(json)
    return found


def describe_machine(given: Setting) -> dict[str, str | int]:
    """Describe the machine, the software and the input."""
    is_cuda = given.device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(given.device) if is_cuda else given.device.type,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "frames": given.num_frames,
        "pixels": f"{given.size[0]} x {given.size[1]}",
        "repeats": given.repeats,
    }
    lacking = peers.lacking_engines()
    return machine | ({"not installed": ", ".join(lacking)} if lacking else {})


def measure_parts(parts: Sequence[Part], given: Setting) -> dict[str, pd.DataFrame]:
    """Measure these parts; return tables by name."""
    tables, is_tuned = {}, torch.backends.cudnn.benchmark
    # cuDNN may round the inputs of convolutions to TF32, which the matrix product does not.
    with torch.backends.cudnn.flags(enabled=True, benchmark=is_tuned, allow_tf32=False):
        for part in tqdm([part for part in MEASURES if part in parts], "benchmark", unit="part"):
            torch.manual_seed(0)
            tables[part] = MEASURES[part](given)
    if "models" in tables:
        accuracies = peers.published_accuracies(given.peers)
        tables["accuracies"] = accuracies.join(tables["models"][["ms", "GMACs"]], on="name")
    return tables


def as_if_trained(num_frames: int, *, causal: bool = False) -> VideoNet:
    """Build bLVNet-TAM of depth 50 with random weights, and random batch norms and statistics."""
    model = blvnet_tam(depth=50, num_frames=num_frames, tap_init="kaiming", causal=causal)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0, 0.1)
    return model


def eager_forms(model: VideoNet) -> dict[str, VideoNet]:
    """Make forms of a network that compute the same, forward and backward."""
    in_layout = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return {PUBLISHED: peers.published_form(model), "as built": model, "channels-last": in_layout}


def forms_of(model: VideoNet, clips: Tensor, whole: bool) -> dict[str, Callable]:
    """Make all forms of a network for inference on clips such as these (N, T, C, H, W).

    With `whole`, also compiled forms and other engines, which run on the CPU only.
    """
    folded = optimize_for_inference(model)
    half = copy.deepcopy(folded).to(torch.bfloat16)
    forms: dict[str, Callable] = eager_forms(model)
    forms["folded (optimize_for_inference)"] = folded
    forms["folded, bfloat16"] = lambda clip: half(clip.to(torch.bfloat16)).float()
    if whole and clips.device.type == "cpu":
        compiled = partial(compile_for_inference, model, tuple(clips.shape[-2:]), keep=False)
        for precision in ("float32", "bfloat16"):
            forms[f"compiled, {precision}"] = compiled(precision=precision)
        forms |= peers.other_engines(model, clips)
    return forms


def motion_top_1(whole: bool) -> dict[str, float]:
    """Compute the top-1 of the course's network on its 500 validation clips, in each form."""
    model = load_model(data_samples() / "checkpoints" / "blvnet_tam.safetensors")
    motion = DataSet.read(data_samples() / "motion" / "manifest.csv")
    transform = evaluation_transform((64, 64))
    calibration, _ = load_clips(motion, "train", model.num_frames, transform, per_class=10)
    clips, labels = load_clips(motion, "val", model.num_frames, transform)
    forms = tqdm(forms_of(model, calibration, whole).items(), "top-1", leave=False)
    logits = {name: torch.cat([form(clip) for clip in clips.split(1)]) for name, form in forms}
    return {name: top_k_accuracy(found, labels) for name, found in logits.items()}


@torch.no_grad()
def measure_forms(given: Setting) -> pd.DataFrame:
    """Time one clip through a network, computed in several ways with the same weights.

    The table also has the largest deviation from the published formulation, relative to the largest
    logit, and the top-1 of the course's small network in the same form.
    """
    model = as_if_trained(given.num_frames).eval().to(given.device)
    clips = given.clip(2)
    forms = forms_of(model, clips, given.compile)
    runs = {name: partial(form, clips[:1]) for name, form in forms.items()}
    table = given.time(runs, reference=PUBLISHED, gmacs=count_gmacs(model, clips))
    table.loc[table.index.str.contains(COARSE), "of peak"] = float("nan")  # the peak is float32's
    logits = torch.stack([run().float() for run in runs.values()])
    deviations = (logits - logits[0]).abs().amax((1, 2)) / logits[0].abs().max()
    table["deviation"] = deviations.tolist()
    table["top-1"] = table.index.map(motion_top_1(given.compile))
    return table


def measure_training(given: Setting) -> pd.DataFrame:
    """Time forward and backward pass of one clip, and count what is kept in between.

    "of peak" counts it as three forward passes. On a GPU, `measure_batches` follows.
    """
    model = as_if_trained(given.num_frames).train().to(given.device)
    clip, nets = given.clip(), eager_forms(model)
    checkpointed = copy.deepcopy(nets["channels-last"])
    checkpointed.set_grad_checkpointing()
    nets["channels-last, checkpointed"] = checkpointed

    def step(net: nn.Module) -> None:
        net.zero_grad()
        net(clip).sum().backward()

    steps = {name: partial(step, net) for name, net in nets.items()}
    table = given.time(steps, reference=PUBLISHED, gmacs=3 * count_gmacs(model, clip))
    table["kept GB"] = [kept_for_backward(net, clip) / 1e9 for net in nets.values()]
    if (given.num_frames, given.size) == (16, (224, 224)):
        table["of published"] = table["kept GB"] / PUBLISHED_KEPT_GB
    return pd.concat([table, measure_batches(given)]) if given.device.type == "cuda" else table


def measure_batches(given: Setting, depth: Depth = 50, batch: int = BATCH) -> pd.DataFrame:
    """Time training of TSN and bLVNet-TAM in batches, in bfloat16 and channels-last.

    Both eager and compiled; ms and GB are per clip.
    """
    clips, steps = given.clip(batch), {}

    def step(model: VideoNet) -> None:
        model.zero_grad()
        with torch.autocast(given.device.type, torch.bfloat16):
            logits = model(clips)
        logits.float().sum().backward()

    for title, builder in (("TSN", tsn), ("bLVNet-TAM", blvnet_tam)):
        for how in ("eager", "compiled") if given.compile else ("eager",):
            model = builder(depth=depth, num_frames=given.num_frames).train().to(given.device)
            model.to(memory_format=torch.channels_last)
            if how == "compiled":
                model.compile()
            steps[f"{title}, {batch} clips, {how}"] = partial(step, model)
    table = given.time(steps, reference=next(iter(steps)))
    table[["ms", "lowest", "highest"]] /= batch
    table["clips/s"] = 1e3 / table["ms"]
    if given.device.type == "cuda":
        for name, run in steps.items():
            before = torch.cuda.memory_allocated(given.device)
            torch.cuda.reset_peak_memory_stats(given.device)
            run()
            peak = torch.cuda.max_memory_allocated(given.device)
            table.loc[name, "kept GB"] = (peak - before) / 1e9 / batch
    return table


def measure_models(given: Setting) -> pd.DataFrame:
    """Time the forward pass of one clip, each model at its own input."""
    rows, runs = {}, {}
    for peer in tqdm(given.peers, "building models", leave=False, unit="model"):
        clip = peer.clip().to(given.device)
        model, layout = measure.faster_layout(peer.build().eval().to(given.device), clip)
        runs[peer.name] = partial(model, clip)
        rows[peer.name] = {
            "model": peer.title,
            "frames": peer.num_frames,
            "pixels": f"{peer.size[0]} x {peer.size[1]}",
            "layout": layout,
            "GMACs": count_gmacs(model, clip),
            "M parameters": sum(p.numel() for p in model.parameters()) / 1e6,
            "peak GB": measure.peak_gb(model, clip),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    with torch.inference_mode():
        table = table.join(given.time(runs, gmacs=table["GMACs"]))
    table["clips/s"] = 1e3 / table["ms"]
    table["frames/s"] = table["frames"] * table["clips/s"]
    return table


def count_claims(given: Setting) -> pd.DataFrame:
    """Check the paper's claims against TSN on the same frames, for each depth: MACs and memory."""
    rows = {}
    for depth in tqdm((50, 101, 152), "claims", leave=False, unit="depth"):
        row = {}
        for name, builder in (("TSN", tsn), ("bLVNet-TAM", blvnet_tam)):
            build = partial(builder, depth=depth, num_frames=given.num_frames)
            with torch.device("meta"):  # without values, which would take a second
                row[f"{name} GMACs"] = count_cost(build(), given.size).macs / 1e9
            with FakeTensorMode():
                clip = torch.empty(1, given.num_frames, 3, *given.size)
                row[f"{name} kept GB"] = kept_for_backward(build().train(), clip) / 1e9
        rows[depth] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")
    table["times fewer"] = table["TSN GMACs"] / table["bLVNet-TAM GMACs"]
    table["times less"] = table["TSN kept GB"] / table["bLVNet-TAM kept GB"]
    return table


def measure_scaling(given: Setting) -> pd.DataFrame:
    """Time forward passes with more frames and more clips; ms per frame, and its growth."""
    cases = [(frames, 1) for frames in sorted({given.num_frames, 16, 32, 48, 64})]
    cases += [(given.num_frames, batch) for batch in (2, 4)]
    runs = {}
    for frames, batch in cases:
        model = optimize_for_inference(as_if_trained(frames)).to(given.device)
        runs[f"{frames} frames, batch {batch}"] = partial(model, given.clip(batch, frames))
    with torch.inference_mode():
        table = given.time(runs)
    table["frames"] = [frames * batch for frames, batch in cases]
    table["ms/frame"] = table["ms"] / table["frames"]
    table["relative"] = table["ms/frame"] / table["ms/frame"].iloc[0]
    return table


def measure_streaming(given: Setting) -> pd.DataFrame:
    """Time a stream's pair, early and late, against its share of a whole clip; ms per pair."""
    model = optimize_for_inference(as_if_trained(given.num_frames, causal=True)).to(given.device)
    clip = given.clip()
    pair, pairs = clip[:, :2], given.num_frames // 2
    early, late = Stream(model), Stream(model)
    for _ in range(PAIRS_BEFORE):
        late(pair)

    def first() -> None:
        early.reset()
        early(pair)

    whole, later = f"whole clip / {pairs} pairs", f"pair after {PAIRS_BEFORE} others"
    runs = {whole: partial(model, clip), "first pair": first, later: partial(late, pair)}
    with torch.inference_mode():
        table = given.time(runs)
    table.loc[whole] /= pairs
    table["relative"] = table["ms"] / table["ms"].iloc[0]
    return table


MEASURES: dict[Part, Callable[[Setting], pd.DataFrame]] = {
    "forms": measure_forms,
    "training": measure_training,
    "models": measure_models,
    "claims": count_claims,
    "scaling": measure_scaling,
    "streaming": measure_streaming,
}
