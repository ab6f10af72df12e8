"""Where and when: split a logit exactly into a sum over time and place.

    maps = evidence(model, clips, labels)                    # (B, P, h, w)
    maps.sum((1, 2, 3))                                      # the labels' logits
    maps.sum((2, 3))                                         # the same, pair by pair
    evidence(model, clips, right, minus=left)                # evidence for one against the other

The networks end with a mean over positions and places and a linear classifier. Both are linear, so
the classifier can just as well be applied at every place before the mean: a class activation map
(Zhou et al., CVPR 2016) whose numbers add up. They say what the *last* maps hold at a place, not
which pixels put it there: every place has seen a large part of the picture, and other frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from blvnet_lab.introspect.capture import capture, evaluating
from blvnet_lab.models import VideoNet
from blvnet_lab.models.wrapped import network_of

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
