"""Heat maps drawn by gradients, each with the controls that may unmask it.

    drawn = grad_cam(model, clips, labels, "stage3.out")     # or integrated_gradients(...)
    drawn.maps                                               # (B, P, h, w)
    drawn.similarity()["random weights"]                     # (B,), 1: nothing learned is in it

A map that looks right may show where there is something to see, and nothing of the model. So every
method also draws with the weights in random order (after Adebayo et al., NeurIPS 2018), and with
the frames shuffled, its maps then put back in order; several times, since one shuffle is an
anecdote. What stays the same without all that was learned, or without the order of the frames,
explains neither.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from blvnet_lab.introspect.capture import capture, evaluating
from blvnet_lab.introspect.evidence import Labels, asked_of
from blvnet_lab.models import VideoNet
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.progress import tqdm

Draw = Callable[[VideoNet, Tensor], Tensor]  # from a model and clips (B, T, ...) to maps
MAX_STEPS = 1024
AT_ONCE = 8  # steps, so that long clips fit into memory, too


@dataclass(frozen=True)
class Attribution:
    """Maps of a method, and what it draws where there is nothing to explain.

    Attributes:
        maps: (B, positions, h, w), on the CPU.
        controls: by name as many times as they were repeated, (repeats, B, positions, h, w); of
            "frames shuffled" one for every frame, (repeats, B, T, h, w), in the order of the clip:
            to be compared with `maps.repeat_interleave(T // positions, 1)`.
    """

    maps: Tensor
    controls: dict[str, Tensor]

    def similarity(self) -> dict[str, Tensor]:
        """Correlate each clip's map with its controls, by ranks (Spearman): (B,) in -1 to 1.

        The mean over the repeats; NaN if a map, or every control, is the same everywhere.
        """
        found = {}
        for name, control in self.controls.items():
            maps = self.maps.repeat_interleave(control.shape[2] // self.maps.shape[1], 1)
            own = _ranks(maps)
            each = [torch.tensor(own.corrwith(_ranks(other)).to_numpy()) for other in control]
            found[name] = torch.stack(each).nanmean(0)
        return found


def _ranks(maps: Tensor) -> pd.DataFrame:  # equal numbers share their mean rank
    return pd.DataFrame(maps.detach().flatten(1).T.cpu().numpy()).rank()


@torch.inference_mode(False)  # in which no gradients can be had
def with_controls(draw: Draw, model: VideoNet, clips: Tensor, repeats: int = 3) -> Attribution:
    """Draw maps, and draw them again with random weights, and of clips with their frames shuffled.

    Args:
        draw: from a model and clips to maps (B, positions, h, w), such as
            `lambda model, clips: evidence(model, clips, labels)`.
        repeats: of the controls, each with other weights and another order of the frames: a single
            one may be like the map by chance. 0 draws the maps alone.
    """
    model, clips = network_of(model), clips.detach().clone()
    maps = draw(model, clips)
    randomised, shuffled = [], []
    for seed in range(repeats):
        order = torch.randperm(clips.shape[1], generator=torch.Generator().manual_seed(seed))
        if order.equal(order.sort()[0]):  # of few frames it may be no other order
            order = order.flip(0)
        moved = draw(model, clips[:, order])
        moved = moved.repeat_interleave(clips.shape[1] // moved.shape[1], 1)  # (B, T, h, w)
        shuffled.append(moved[:, order.argsort()])
        randomised.append(draw(random_weights(model, seed), clips))
    controls = {"random weights": randomised, "frames shuffled": shuffled} if repeats else {}
    return Attribution(maps, {name: torch.stack(drawn) for name, drawn in controls.items()})


def random_weights(model: VideoNet, seed: int = 0) -> VideoNet:
    """Copy a model and shuffle the numbers within each weight that is learned; statistics stay."""
    model, generator = copy.deepcopy(network_of(model)), torch.Generator().manual_seed(seed)
    is_shift = architecture_of(model) == "tsm"  # whose taps nobody has learned
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not (is_shift and name.endswith(".taps")):
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return model


def grad_cam(
    model: VideoNet,
    clips: Tensor,
    labels: Labels,
    point: str,
    minus: Labels | None = None,
    repeats: int = 3,
) -> Attribution:
    """Weigh the channels of a capture point by their mean gradients, and cut what is negative.

    Grad-CAM (Selvaraju et al., ICCV 2017), with the mean over time as well as places. At
    `stage4.out` it is the positive part of `evidence` without the bias: there gradients are the
    classifier's weights, shared out among positions and places.

    Args:
        point: one of `capture_points(model)`, but not `classifier`.
        minus: explains the difference of two logits, as in `evidence`.
        repeats: of the controls, as in `with_controls`.
    """

    def draw(model: VideoNet, clips: Tensor) -> Tensor:
        clips = clips.to(next(model.parameters())).requires_grad_()
        with torch.enable_grad(), evaluating(model), capture(model, point, detach=False) as cache:
            score = (model(clips) * asked_of(model, clips, labels, minus)).sum()
            if len(cache) != 1 or "classifier" in cache:
                raise ValueError(f"expected one point with maps, got {point}: {', '.join(cache)}")
            (maps,) = cache.values()
            (gradient,) = torch.autograd.grad(score, maps)
        weights = gradient.mean((1, 3, 4), keepdim=True)  # (B, 1, C, 1, 1)
        return (weights * maps.detach()).sum(2).relu().float().cpu()

    return with_controls(draw, model, clips, repeats)


def mean_frame(clips: Tensor) -> Tensor:
    """Replace all frames by their mean: a still clip, in which nothing moves."""
    return clips.mean(1, keepdim=True).expand_as(clips)


def integrated_gradients(
    model: VideoNet,
    clips: Tensor,
    labels: Labels,
    minus: Labels | None = None,
    baseline: Callable[[Tensor], Tensor] = torch.zeros_like,
    steps: int = 32,
    tolerance: float = 0.05,
    repeats: int = 3,
) -> Attribution:
    """Add up gradients on the straight way from a baseline to the clip, pixel by pixel.

    Integrated gradients (Sundararajan et al., ICML 2017), (B, T, H, W), added up over the colours.
    The numbers of a clip add up to its logit less the baseline's (*completeness*). Where they do
    not, to `tolerance` of the difference (or of 1, if that is more), there are twice as many steps.

    Args:
        baseline: from clips to those where the way begins; zeros are the mean colour of the data,
            `mean_frame` asks what the motion adds.
        minus: explains the difference of two logits, as in `evidence`.
        repeats: of the controls, as in `with_controls`.

    Raises:
        ValueError: they do not add up in 1,024 steps.
    """

    def draw(model: VideoNet, clips: Tensor) -> Tensor:
        clips = clips.to(next(model.parameters()))
        asked = asked_of(model, clips, labels, minus)
        ways = zip(baseline(clips), clips, asked, strict=True)
        maps = torch.zeros(clips.shape[:2] + clips.shape[3:])
        for i, way in enumerate(tqdm(ways, "integrating gradients", len(clips), leave=False)):
            count, gap = steps, torch.inf
            while not gap <= tolerance:  # nor is NaN
                if count > MAX_STEPS:
                    raise ValueError(
                        f"expected the map of clip {i} to add up to {tolerance:.0%} of the logits' "
                        f"difference in {MAX_STEPS} steps, got one that does not: raise tolerance"
                    )
                drawn, difference = _along(model, *way, count)
                gap = (drawn.sum() - difference).abs() / difference.abs().clamp(min=1)
                count *= 2
            maps[i] = drawn
        return maps

    return with_controls(draw, model, clips, repeats)


def _along(
    model: VideoNet, start: Tensor, end: Tensor, asked: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Sum gradients at the middles of `count` steps between clips (T, C, H, W): (T, H, W).

    And the difference of the scores at both ends, which they should add up to.
    """
    # In half precision the late ones of many steps would be too small to be added.
    precise = torch.promote_types(end.dtype, torch.float32)
    step, total = (end - start).to(precise) / count, torch.zeros_like(end, dtype=precise)
    middles = torch.arange(count, dtype=precise, device=end.device) + 0.5
    with torch.enable_grad(), evaluating(model):
        for some in middles.split(AT_ONCE):
            clips = (start + some[:, None, None, None, None] * step).to(end).requires_grad_()
            (gradient,) = torch.autograd.grad((model(clips) * asked).sum(), clips)
            total += gradient.sum(0, dtype=precise)
    with torch.no_grad(), evaluating(model):
        first, last = (model(torch.stack([start, end])) * asked).sum(1)
    return (total * step).sum(1).float().cpu(), (last - first).float().cpu()


def pointing_game(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Ask whether the maximum of a map lies on the thing: share of hits, and of a coin, (B,) each.

    After Zhang et al. (ECCV 2016), at the resolution of the map, so that coarse and fine ones can
    be compared: a cell of the map is a hit if it holds at least half as much of the thing as the
    cell that holds most. The second number is the share of such cells, the hits of a random point.

    Args:
        maps: (B, positions, h, w). One without a maximum, all equal, points nowhere.
        masks: (B, T, H, W) bool, where the thing is; of a pair, in either frame.

    Raises:
        ValueError: masks that do not fit the maps.
    """
    positions, size = maps.shape[1], maps.shape[-2:]
    if masks.ndim != 4 or len(masks) != len(maps) or masks.shape[1] % positions:
        raise ValueError(
            f"expected masks (B, T, H, W) for maps {tuple(maps.shape)}, got {tuple(masks.shape)}"
        )
    seen = masks.unflatten(1, (positions, -1)).any(2).float()
    held = F.adaptive_avg_pool2d(seen, size).flatten(2)  # (B, positions, h * w)
    most = held.amax(2, keepdim=True)
    hits = (held >= most / 2) & (most > 0)
    flat = maps.flatten(2)
    pointed = hits.gather(2, flat.argmax(2, keepdim=True))[..., 0] & (flat.amax(2) > flat.amin(2))
    count = (most[..., 0] > 0).sum(1).clamp(min=1)  # positions in which there is such a thing
    return pointed.sum(1) / count, hits.float().mean(2).sum(1) / count
