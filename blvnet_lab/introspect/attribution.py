"""Where and when: a logit split exactly among places and positions, and heat maps with controls.

    maps = evidence(model, clips, labels)                    # (B, P, h, w)
    maps.sum((1, 2, 3))                                      # the labels' logits
    maps.sum((2, 3))                                         # the same, pair by pair
    evidence(model, clips, right, minus=left)                # evidence for one against the other

    drawn = grad_cam(model, clips, labels, "stage3.out")     # or integrated_gradients(...)
    drawn.maps                                               # (B, P, h, w)
    drawn.similarity()["random weights"]                     # (B,), 1: it shows nothing learned

The networks end with a mean over positions and places and a linear classifier. Both are linear, so
the classifier can just as well be applied at every place before the mean: a class activation map
(Zhou et al., CVPR 2016) whose numbers add up. They say what the *last* maps hold at a place, not
which pixels put it there: every place has seen a large part of the picture, and other frames.

A map that looks right may only show where there is something to see, and nothing of the model. So
every method of drawing also draws with the weights in random order (after Adebayo et al., NeurIPS
2018), and with the frames shuffled, its maps then put back in order; several times, since one
shuffle is an anecdote. A map that stays the same without anything learned, or without the order of
the frames, explains neither.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from blvnet_lab.introspect.capture import capture, evaluating
from blvnet_lab.models import VideoNet
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.progress import tqdm

MAX_STEPS = 1024
AT_ONCE = 8  # steps computed together, few enough for long clips to fit into memory

Labels = int | Tensor  # one for all clips, or (B,)


def evidence(model: VideoNet, clips: Tensor, labels: Labels, minus: Labels | None = None) -> Tensor:
    """Split the labels' logits into contributions of every position in time and every place.

    The classifier's bias is divided evenly. Computed in eval mode, and from the last maps on in
    float32 or better; the result is on the CPU.

    Args:
        clips: (B, T, C, H, W).
        labels: the classes whose logits are split.
        minus: the classes whose logits are subtracted from them.

    Returns:
        (B, P, h, w): P pairs or frames, at the size of the maps of `stage4.out`. The sum over a
        clip is its logit, or the difference of the two.
    """
    network = network_of(model)
    with torch.no_grad(), evaluating(network), capture(network, "stage4.out") as cache:
        network(clips.to(next(network.parameters())))
    features = cache["stage4.out"]  # (B, P, C, h, w)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    weight, bias = (part.detach().to(features) for part in network.classifier.parameters())
    asked = asked_of(network, clips, labels, minus).to(features)
    with torch.autocast(features.device.type, enabled=False):
        answers = torch.einsum("bpchw,bc->bphw", features, asked @ weight)
        answers += (asked @ bias)[:, None, None, None]
    return (answers / answers.shape[1:].numel()).cpu()


def asked_of(model: VideoNet, clips: Tensor, labels: Labels, minus: Labels | None) -> Tensor:
    """Make weights for logits (B, num_classes): 1 for a clip's label, -1 for its `minus`."""

    def one_hot(labels: Labels) -> Tensor:
        each, count = torch.as_tensor(labels, device="cpu"), model.classifier.out_features
        if not ((each >= 0) & (each < count) & (each == each.long())).all():
            raise ValueError(f"expected labels from 0 to {count - 1}, got {each.tolist()}")
        return F.one_hot(each.long().expand(len(clips)), count)

    asked = one_hot(labels) if minus is None else one_hot(labels) - one_hot(minus)
    return asked.to(next(model.parameters()))


@dataclass(frozen=True)
class Attribution:
    """A method's maps, and what it draws where there is nothing to explain."""

    maps: Tensor  # (B, positions, h, w), on the CPU
    # Name to repeated maps, (repeats, B, positions, h, w). "frames shuffled" has a map per frame in
    # the clip's order, to be compared with `maps.repeat_interleave(T // positions, 1)`.
    controls: dict[str, Tensor]

    def similarity(self) -> dict[str, Tensor]:
        """Correlate the ranks of each clip's map and its controls (Spearman): (B,) in -1 to 1.

        Averaged over the repeats; NaN if a map, or every control, is constant.
        """
        found = {}
        for name, control in self.controls.items():
            own = _ranks(self.maps.repeat_interleave(control.shape[2] // self.maps.shape[1], 1))
            each = [torch.tensor(own.corrwith(_ranks(other)).to_numpy()) for other in control]
            found[name] = torch.stack(each).nanmean(0)
        return found


def _ranks(maps: Tensor) -> pd.DataFrame:  # equal numbers get their mean rank
    return pd.DataFrame(maps.detach().flatten(1).T.cpu().numpy()).rank()


@torch.inference_mode(False)  # inference mode has no gradients
def with_controls(draw: Callable, model: VideoNet, clips: Tensor, repeats: int = 3) -> Attribution:
    """Draw maps, and draw them again with random weights, and for clips with shuffled frames.

    Args:
        draw: maps a model and clips to maps (B, positions, h, w), such as
            `lambda model, clips: evidence(model, clips, labels)`.
        repeats: of the controls, each with other weights and another order of frames, since a
            single one may resemble the map by accident. 0 draws the maps alone.
    """
    model, clips = network_of(model), clips.detach().clone()
    maps, controls = draw(model, clips), {"random weights": [], "frames shuffled": []}
    for seed in range(repeats):
        order = torch.randperm(clips.shape[1], generator=torch.Generator().manual_seed(seed))
        if order.equal(order.sort()[0]):  # few frames may be left in order
            order = order.flip(0)
        moved = draw(model, clips[:, order])
        moved = moved.repeat_interleave(clips.shape[1] // moved.shape[1], 1)  # (B, T, h, w)
        controls["frames shuffled"].append(moved[:, order.argsort()])
        controls["random weights"].append(draw(random_weights(model, seed), clips))
    return Attribution(maps, {name: torch.stack(each) for name, each in controls.items() if each})


def random_weights(model: VideoNet, seed: int = 0) -> VideoNet:
    """Copy a model and shuffle the numbers within each learned weight; statistics stay."""
    model, generator = copy.deepcopy(network_of(model)), torch.Generator().manual_seed(seed)
    is_shift = model.architecture == "tsm"  # its taps are not learned
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
    """Weigh the channels at a capture point by their mean gradients, and cut negative values.

    Grad-CAM (Selvaraju et al., ICCV 2017), with the mean over time as well as places. At
    `stage4.out` it is the positive part of `evidence` without the bias: there gradients are the
    classifier's weights, divided among positions and places. The point is one of
    `capture_points(model)`, but not `classifier`; the rest as in `evidence` and `with_controls`.
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
    """Replace all frames by their mean, which gives a still clip."""
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
    """Integrate gradients along the straight path from a baseline to the clip, pixel by pixel.

    Integrated gradients (Sundararajan et al., ICML 2017), (B, T, H, W), summed over colours. The
    numbers of a clip add up to its logit minus the baseline's (*completeness*). The number of steps
    is doubled until they do, to `tolerance` of the difference (or of 1, if that is larger);
    ValueError if they do not in 1,024 steps.

    `baseline` maps clips to the starts of the paths: zeros are the mean colour of the data,
    `mean_frame` asks what the motion adds. The rest as in `evidence` and `with_controls`.
    """

    def draw(model: VideoNet, clips: Tensor) -> Tensor:
        clips = clips.to(next(model.parameters()))
        ways = zip(baseline(clips), clips, asked_of(model, clips, labels, minus), strict=True)
        maps = torch.zeros(clips.shape[:2] + clips.shape[3:])
        for i, way in enumerate(tqdm(ways, "integrating gradients", len(clips), leave=False)):
            count, gap = steps, torch.inf
            while not gap <= tolerance:  # true for NaN, too
                if count > MAX_STEPS:
                    raise ValueError(
                        f"expected the map of clip {i} to add up to {tolerance:.0%} of the logits' "
                        f"difference in {MAX_STEPS} steps, got one that does not: raise tolerance"
                    )
                maps[i], difference = _along(model, *way, count)
                gap = (maps[i].sum() - difference).abs() / difference.abs().clamp(min=1)
                count *= 2
        return maps

    return with_controls(draw, model, clips, repeats)


def _along(
    model: VideoNet, start: Tensor, end: Tensor, asked: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Integrate gradients between clips (T, C, H, W): (T, H, W), and what they should add up to."""
    # In half precision, the last of many steps would be too small to be added.
    precise = torch.promote_types(end.dtype, torch.float32)
    step, total = (end - start).to(precise) / count, torch.zeros_like(end, dtype=precise)
    middles = torch.arange(count, dtype=precise, device=end.device) + 0.5
    with torch.enable_grad(), evaluating(model):
        for some in middles.split(AT_ONCE):
            clips = (start + some[:, None, None, None, None] * step).to(end).requires_grad_()
            (gradient,) = torch.autograd.grad((model(clips) * asked).sum(), clips)
            total += gradient.sum(0, dtype=precise)
        first, last = (model(torch.stack([start, end])) * asked).sum(1).detach()
    return (total * step).sum(1).float().cpu(), (last - first).float().cpu()


def pointing_game(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Ask whether maps peak on an object: the share of hits, and that of random points, (B,) each.

    After Zhang et al. (ECCV 2016), but at the map's resolution, so that coarse and fine maps can be
    compared: a cell is a hit if it holds at least half as much of the object as the cell that holds
    most. The second number is the share of such cells.

    Args:
        maps: (B, positions, h, w). A constant map, which has no peak, never hits.
        masks: (B, T, H, W) bool, where the object is; for a pair, in either frame.

    Raises ValueError if the masks do not fit the maps.
    """
    positions, size = maps.shape[1], maps.shape[-2:]
    if masks.ndim != 4 or len(masks) != len(maps) or masks.shape[1] % positions:
        raise ValueError(
            f"expected masks (B, T, H, W) for maps {tuple(maps.shape)}, got {tuple(masks.shape)}"
        )
    seen = masks.unflatten(1, (positions, -1)).any(2).float()
    held = F.adaptive_avg_pool2d(seen, size).flatten(2)  # (B, positions, h * w)
    most = held.amax(2, keepdim=True)
    hits, flat = (held >= most / 2) & (most > 0), maps.flatten(2)
    pointed = hits.gather(2, flat.argmax(2, keepdim=True))[..., 0] & (flat.amax(2) > flat.amin(2))
    count = hits.any(2).sum(1).clamp(min=1)  # positions that show the object
    return pointed.sum(1) / count, hits.float().mean(2).sum(1) / count
