"""The checks of notebook 05: two scores, one epoch of training, a learning rate over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from blvnet_lab.course.checking import Answer, Check, cases, rand, require, same


def _floats(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def _hits(logits: Tensor, labels: Tensor, k: int) -> float:
    hits = [
        label in sorted(range(len(row)), key=row.__getitem__)[-k:]
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    return sum(hits) / len(hits)


ONE = _floats([1, 3, 2])
MANY = rand(60, 7), torch.arange(60) * 11 % 7
check_top_k = Check(
    "top_k",
    cases(
        "the class of the highest logit is a hit, for k = 2 that of the second highest, too",
        "logits.topk(k, dim=1).indices are the k highest of each clip; a hit counts 1",
        *((ONE, torch.tensor([label]), k) for k in (1, 2, 3) for label in (1, 2, 0)),
        (_floats([-3, -1, -2]), torch.tensor([1]), 1),
        by=_hits,
    ),
    cases(
        "it is the share of clips, each of which is compared with its own label",
        "labels[:, None] stands beside (N, k); divide the hits by the clips",
        (_floats([1, 3, 2], [1, 3, 2]), torch.tensor([1, 0]), 1),
        (_floats([3, 2, 1], [1, 2, 3]), torch.tensor([0, 2]), 2),
        *((*MANY, k) for k in (1, 3, 5)),
        by=_hits,
    ),
    cases(
        "logits that are all the same hit as often as a random guess: one class in four",
        "choose k classes, and look whether the label is one of them",
        (torch.zeros(4, 4), torch.arange(4), 1, 0.25),
    ),
)


def _partners(*examples: tuple, partners: Sequence[int] = (1, 0, 3, 2)) -> list[tuple]:
    """Make examples of (logits of one clip, its label, what is wanted)."""
    return [
        (_floats(logits), torch.tensor([label]), torch.tensor(partners), float(wanted))
        for logits, label, wanted in examples
    ]


OWN = "take two logits of every clip: logits[torch.arange(N), labels], and that of partners[labels]"
check_partner_accuracy = Check(
    "partner_accuracy",
    cases(
        "a higher logit than that of the partner, partners[label], is a whole hit; no other counts",
        f"{OWN}; no argmax, no softmax",
        *_partners(([2, 1, 0, 0], 0, 1), ([1, 2, 0, 0], 0, 0), ([0, 0, 1, 2], 3, 1)),
        *_partners(([2, 1, 900, 0], 0, 1)),
        *_partners(([2, 9, 1, 0], 0, 1), partners=(2, 3, 0, 1)),
    ),
    cases(
        "a tie is half a hit, but a difference is no tie, however small it is",
        "count a hit where the difference is above 0, half a hit where it is 0",
        *_partners(([1, 1, 0, 0], 0, 0.5), ([1, 1, 0, 0], 1, 0.5)),
        *_partners(([1.000001, 1, 0, 0], 0, 1), ([1.000001, 1, 0, 0], 1, 0)),
    ),
    cases(
        "it is the mean over clips, each with its own logits; every clip counts the same",
        f"{OWN}; then the mean over clips, not over classes",
        (
            _floats([2, 1, 0, 0], [0, 9, 0, 1]),
            torch.tensor([0, 3]),
            torch.tensor([1, 0, 3, 2]),
            1.0,
        ),
        (_floats([2, 1], [2, 1], [2, 1]), torch.tensor([0, 0, 1]), torch.tensor([1, 0]), 2 / 3),
    ),
)


class _Tiny(nn.Module):
    """Two numbers a clip, three classes; notes in which mode it learns."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.1, -0.2], [0.3, 0.0], [-0.1, 0.2]]))
        self.norm, self.modes = nn.BatchNorm1d(2, affine=False), []

    def forward(self, clips: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # who only looks at an accuracy may do so in evaluation mode
            self.modes.append(self.training and self.norm.training)
        return clips.flatten(1) @ self.weight.t()

    def __repr__(self) -> str:
        return "a linear layer"


class _OfLoader(Tensor):
    """What the loader gives. It notes what a GPU would stop at: that it meets what the network has
    made before it has been moved to the device. (On the CPU all goes well.)
    """

    left: ClassVar[set[str]] = set()  # of clips and labels, what has not been moved

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        given = [*args, *(kwargs or {}).values()]
        result = super().__torch_function__(function, types, args, kwargs)
        has_device = any(isinstance(x, torch.device) for x in given)
        if has_device and function in (Tensor.to, torch.as_tensor):
            return result.as_subclass(Tensor)
        if any(isinstance(x, Tensor) and not isinstance(x, cls) and x.requires_grad for x in given):
            mine = [x for x in given if isinstance(x, cls)]
            cls.left |= {"clips" if x.is_floating_point() else "labels" for x in mine}
        return result


class _Epoch:
    """What has become of a network, beside the same worked out by hand."""

    def __init__(self, train_epoch: Answer, *sizes: int, rate: float, momentum: float = 0) -> None:
        clips, labels = rand(sum(sizes), 1, 1, 1, 2), torch.arange(sum(sizes)) * 2 % 3
        network, self.steps = _Tiny().eval(), 0
        self.weight, self.loss, velocity = network.weight.detach().clone(), 0.0, 0.0
        for x, y in zip(clips.flatten(1).split(sizes), labels.split(sizes), strict=True):
            shares = torch.softmax(x @ self.weight.t(), dim=1)
            self.loss -= shares[torch.arange(len(y)), y].log().sum().item() / sum(sizes)
            gradient = (shares - torch.eye(3)[y]).t() @ x / len(y)
            velocity = momentum * velocity + gradient
            self.weight = self.weight - rate * velocity

        def collate(rows: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
            return [torch.stack(part).as_subclass(_OfLoader) for part in zip(*rows, strict=True)]

        def count(*_: Any) -> None:
            self.steps += 1

        rows, own = TensorDataset(clips, labels), torch.Generator()
        loader = DataLoader(rows, sizes[0], collate_fn=collate, generator=own)
        optimizer = SGD(network.parameters(), rate, momentum)
        optimizer.register_step_post_hook(count)
        _OfLoader.left.clear()
        given = (network, loader, optimizer, torch.device("cpu", 0))  # another name than "cpu"
        self.returned = train_epoch(*given, changes=(network, optimizer))
        self.after, self.modes = network.weight.detach(), network.modes


SIZES = (4,), (2, 2), (3, 1)  # of batches


def epoch_takes_each_batch_once(train_epoch: Answer) -> None:
    """each batch, the last, smaller one too, goes through the network once, on the device and in
    training mode, and makes one step of the given optimizer
    """
    for sizes in SIZES:
        epoch = _Epoch(train_epoch, *sizes, rate=0.5)
        found = f"{len(epoch.modes)} calls of the network with gradients, {epoch.steps} steps"
        hint = "the step and the mean take the same loss; optimizer.step() once a batch"
        require({len(epoch.modes), epoch.steps} == {len(sizes)}, found, hint)
        hint = "call network.train() before the loop: it tells all modules inside"
        require(all(epoch.modes), "its batch norm is asked in evaluation mode", hint)
        found = f"{' and '.join(sorted(_OfLoader.left))} where the loader left them"
        require(not _OfLoader.left, found, "clips.to(device), labels.to(device)")


def epoch_goes_down_the_gradient(train_epoch: Answer) -> None:
    """each step goes down the gradient of the mean cross-entropy of its own batch alone"""
    for sizes, rate, momentum in (((4,), 0.5, 0), ((2, 2, 2), 0.1, 0.9), ((4, 4, 4, 3), 0.2, 0.9)):
        epoch = _Epoch(train_epoch, *sizes, rate=rate, momentum=momentum)
        hint = "zero_grad, backward, step: in this order; F.cross_entropy takes logits"
        same(epoch.after, epoch.weight, hint)


def epoch_returns_the_mean_loss(train_epoch: Answer) -> None:
    """it returns the mean loss of all clips as a plain number, each taken before its step"""
    for sizes in SIZES:
        epoch = _Epoch(train_epoch, *sizes, rate=0.5)
        hangs = isinstance(epoch.returned, Tensor) and epoch.returned.requires_grad
        hint = "loss.item() is the number: what is kept of every batch costs memory"
        require(not hangs, "a tensor that hangs on its graph", hint)
        hint = "add up loss.item() * len(labels), and divide by the number of clips"
        same(epoch.returned, epoch.loss, hint)


def epoch_keeps_rng(train_epoch: Answer) -> None:
    """the global random state is left alone, or dropout would be the same in every epoch"""
    _Epoch(train_epoch.keeps_rng, 4, rate=0.5)


check_train_epoch = Check(
    "train_epoch",
    epoch_takes_each_batch_once,
    epoch_goes_down_the_gradient,
    epoch_returns_the_mean_loss,
    epoch_keeps_rng,
)


def _rate(step: int, total: int, warmup: int, peak: float) -> float:
    """Work out the rate, of the fall by PyTorch's own schedule."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], peak)
    cosine = CosineAnnealingLR(optimizer, total - warmup)
    for _ in range(step - warmup):
        optimizer.step()
        cosine.step()
    return cosine.get_last_lr()[0]


check_rate_at = Check(
    "rate_at",
    cases(
        "it rises by equal amounts, the first of them at step 0, to the peak at step warmup_steps",
        "peak * (step + 1) / (warmup_steps + 1)",
        *((0, 10, 0, 1.0), (4, 20, 4, 1.0), (0, 20, 4, 1.0), (1, 20, 4, 1.0), (3, 20, 4, 1.0)),
        *((0, 20, 4, 0.4), (2, 4, 3, 1.0)),
        *((step, 10, 8, 0.3) for step in range(8)),
        by=_rate,
    ),
    cases(
        "from the peak it falls as half a cosine does, to 0 at step total_steps",
        "peak * (1 + cos(pi * share)) / 2, where share is how much of the fall is over: "
        "(step - warmup_steps) / (total_steps - warmup_steps)",
        *((5, 10, 0, 1.0), (2, 8, 0, 1.0), (5, 10, 0, 0.4), (12, 20, 4, 1.0), (10, 10, 0, 1.0)),
        *((step, 30, 5, 0.3) for step in range(31)),
        by=_rate,
    ),
)
