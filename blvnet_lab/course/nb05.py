"""Checks of notebook 05: two scores, one epoch of training, a learning-rate schedule."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Answer, Check, cases, deterministic
from blvnet_lab.course.inputs import rand
from blvnet_lab.course.verdicts import require, same


def _clips(logits: Sequence[Sequence[float]], *labels: int) -> tuple[Tensor, Tensor]:
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


check_top_k = Check(
    cases(
        "the class of the highest logit is a hit, for k = 2 that of the second highest, too",
        "logits.topk(k, dim=1).indices are the k highest of each clip; a hit counts 1",
        *((*_clips([[1, 3, 2]], label), k) for k in (1, 2, 3) for label in (1, 2, 0)),
    ),
    cases(
        "it is the share of clips, each of which is compared with its own label; logits that are "
        "all the same hit as often as a random guess",
        "labels[:, None] stands beside the k classes of each clip, (N, k); divide hits by clips",
        (*_clips([[1, 3, 2], [1, 3, 2]], 1, 0), 1),
        (*_clips([[3, 2, 1], [1, 2, 3]], 0, 2), 2),
        *((rand(60, 7), torch.arange(60) * 11 % 7, k) for k in (1, 3, 5)),
        (torch.zeros(4, 4), torch.arange(4), 1),
    ),
    by=solutions.top_k,
)


def _won(logits: Tensor, labels: Tensor, partners: Tensor) -> float:
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    pairs = [(row[label], row[partners[label]]) for row, label in rows]
    return sum((own > other) + (own == other) / 2 for own, other in pairs) / len(pairs)


OWN = "take two logits of every clip: logits[torch.arange(N), labels], and that of partners[labels]"
PARTNERS = torch.tensor([1, 0, 3, 2])
check_partner_accuracy = Check(
    cases(
        "a logit above that of the partner, partners[label], is a hit; no other class matters",
        f"{OWN}; no argmax, no softmax",
        *((*_clips([logits], 0), PARTNERS) for logits in ([2, 1, 0, 0], [1, 2, 0, 0])),
        (*_clips([[0, 900, 1, 2]], 3), PARTNERS),
        (*_clips([[2, 9, 1, 0]], 0), torch.tensor([2, 3, 0, 1])),
    ),
    cases(
        "a tie is half a hit; a difference is not a tie, however small",
        "count a hit where the difference is above 0, half a hit where it is 0",
        *((*_clips([[1, 1, 0, 0]], label), PARTNERS) for label in (0, 1)),
        *((*_clips([[1.000001, 1, 0, 0]], label), PARTNERS) for label in (0, 1)),
    ),
    cases(
        "it is the mean over clips, each with its own logits; every clip counts the same",
        f"{OWN}; then the mean over clips, not over classes",
        (*_clips([[2, 1, 0, 0], [0, 9, 0, 1]], 0, 3), PARTNERS),
        (*_clips([[2, 1], [2, 1], [2, 1]], 0, 0, 1), torch.tensor([1, 0])),
    ),
    by=_won,
)


class _Tiny(nn.Module):
    """A network for two numbers per clip and three classes; records the mode it is trained in."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.1, -0.2], [0.3, 0.0], [-0.1, 0.2]]))
        self.norm, self.modes = nn.BatchNorm1d(2, affine=False), []

    def forward(self, clips: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # computing an accuracy in evaluation mode is fine
            self.modes.append(self.training and self.norm.training)
        return clips.flatten(1) @ self.weight.t()

    def __repr__(self) -> str:
        return "a linear layer"


class _OfLoader(Tensor):
    """A tensor from the loader, which becomes an ordinary one when it is moved to a device.

    Until then it must not be combined with the network's results: on a GPU that is an error, which
    would go unnoticed on the CPU.
    """

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        given = [*args, *(kwargs or {}).values()]
        others = [x for x in given if isinstance(x, Tensor) and not isinstance(x, cls)]
        meets, found = any(x.requires_grad for x in others), "clips or labels that were not moved"
        require(not meets, found, "clips.to(device), labels.to(device)")
        result = super().__torch_function__(function, types, args, kwargs)
        moves = any(isinstance(x, torch.device) for x in given)
        return result.as_subclass(Tensor) if moves else result


def _epoch(train_epoch: Answer, *sizes: int, rate: float, momentum: float = 0) -> SimpleNamespace:
    """Train on batches of these sizes; return the resulting network, and what it should be."""
    clips, labels = rand(sum(sizes), 1, 1, 1, 2), torch.arange(sum(sizes)) * 2 % 3

    def collate(rows: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [torch.stack(part).as_subclass(_OfLoader) for part in zip(*rows, strict=True)]

    rows, own = TensorDataset(clips, labels), torch.Generator()
    loader = DataLoader(rows, sizes[0], collate_fn=collate, generator=own)
    device, steps = torch.device("cpu", 0), []
    network, ours = _Tiny().eval(), _Tiny()
    optimizer, other = (SGD(net.parameters(), rate, momentum) for net in (network, ours))
    loss = solutions.train_epoch(ours, loader, other, device)
    optimizer.register_step_post_hook(lambda *given: steps.append(given))
    got = train_epoch(network, loader, optimizer, device, changes=(network, optimizer))
    weight = ours.weight.detach()
    return SimpleNamespace(network=network, steps=steps, returned=got, loss=loss, weight=weight)


SIZES = (4,), (2, 2), (3, 1)  # of batches


def epoch_takes_each_batch_once(train_epoch: Answer) -> None:
    """each batch, the last, smaller one too, goes through the network once, on the device and in
    training mode, and makes one step of the given optimizer
    """
    for sizes in SIZES:
        epoch = _epoch(train_epoch, *sizes, rate=0.5)
        modes = epoch.network.modes
        found = f"{len(modes)} calls of the network with gradients, {len(epoch.steps)} steps"
        hint = "the step and the mean take the same loss; optimizer.step() once a batch"
        require({len(modes), len(epoch.steps)} == {len(sizes)}, found, hint)
        hint = "call network.train() before the loop: it tells all modules inside"
        require(all(modes), "its batch norm is asked in evaluation mode", hint)


def epoch_goes_down_the_gradient(train_epoch: Answer) -> None:
    """each step goes down the gradient of the mean cross-entropy of its own batch alone"""
    for sizes, rate, momentum in (((4,), 0.5, 0), ((2, 2, 2), 0.1, 0.9), ((4, 4, 4, 3), 0.2, 0.9)):
        epoch = _epoch(train_epoch, *sizes, rate=rate, momentum=momentum)
        hint = "zero_grad, backward, step: in this order; F.cross_entropy takes logits"
        same(epoch.network.weight.detach(), epoch.weight, hint)


def epoch_returns_the_mean_loss(train_epoch: Answer) -> None:
    """it returns the mean loss of all clips as a plain number, each taken before its step"""
    for sizes in SIZES:
        epoch = _epoch(train_epoch, *sizes, rate=0.5)
        hangs = isinstance(epoch.returned, Tensor) and epoch.returned.requires_grad
        hint = "loss.item() is the number: what is kept of every batch costs memory"
        require(not hangs, "a tensor that hangs on its graph", hint)
        hint = "add up loss.item() * len(labels), and divide by the number of clips"
        same(epoch.returned, epoch.loss, hint)


check_train_epoch = Check(
    epoch_takes_each_batch_once,
    epoch_goes_down_the_gradient,
    epoch_returns_the_mean_loss,
    deterministic(lambda train_epoch: _epoch(train_epoch, 4, rate=0.5).returned),
)

check_rate_at = Check(
    cases(
        "it rises by equal amounts, the first of them at step 0, to the peak at step warmup_steps",
        "peak * (step + 1) / (warmup_steps + 1)",
        *((0, 10, 0, 1.0), (4, 20, 4, 1.0), (0, 20, 4, 1.0), (1, 20, 4, 1.0), (3, 20, 4, 1.0)),
        *((step, 10, 8, 0.3) for step in range(8)),
    ),
    cases(
        "from the peak it falls as half a cosine does, to 0 at step total_steps",
        "peak * (1 + cos(pi * share)) / 2, where share is how much of the fall is over: "
        "(step - warmup_steps) / (total_steps - warmup_steps)",
        *((5, 10, 0, 1.0), (12, 20, 4, 1.0), (10, 10, 0, 1.0)),
        *((step, 30, 5, 0.3) for step in range(31)),
    ),
    by=solutions.rate_at,
)
