"""The checks of notebook 05: two scores, one epoch of training, a learning rate over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from blvnet_lab.course.checking import (
    ask,
    check,
    plain,
    require,
    require_chance_kept,
    same,
    state_of_chance,
)


def _floats(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@check
def check_top_k(top_k: Callable[[Tensor, Tensor, int], float]) -> str:
    """Checks `top_k(logits, labels, k)`: the share of clips whose class is among the k highest."""
    one = [[1.0, 3.0, 2.0]]
    axis = "logits.topk(k, dim=1).indices are the k highest of each clip"
    cases = [
        (one, [1], 1, 1, "the class of the highest logit is a hit, one of one: 1.0, no percentage"),
        (one, [2], 1, 0, "for k = 1 the second highest is no hit"),
        (one, [2], 2, 1, "for k = 2 the second highest is a whole hit"),
        (one, [1], 2, 1, "for k = 2 the highest is a hit, too"),
        (one, [0], 2, 0, "for k = 2 the third highest is no hit"),
        (one, [0], 3, 1, "among all classes, each one is found"),
        ([[-3.0, -1.0, -2.0]], [1], 1, 1, "logits may be negative"),
        ([*one, *one], [1, 0], 1, 0.5, "it is the share of clips: hits by clips"),
        (
            [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]],
            [0, 2],
            2,
            1,
            "every clip is compared with its own label, also for k clips",
        ),
    ]
    for logits, labels, k, wanted, broken in cases:
        of = f"logits = {logits}, labels = {labels}, k = {k}"
        hint = "labels[:, None] stands beside (N, k)" if len(labels) > 1 else axis
        got = ask(top_k, _floats(*logits), torch.tensor(labels), k, of=of)
        same(got, wanted, broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 7, dtype=torch.float32, generator=generator)
    labels = torch.randint(7, (60,), generator=generator)
    for k in (1, 3, 5):
        hits = [
            label in sorted(range(7), key=row.__getitem__)[-k:]
            for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        ]
        of = f"random logits (60, 7), k = {k}"
        got = ask(top_k, logits, labels, k, of=of)
        same(got, sum(hits) / 60, "it is the share of clips: hits by clips", of=of, hint=axis)
    of = "the logits of 4 clips all 0, labels = [0, 1, 2, 3], k = 1"
    broken = "logits that are all the same hit as often as chance: one class in four"
    hint = "choose k classes, and look whether the label is one of them"
    got = ask(top_k, _floats(*[[0.0] * 4] * 4), torch.arange(4), 1, of=of)
    same(got, 0.25, broken, of=of, hint=hint)
    return "one clip, two and sixty, k from 1 to 5, and logits that know nothing"


@check
def check_partner_accuracy(partner_accuracy: Callable[[Tensor, Tensor, Tensor], float]) -> str:
    """Checks `partner_accuracy(logits, labels, partners)`: how often a class beats its partner."""
    pairs, others = [1, 0, 3, 2], [2, 3, 0, 1]
    own = "logits[torch.arange(N), labels] is each clip's logit of its class"
    near = "a difference is no tie, however small it is"
    half = "count a hit where the difference is above 0, half a hit where it is 0"
    cases = [
        ([[2, 1, 0, 0]], [0], pairs, 1, "a higher logit than the partner's is a whole hit", own),
        ([[1, 2, 0, 0]], [0], pairs, 0, "a lower logit than the partner's is no hit", own),
        ([[0, 0, 1, 2]], [3], pairs, 1, "the partner of a class is partners[label]", own),
        (
            [[2, 1, 900, 0]],
            [0],
            pairs,
            1,
            "only the class and its partner count, whatever the others get",
            "no argmax, no softmax: take two logits of every clip",
        ),
        (
            [[2, 9, 1, 0]],
            [0],
            others,
            1,
            "the partner of a class is partners[label]",
            "partners[labels]; that partners are neighbours is no rule",
        ),
        ([[1, 1, 0, 0]], [0], pairs, 0.5, "a tie is half a hit: the toss of a coin", half),
        ([[1, 1, 0, 0]], [1], pairs, 0.5, "a tie is half a hit: the toss of a coin", half),
        ([[1.000001, 1, 0, 0]], [0], pairs, 1, near, half),
        ([[1.000001, 1, 0, 0]], [1], pairs, 0, near, half),
        (
            [[2, 1, 0, 0], [0, 9, 0, 1]],
            [0, 3],
            pairs,
            1,
            "every clip is judged by its own logits",
            own,
        ),
        (
            [[2, 1, 0, 0], [2, 1, 0, 0], [2, 1, 0, 0], [2, 1, 0, 0]],
            [0, 0, 0, 1],
            pairs,
            0.75,
            "every clip counts the same, not every class",
            "the mean over clips",
        ),
    ]  # fmt: skip
    for logits, labels, partners, wanted, broken, hint in cases:
        of = f"logits = {logits}, labels = {labels}, partners = {partners}"
        given = (_floats(*logits), torch.tensor(labels), torch.tensor(partners))
        same(ask(partner_accuracy, *given, of=of), wanted, broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(3, (50, 6), generator=generator).float()  # with ties
    labels = torch.randint(6, (50,), generator=generator)
    partners = torch.tensor([5, 4, 3, 2, 1, 0])
    hits = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits += (1 + (row[label] > row[5 - label]) - (row[label] < row[5 - label])) / 2
    of = "logits of 50 clips and 6 classes, many of them equal"
    broken = "it is the mean over clips of hits and half hits"
    got = ask(partner_accuracy, logits, labels, partners, of=of)
    same(got, hits / 50, broken, of=of, hint=half)
    return "hits, misses and ties of one clip, other partners, batches, other classes in between"


# ---------------------------------------------------------------- one epoch


class _Norm(nn.BatchNorm1d):
    """A batch norm that changes nothing; notes in which mode it learns."""

    def __init__(self):
        super().__init__(2, affine=False, track_running_stats=False)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # who only looks at an accuracy may do so in evaluation mode
            self.modes.append(self.training)
        return x


# The checks' device is the CPU, so that they say the same everywhere. With its number it differs
# from "cpu", and who writes that instead of `device` is found.
_DEVICE = torch.device("cpu", 0)


def _is_there(place: Any) -> bool:
    """Whether a thing that `.to` is given stands for this device or, as a dtype, for none."""
    if isinstance(place, str):
        return place == str(_DEVICE)
    return not isinstance(place, torch.device) or place.type == _DEVICE.type


class _Tiny(nn.Module):
    """Two numbers a clip, three classes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.1, -0.2], [0.3, 0.0], [-0.1, 0.2]]))
        self.norm = _Norm()
        self.moved = False

    def to(self, *args: Any, **kwargs: Any) -> _Tiny:
        self.moved |= not all(map(_is_there, (*args, *kwargs.values())))
        return super().to(*args, **kwargs)

    def cpu(self) -> _Tiny:
        return self.to("cpu")

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(clips.flatten(1)) @ self.weight.t()


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
        places = [x for x in given[1:] if isinstance(x, (str, torch.device, Tensor))]
        if function == Tensor.to and places and all(map(_is_there, places)):
            return result.as_subclass(Tensor)
        if any(isinstance(x, Tensor) and not isinstance(x, cls) and x.requires_grad for x in given):
            mine = [x for x in given if isinstance(x, cls)]
            cls.left |= {"clips" if x.is_floating_point() else "labels" for x in mine}
        return result


def _loader(clips: Tensor, labels: Tensor, batch_size: int) -> DataLoader:
    def collate(rows: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [torch.stack(part).as_subclass(_OfLoader) for part in zip(*rows, strict=True)]

    own = torch.Generator()  # so that it leaves the chance that all share as it is
    return DataLoader(TensorDataset(clips, labels), batch_size, collate_fn=collate, generator=own)


def _trained_by_hand(
    weight: Tensor, batches: Iterable[tuple[Tensor, Tensor]], rate: float, momentum: float
) -> tuple[Tensor, float]:
    """The weights after SGD with the gradient written out, and the mean loss over all clips."""
    total, clips_seen, velocity = 0.0, 0, torch.zeros_like(weight)
    for clips, labels in batches:
        x, clips_now = clips.flatten(1), len(labels)
        shares = torch.softmax(x @ weight.t(), dim=1)
        total -= shares[torch.arange(clips_now), labels].log().sum().item()
        clips_seen += clips_now
        gradient = (shares - torch.eye(3, dtype=torch.float32)[labels]).t() @ x / clips_now
        velocity = momentum * velocity + gradient
        weight = weight - rate * velocity
    return weight, total / clips_seen


@check
def check_train_epoch(
    train_epoch: Callable[[nn.Module, Iterable, Optimizer, torch.device], float],
) -> str:
    """Checks `train_epoch(network, loader, optimizer, device)`: a step a batch, the mean loss."""
    own = "it steps down the gradient of the mean cross-entropy of the logits"
    alone = "each step is made with the gradient of its own batch alone"
    cases = [
        ((4,), 0.5, 0.0, own, "F.cross_entropy(network(clips), labels): it takes logits"),
        ((2, 2), 0.5, 0.0, alone, "gradients add up until optimizer.zero_grad() is called"),
        ((2, 2, 2), 0.1, 0.9, alone, "optimizer.zero_grad() before each loss.backward()"),
        (
            (3, 1),
            0.5,
            0.0,
            "the last, smaller batch is trained on, too",
            "go through the loader to its end",
        ),
        ((4, 4, 4, 3), 0.2, 0.9, alone, "optimizer.zero_grad() before each loss.backward()"),
    ]
    for sizes, rate, momentum, broken, hint in cases:
        these = "a batch of" if len(sizes) == 1 else "batches of"
        of = f"{these} {', '.join(map(str, sizes))} clips, SGD({rate}, momentum={momentum})"
        network, steps = _Tiny().eval(), []
        generator = torch.Generator().manual_seed(0)
        clips = torch.randn(sum(sizes), 1, 1, 1, 2, generator=generator)
        labels = torch.randint(3, (sum(sizes),), generator=generator)
        optimizer = SGD(network.parameters(), rate, momentum)
        optimizer.register_step_post_hook(lambda *_, steps=steps: steps.append(1))
        before = network.weight.detach().clone()
        batches = zip(clips.split(sizes), labels.split(sizes), strict=True)
        weight, loss = _trained_by_hand(before, batches, rate, momentum)

        chance = state_of_chance()
        _OfLoader.left.clear()
        loader = _loader(clips, labels, sizes[0])
        given = (network, loader, optimizer, _DEVICE)
        got = ask(train_epoch, *given, of=of, changes=(network, optimizer))
        after, modes = network.weight.detach().cpu(), network.norm.modes
        require(
            bool(modes),
            "each batch goes through the network once",
            of=of,
            found="no call of the network with gradients",
            hint="network(clips) for each batch of the loader, without torch.no_grad()",
        )
        require(
            all(modes),
            "the network is in training mode: dropout and batch norm do other things in evaluation",
            of=of,
            found="its batch norm is asked in evaluation mode",
            hint="call network.train() before the loop: it tells all modules inside",
        )
        require(
            bool(steps) or torch.equal(after, before),
            "it is the given optimizer that steps",
            of=of,
            found="other weights, but no step of the optimizer",
            hint="optimizer.step(): it has its own learning rate, and a memory (momentum)",
        )
        require(
            len(steps) == len(sizes),
            "every batch makes one step, the last, smaller one too",
            of=of,
            found=f"steps of the optimizer: {len(steps)}, batches: {len(sizes)}",
            hint="call optimizer.step() in the loop, once for each batch",
        )
        require(
            len(modes) == len(sizes),
            "each batch goes through the network once",
            of=of,
            found=f"calls of the network with gradients: {len(modes)}, batches: {len(sizes)}",
            hint="the step and the mean take the same loss: keep it in a name",
        )
        require(
            not _OfLoader.left,
            "clips and labels are moved to the device, where the network is",
            of=of,
            found=f"{' and '.join(sorted(_OfLoader.left))} where the loader left them",
            hint="clips.to(device), labels.to(device)",
        )
        require(
            not network.moved,
            "the network stays on the device",
            of=of,
            found="a network that is moved elsewhere",
            hint="move clips and labels, not the network",
        )
        require(
            not torch.equal(after, before),
            "every step changes the weights",
            of=of,
            found="the weights as they were",
            hint="zero_grad, backward, step: in this order",
        )
        same(after, weight, broken, of=of, hint=hint)
        broken = "chance is left alone: otherwise dropout would be the same in every epoch"
        require_chance_kept(chance, broken, of=of, hint="seed nothing in here")
        _check_loss(got, loss, sizes, of)
    return "weights and loss after 1 to 4 batches, also with momentum and a last smaller batch"


def _check_loss(got: object, wanted: float, sizes: Sequence[int], of: str) -> None:
    is_hanging = isinstance(got, Tensor) and got.requires_grad
    broken = "it returns a plain number, not a tensor that hangs on its graph"
    hint = "loss.item() is the number: what is kept of every batch costs memory"
    require(not is_hanging, broken, of=of, found="a tensor that requires grad", hint=hint)
    if len(sizes) == 1:
        broken = "the loss of a batch is taken before its step"
        hint = "return what F.cross_entropy gave for the step"
    elif len(set(sizes)) == 1:
        broken = "it returns the mean over all batches"
    else:
        broken = "every clip counts the same in the mean: a smaller batch counts less"
    if len(sizes) > 1:
        hint = "add up loss.item() * len(labels), and divide by the number of clips"
    same(got, wanted, broken, of=of, hint=hint)


# ---------------------------------------------------------------- a learning rate over time


@check
def check_rate_at(rate_at: Callable[[int, int, int, float], float]) -> str:
    """Checks `rate_at(step, total_steps, warmup_steps, peak)`: a linear rise, half a cosine down.

    The peak is at step `warmup_steps`; from there the rate falls, to 0 at `total_steps`.
    """
    rise = "peak * (step + 1) / (warmup_steps + 1)"
    fall = "peak * (1 + cos(pi * share)) / 2, where share is how much of the fall is over"
    share = "(step - warmup_steps) / (total_steps - warmup_steps)"
    half = "half-way down it is half the peak"
    rises = "the warm-up rises by equal amounts, up to the peak at step warmup_steps"
    cases = [
        (0, 10, 0, 1.0, 1.0, "without a warm-up it begins with the peak", fall),
        (5, 10, 0, 1.0, 0.5, half, fall),
        (2, 8, 0, 1.0, 0.5 + 0.5**1.5, "it falls along a cosine: slowly at first", fall),
        (5, 10, 0, 0.4, 0.2, "the rate is in proportion to the peak", "multiply by peak"),
        (4, 20, 4, 1.0, 1.0, "the peak is at step warmup_steps", f"share is {share}"),
        (0, 20, 4, 1.0, 0.2, rises, rise),
        (1, 20, 4, 1.0, 0.4, rises, rise),
        (3, 20, 4, 1.0, 0.8, rises, rise),
        (12, 20, 4, 1.0, 0.5, f"{half}, counted from the end of the warm-up", f"share is {share}"),
        (0, 20, 4, 0.4, 0.08, "the rate is in proportion to the peak, also in the warm-up", rise),
    ]
    nothing = "one step after the last it has come down to 0"
    cases += [
        (2, 4, 3, 1.0, 0.75, "a warm-up may be longer than the fall", rise),
        (10, 10, 0, 1.0, 0.0, nothing, f"share is {share}"),
        (20, 20, 4, 1.0, 0.0, nothing, f"share is {share}"),
    ]
    for step, total, warmup, peak, wanted, broken, hint in cases:
        of = f"step {step} of {total}, {warmup} of them warm-up, peak = {peak}"
        got = ask(rate_at, step, total, warmup, peak, of=of)
        if step == 0:
            wasted = "the first step has a rate already: none is wasted"
            require(plain(got) != 0, wasted, of=of, found="0", hint=rise)
        same(got, wanted, broken, of=of, hint=hint)

    for total, warmup in ((12, 0), (10, 8), (30, 5), (100, 7)):
        optimizer = SGD([torch.zeros(1, requires_grad=True)], 0.3)
        cosine = CosineAnnealingLR(optimizer, total - warmup)
        for step in range(total):
            wanted = cosine.get_last_lr()[0] if step >= warmup else 0.3 * (step + 1) / (warmup + 1)
            of = f"step {step} of {total}, {warmup} of them warm-up, peak = 0.3"
            broken, hint = "it is what PyTorch's CosineAnnealingLR gives after the warm-up", fall
            if step < warmup:
                broken, hint = rises, rise
            same(ask(rate_at, step, total, warmup, 0.3, of=of), wanted, broken, of=of, hint=hint)
            if step >= warmup:
                optimizer.step()
                cosine.step()
    return "rise and fall with and without a warm-up, and PyTorch's CosineAnnealingLR for 4 lengths"
