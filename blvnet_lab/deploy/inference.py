"""Prepare a network for inference: fold it, or compile it for this machine's processor.

    from blvnet_lab.deploy import compile_for_inference, optimize_for_inference
    fast = optimize_for_inference(model)
    logits = fast(clip)                     # equal to rounding
    fastest = compile_for_inference(model, (224, 224), "bfloat16")
    logits = fastest(clip)                  # (B, T, C, 224, 224) -> (B, num_classes), float32

A folded network makes fewer passes over memory. Compiled, it is machine code (AOTInductor), with
weights in the layout that suits the processor best, and each weighted sum and its ReLU in a single
pass over memory. Compiling takes about a minute, once. The package is a program, so it is kept in
the user's cache and not beside the checkpoint, where it could be somebody else's.
"""

import copy
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils import _pytree as pytree

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.deploy.live import Step, Stream
from blvnet_lab.models.bottleneck import Block
from blvnet_lab.models.networks import VideoNet, architecture_of
from blvnet_lab.models.wrapped import check_as_built
from blvnet_lab.threads import keep_memory

log = logging.getLogger("blvnet_lab")

Precision = Literal["float32", "bfloat16"]
# Relative to the largest logit, on noise: sums in another order, eight bits of mantissa.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}
# The number of threads is decided by the process that runs the package, not the one that made it.
OPTIONS = {"freezing": True, "cpp.dynamic_threads": True}


class ConvReLU(nn.Conv2d):
    """A convolution followed by a ReLU in place, which is safe: nothing else uses its result."""

    def __init__(self, conv: nn.Conv2d):
        sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        super().__init__(*sizes, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(super().forward(x))


def optimize_for_inference(model: VideoNet) -> VideoNet:
    """Copy a model and fold each batch norm, and the ReLU after it, into its convolution.

    In eval mode a batch norm only scales and shifts, which the convolution before it can do as
    well. The copy is in channels-last layout, where the numbers of a pixel lie together, as matrix
    products need them, and in eval mode without gradients; `capture` and `edit` work as before.

    Raises TypeError for a model that is not from one of our builders (a compiled one, say),
    ValueError for one that is folded already or that other tools have changed.
    """
    if not isinstance(model, VideoNet):
        raise TypeError(
            f"expected a model from tsn, tsn_blnet, blvnet or blvnet_tam, got "
            f"{type(model).__name__}: give the network itself; optimize first, then torch.compile"
        )
    if model.folded:
        raise ValueError("expected a model with batch norms, got one that is folded already")
    check_as_built(model)
    model = copy.deepcopy(model).eval()
    for parent in model.modules():
        _merge(parent, nn.BatchNorm2d, fuse_conv_bn_eval)
        # With the batch norms gone, a ReLU may follow its convolution directly.
        _merge(parent, nn.ReLU, lambda conv, _: ConvReLU(conv))
    model.folded, model.grad_checkpointing = True, False
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


def _merge(parent: nn.Module, kind: type[nn.Module], merged: Callable[..., nn.Conv2d]) -> None:
    """Replace each convolution followed by a child of this kind by `merged(conv, child)`."""
    children = [(k, m) for k, m in parent.named_children() if not isinstance(m, nn.Identity)]
    for (name, conv), (after, follower) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(follower, kind):
            setattr(parent, name, merged(conv, follower).eval())
            setattr(parent, after, nn.Identity().eval())


class CompiledNet(nn.Module):
    """A network as machine code, for clips of one size: see `compile_for_inference`.

    It has no modules, so nothing in it can be captured, and `introspect` refuses it.

    Attributes:
        file: the package.
        deviation: largest difference of its logits from the network's in float32, relative to the
            largest logit, on noise.
    """

    def __init__(self, file: Path, clips: Tensor, maps: Iterable[Tensor]):
        super().__init__()
        self.file, self.shape, self.dtype = file, clips.shape, clips.dtype  # (B, T, C, H, W)
        self.first_maps = [torch.zeros_like(each) for each in maps]  # for a stream
        self.reset()
        try:
            self.code = torch._inductor.aoti_load_package(str(file))
        except RuntimeError as error:
            raise ValueError(
                f"expected {file} to be a whole package, got {str(error).splitlines()[0]}: delete "
                "it, and compile again"
            ) from error

    def reset(self) -> None:
        """Forget all frames; for a stream, the next pair starts a new video."""
        self.maps = self.first_maps

    def forward(self, clips: Tensor) -> Tensor:
        """Compute the logits (N, num_classes), in float32, of any number of clips."""
        self.check(clips)
        return torch.cat([self.run_part(part) for part in clips.split(self.shape[0])])

    def run_part(self, clips: Tensor) -> Tensor:
        missing = self.shape[0] - len(clips)  # padded, since clips do not affect each other
        logits, *_ = self.run_code(F.pad(clips, (0, 0) * 4 + (0, missing)) if missing else clips)
        return logits.float()[: len(clips)]

    def run_code(self, clips: Tensor, *maps: Tensor) -> list[Tensor]:
        # Compiled code relies on strides.
        maps = [each.contiguous(memory_format=torch.channels_last) for each in maps]
        return pytree.tree_leaves(self.code(clips.to(self.dtype).contiguous(), *maps))

    def check(self, clips: Tensor) -> None:
        """Raise ValueError unless the clips are of the kind it was compiled for."""
        right = clips.shape[1:] == self.shape[1:] and clips.device.type == "cpu"
        if not (right and clips.is_floating_point()):
            wanted = "(B, {}, {}, {}, {})".format(*self.shape[1:])
            raise ValueError(
                f"expected clips {wanted} float on the CPU, for which this network was compiled, "
                f"got {tuple(clips.shape)} {clips.dtype} on {clips.device.type}: compile it for "
                "these, or take optimize_for_inference, which makes a network for any size; "
                "blvnet_lab.data.normalize makes floats of uint8"
            )


class CompiledStream(CompiledNet):
    """A `Stream` as machine code: one pair (B, 2, C, H, W) after another, B as compiled for."""

    @torch.no_grad()
    def forward(self, pair: Tensor) -> Tensor:
        """Compute the logits (B, num_classes), in float32, of a pair that follows the last one."""
        self.check(pair)
        if len(pair) != (batch := self.shape[0]):
            raise ValueError(f"expected {batch} pairs at once, as compiled, got {len(pair)}")
        logits, *maps = self.run_code(pair, *self.maps)
        self.maps = maps[: len(self.maps)]
        return logits.float()


class CompilableStep(Step):
    """A step whose maps go in and out one by one, in channels-last.

    The inputs of blocks with a TAM are outputs, too, though unused: otherwise Inductor would add
    the branch to such an input in place, overlooking that the maps to keep are views of it
    (findings/frozen_inductor_overwrites_an_output.sh).
    """

    def __init__(self, network: VideoNet):
        super().__init__(network)
        self.inputs: list[Tensor] = []
        for block in network.modules():
            if isinstance(block, Block) and block.tam is not None:
                block.register_forward_pre_hook(lambda _, args: self.inputs.append(args[0]))

    def forward(self, pair: Tensor, *maps: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        given, lengths = iter(maps), [past.length for past in self.pasts.values() if maps]
        logits, after = super().forward(pair, [[next(given) for _ in range(n)] for n in lengths])
        inputs, self.inputs = self.inputs, []
        after = [each.contiguous(memory_format=torch.channels_last) for m in after for each in m]
        return logits, after, inputs


@on_cpu()
@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def compile_for_inference(
    model: VideoNet | Stream,
    size: tuple[int, int],
    precision: Precision = "float32",
    *,
    batch: int = 1,
    folder: str | os.PathLike | None = None,
    keep: bool = True,
) -> CompiledNet:
    """Compile a network, or a stream, for this processor, or load the package made earlier.

    Each time, its logits are compared with the network's on noise. The same network and size share
    a package, on machines alike with the same PyTorch. Packages can be deleted at any time, and so
    can what PyTorch's compiler leaves in its own cache (TORCHINDUCTOR_CACHE_DIR).

    Args:
        model: from one of the builders, also after `optimize_for_inference`; it is not changed.
        size: height and width of the frames in pixels.
        precision: "bfloat16" changes logits by about a hundredth of the largest, and pays off if
            the processor computes in it (avx512_bf16 or amx_bf16 in the output of lscpu).
        batch: clips computed at once; larger batches are split. At depth 50 one is as fast as many.
        folder: where packages are kept; None for `blvnet_lab` in XDG_CACHE_HOME, or in `~/.cache`.
        keep: also call `keep_memory`.

    Raises TypeError and ValueError as `optimize_for_inference`; ValueError without a C++ compiler,
    for a damaged package and for logits that differ; OSError if the folder cannot be written to.
    """
    if precision not in TOLERANCES:
        raise ValueError(f"expected a precision of {', '.join(TOLERANCES)}, got {precision}")
    is_stream = isinstance(model, Stream)
    network = model.model if is_stream else model
    if not (isinstance(network, VideoNet) and network.folded):
        network = optimize_for_inference(network)
    network = copy.deepcopy(network).cpu().float().eval()
    shape = (batch, network.num_frames, network.in_channels, *size)
    rng, maps = torch.Generator().manual_seed(0), []
    clip = torch.randn(shape, generator=rng, dtype=torch.float32)
    kind = architecture_of(network) + "-stream" * is_stream
    name = f"{kind}-{precision}-{'x'.join(map(str, shape))}"
    if is_stream:
        network = CompilableStep(network)
        # Tensors apart, not zeros for several (findings/export_takes_one_tensor_for_one_input.sh).
        maps = [torch.empty_like(each).normal_(generator=rng) for each in network(clip)[1]]
    wanted = pytree.tree_leaves(network(clip, *maps))  # for a stream, also the maps to keep
    inputs = tuple(each.to(getattr(torch, precision)) for each in (clip, *maps))
    program = torch.export.export(network.to(inputs[0].dtype), inputs)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    file = Path(folder or Path(cache, "blvnet_lab"), f"{name}-{_digest(program)}.pt2")
    if not file.is_file():
        _make_package(program, file)
    compiled = (CompiledStream if is_stream else CompiledNet)(file, *inputs[:1], inputs[1:])
    found = compiled.run_code(*inputs)
    deviations = [deviation([a], [b]) for a, b in zip(found, wanted, strict=True)]
    compiled.deviation = torch.stack(deviations).max().item()
    if not compiled.deviation <= TOLERANCES[precision]:  # nor is a NaN
        raise ValueError(
            f"expected the compiled logits to be the network's to {TOLERANCES[precision]} of "
            f"the largest, got a deviation of {compiled.deviation:.1e} in {precision}: look "
            f"for weights that are not finite, take float32, or delete {file} and compile again"
        )
    if keep:
        keep_memory()
    return compiled


def _make_package(program: ExportedProgram, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.TemporaryDirectory(dir=file.parent, prefix="unfinished-")
    except OSError as error:
        raise OSError(
            f"expected a folder in which to keep compiled networks, got {error}: name one that can "
            "be written to in the environment variable XDG_CACHE_HOME"
        ) from error
    log.warning("blvnet_lab: compiling for this processor, about a minute, once: %s", file)
    with unfinished as folder:
        made = Path(folder, file.name)
        try:
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(made), inductor_configs=dict(OPTIONS)
            )
        except RuntimeError as error:  # Inductor's errors of any kind
            raise ValueError(
                "expected a C++ compiler that works (g++ or clang++, or the one that CXX names), "
                f"got {str(error).splitlines()[0]}: install one (apt install g++), or take "
                "optimize_for_inference, which needs none"
            ) from error
        made.replace(file)


def _digest(program: ExportedProgram) -> str:
    """Digest everything that a package depends on: graph, weights, PyTorch, processor."""
    found = hashlib.sha256(program.graph_module.code.encode())
    for name, weight in sorted((program.state_dict | program.constants).items()):
        values = weight.detach().contiguous().flatten().view(torch.uint8).numpy()
        found.update(name.encode() + values.tobytes())
    try:
        processor = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        processor = [line for line in processor if line.startswith(("model name", "flags", "Feat"))]
    except OSError:  # not Linux
        processor = [platform.machine(), platform.processor()]
    found.update(repr([torch.__version__, OPTIONS, processor]).encode())
    return found.hexdigest()[:12]


def deviation(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> Tensor:
    """Find the largest difference, relative to the largest wanted number."""
    found, wanted = (torch.cat([x.float().flatten() for x in part]) for part in (found, wanted))
    return (found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)  # all may be 0
