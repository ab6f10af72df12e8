"""The checks of notebook 08: hooks that leave by themselves, and controls that could fail."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from blvnet_lab.exercises.checking import Wrong, ask, check, kind, require, same, told


class _Times(nn.Module):
    """Multiplies by a number that could be learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class _ReluInPlace(nn.Module):
    """What the library does without: it overwrites what a hook before it has kept."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(min=0)


def _network() -> nn.Sequential:
    """`first` doubles, `block.inner` makes negative numbers 0, in place, `last` triples."""
    block = nn.Sequential(OrderedDict(inner=_ReluInPlace()))
    return nn.Sequential(OrderedDict(first=_Times(2), block=block, last=_Times(3)))


NETWORK = "first: 2 x, block.inner: ReLU in place, last: 3 x"
X = torch.tensor([1.0, -1.0], dtype=torch.float64)


class _Interrupted(Exception):
    """What goes wrong inside the `with`."""


def _open(answer: Callable, *given: Any, of: str) -> AbstractContextManager:
    block = ask(answer, *given, of=of)
    require(
        hasattr(block, "__enter__")
        and hasattr(block, "__exit__")
        and isinstance(getattr(block, "gen", iter(())), Iterator),  # of @contextmanager
        "it can stand after `with`",
        of=of,
        found=f"{kind(block)}, perhaps without a `yield`",
        hint="keep the line @contextmanager above it, and `yield` where the inside of `with` runs",
    )
    return block


def _within(answer: Callable, *given: Any, run: Callable[[Any], None], of: str) -> Any:
    """Run `run` inside the learner's `with`, and return what stands after `as`.

    The body of a function with @contextmanager runs no sooner than there.
    """
    block = _open(answer, *given, of=of)
    kept = []

    @functools.wraps(answer)  # so that errors tell a line of the learner's function
    def inside() -> None:
        with block as value:
            kept.append(value)
            run(value)

    ask(inside, of=of)
    return kept[0]


def _interrupt(answer: Callable, *given: Any, of: str) -> None:
    """Raise an error inside the learner's `with`; it must come out of it."""
    block = _open(answer, *given, of=of)
    passed_on = []

    @functools.wraps(answer)
    def inside() -> None:
        try:
            with block:
                raise _Interrupted
        except _Interrupted:
            passed_on.append(True)

    ask(inside, of=of)
    require(
        bool(passed_on),
        "an error inside the `with` goes on to whoever made it",
        of=of,
        found="the error has disappeared: the reader would never hear of it",
        hint="try: yield ... finally: ... tidies up and lets errors through; no except, no return",
    )


def _num_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def _require_gone(network: nn.Module, hooks: int, broken: str, *, of: str, hint: str) -> None:
    """No more and no fewer hooks than there were before, and the network does what it did."""
    now = _num_hooks(network)
    require(now <= hooks, broken, of=of, found=f"hooks left behind: {now - hooks}", hint=hint)
    require(
        now == hooks,
        "hooks of others stay",
        of=of,
        found=f"hooks that somebody else had registered, and that are gone: {hooks - now}",
        hint="keep the handle that register_forward_hook returns, and remove just that",
    )
    same(network(X.clone()), torch.tensor([6.0, 0.0]), broken, of=of, hint=hint)


Capture = Callable[[nn.Module, list[str]], AbstractContextManager[dict[str, Tensor]]]


@check
def check_capture_by_hand(capture_by_hand: Capture) -> str:
    """Checks `capture_by_hand(model, names)`: inside the `with`, a dict of what modules return."""
    maps = {"first": [2.0, -2.0], "block.inner": [2.0, 0.0], "last": [6.0, 0.0]}
    copy_it = "a later module may change the tensor in place: keep output.detach().clone()"
    cases = [
        (
            ["last"],
            "the cache holds what the named module returned, in the last of several calls",
            "the hook gets (module, args, output): cache[name] = a copy of the output",
        ),
        (
            ["block.inner", "last"],
            "every module is kept under its own name",
            "a hook made in a loop sees the loop's *last* name: make it in a function that takes "
            "the name. Names with dots: model.get_submodule(name)",
        ),
        (["first"], "what is kept is a copy that nothing changes afterwards", copy_it),
    ]
    for names, broken, hint in cases:
        of = f"a network ({NETWORK}), x = [5, -5], then [1, -1]; names = {names}"
        network, results = _network(), []

        def run(_: Any, network: nn.Module = network, results: list = results) -> None:
            network(5 * X)
            results.append(network(X.clone()))

        cache = _within(capture_by_hand, network, names, run=run, of=of)
        require(
            isinstance(cache, Mapping),
            "what stands after `as` is the dict of captured maps",
            of=of,
            found=kind(cache),
            hint="yield the cache",
        )
        require(
            set(cache) == set(names),
            broken if cache else "the cache is filled, and still there after the `with`",
            of=of,
            found=f"names in the cache: {sorted(map(str, cache))}",
            hint=hint,
        )
        for name in names:
            same(cache[name], torch.tensor(maps[name]), broken, of=of, hint=hint)
            require(
                not cache[name].requires_grad,
                "what is kept has left the graph",
                of=of,
                found=f"{name} requires a gradient, so it keeps all maps before it in memory",
                hint="output.detach().clone()",
            )
        require(
            torch.equal(results[0].detach(), torch.tensor(maps["last"]).double())
            and results[0].requires_grad,
            "the network itself computes what it always did, and can still be trained",
            of=of,
            found=f"its result is {told(results[0].detach())}, "
            f"requires_grad = {results[0].requires_grad}",
            hint="a hook that returns something replaces the module's output: return nothing",
        )
        kept = {name: cache[name].clone() for name in names}
        leave = "in `finally`, remove every handle that was registered"
        broken = "after the `with` nothing is left behind"
        _require_gone(network, 0, broken, of=of, hint=leave)
        network(7 * X)
        for name in names:
            same(cache[name], kept[name], broken, of=of, hint=leave)

    network = _network()
    of = f"a network ({NETWORK}), names = ['first', 'last'], and an error inside the `with`"
    _interrupt(capture_by_hand, network, ["first", "last"], of=of)
    hint = "code after `yield` is skipped by an error unless it stands in `finally`"
    broken = "also after an error nothing is left behind"
    _require_gone(network, 0, broken, of=of, hint=hint)

    network = _network()
    network.first.register_forward_hook(_says_nothing)
    of = f"a network ({NETWORK}) with somebody else's hook, names = ['first']"
    _within(capture_by_hand, network, ["first"], run=lambda _: network(X.clone()), of=of)
    _require_gone(network, 1, "after the `with` nothing is left behind", of=of, hint=hint)

    network = _network()
    of = f"a network ({NETWORK}), names = ['first', 'frist'], of which the second does not exist"

    def enter() -> None:
        with capture_by_hand(network, ["first", "frist"]):
            pass

    try:
        ask(enter, of=of)
    except Wrong:
        pass  # an error, as it should be; which one is the learner's choice
    else:
        raise Wrong(
            "a name that does not exist is an error",
            of=of,
            found="no error: the reader would miss maps later and not know why",
            hint="model.get_submodule(name) raises one by itself",
        )
    broken = "also when a later name is misspelt nothing is left behind"
    hint = "register inside the `try`, so that `finally` removes what is already there"
    _require_gone(network, 0, broken, of=of, hint=hint)
    return (
        "names, copies that in-place work cannot reach, the network undisturbed, and no hook left: "
        "afterwards, after an error, after a misspelt name"
    )


def _says_nothing(module: nn.Module, args: tuple, output: Tensor) -> None:
    """Somebody else's hook."""


Edited = Callable[[nn.Module, Callable[[Tensor], Tensor]], AbstractContextManager]


@check
def check_edited(edited: Edited) -> str:
    """Checks `edited(module, function)`: inside the `with`, what the module returns goes through
    the function.
    """
    after = "what comes after the module works with the edited maps"
    returns = "what a hook *returns* takes the place of the output"
    cases = [
        ("last", "+ 10", lambda maps: maps + 10, [16.0, 10.0], "the edit changes the result"),
        ("first", "+ 10", lambda maps: maps + 10, [36.0, 24.0], after),
        ("last", "times 0", lambda maps: 0 * maps, [0.0, 0.0], "an edit to zeros is an edit, too"),
        ("block", "+ 1", lambda maps: maps + 1, [9.0, 3.0], after),
    ]
    for name, what, function, wanted, broken in cases:
        of = f"a network ({NETWORK}), x = [1, -1], output of {name} {what}"
        network, results = _network(), []

        def run(_: Any, network: nn.Module = network, results: list = results) -> None:
            results.extend([network(X.clone()), network(X.clone())])

        _within(edited, network.get_submodule(name), function, run=run, of=of)
        same(results[0], torch.tensor(wanted), broken, of=of, hint=returns)
        broken = "every call inside the `with` is edited"
        same(results[1], torch.tensor(wanted), broken, of=of, hint="remove the hook at the end")
        broken = "after the `with` the network is as it was"
        hint = "remove the handle in `finally`"
        _require_gone(network, 0, broken, of=of, hint=hint)

    network = _network()
    of = f"a network ({NETWORK}), last edited, and an error inside the `with`"
    _interrupt(edited, network.last, lambda maps: maps + 10, of=of)
    broken = "also after an error the network is as it was"
    hint = "code after `yield` is skipped by an error unless it stands in `finally`"
    _require_gone(network, 0, broken, of=of, hint=hint)

    network = _network()
    of = f"a network ({NETWORK}), last edited twice, one `with` in the other: + 10, then times 2"
    results = []

    def both(_: Any) -> None:
        def run(_: Any) -> None:
            results.append(network(X.clone()))

        _within(edited, network.last, lambda maps: 2 * maps, run=run, of=of)
        results.append(network(X.clone()))

    _within(edited, network.last, lambda maps: maps + 10, run=both, of=of)
    hint = "each `with` removes its own handle only"
    broken = "two edits act one after the other"
    same(results[0], torch.tensor([32.0, 20.0]), broken, of=of, hint=hint)
    broken = "the inner `with` takes only its own edit away"
    same(results[1], torch.tensor([16.0, 10.0]), broken, of=of, hint=hint)
    _require_gone(network, 0, "after the `with` the network is as it was", of=of, hint=hint)
    return "edits at three places, to zeros, one inside another, and nothing left after an error"


@check
def check_other_of_class(other_of_class: Callable[[Tensor], Tensor]) -> str:
    """Checks `other_of_class(labels)`: for each clip the number of another one of its class."""
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = (order % 6).tolist()
    cases = [[0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [3, 3, 3], [5, 2, 2, 5, 2, 9, 9], shuffled]
    for labels in cases:
        of = f"labels = {labels}" if len(labels) < 10 else "60 labels of 6 classes, in any order"
        for _ in range(30 if len(labels) < 10 else 1):  # chance must not save an answer
            donors = ask(other_of_class, torch.tensor(labels), of=of)
            if isinstance(donors, Tensor):
                donors = donors.tolist()
            require(
                isinstance(donors, list)
                and len(donors) == len(labels)
                and all(type(donor) is int for donor in donors),
                "it returns one whole number for each clip",
                of=of,
                found=told(donors) if isinstance(donors, list) else kind(donors),
                hint="a tensor of shape (N,): donors[i] is the number of the clip that i gets",
            )
            found = told(donors) if len(donors) < 10 else "other clips"
            require(
                all(0 <= donor < len(labels) for donor in donors),
                "donors are numbers of clips, from 0 to N - 1",
                of=of,
                found=told(donors[:10]),
                hint="places in `labels`: (labels == label).nonzero()[:, 0]",
            )
            require(
                all(labels[donor] == label for donor, label in zip(donors, labels, strict=True)),
                "a clip and its donor are of the same class",
                of=of,
                found=found,
                hint="look for the donors of each class among (labels == label).nonzero()[:, 0]",
            )
            require(
                all(donor != i for i, donor in enumerate(donors)),
                "no clip is its own donor: a patch with its own maps could not do any harm",
                of=of,
                found=found,
                hint="a random order may leave some in their place; moving all by one does not",
            )
            require(
                len(set(donors)) == len(donors),
                "every clip is the donor of exactly one: the control rests on all of them",
                of=of,
                found=found,
                hint="give the clips of a class their donors in another order: rows.roll(1)",
            )
    return "2 to 6 classes in any order: the same class, never itself, every clip once"


Standardised = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@check
def check_standardised(standardised: Standardised) -> str:
    """Checks `standardised(train_x, test_x)`: both in units of the training clips' mean and spread,
    channel by channel.
    """
    column = torch.tensor([[0.0], [2.0], [4.0]], dtype=torch.float64)
    only_train = "mean and spread of train_x for both: nothing must be learned from test clips"
    blind = "the training numbers do not depend on the test clips"
    of = f"one channel, train_x = {told(column)}, test_x once [[0]], once [[100]]"
    train, _ = _pair_of(standardised, column, column[:1], of=of)
    other, _ = _pair_of(standardised, column, column[:1] + 100, of=of)
    same(other, train, blind, of=of, hint=only_train)
    for scale, shift in ((1.0, 0.0), (0.1, 0.0), (5.0, 7.0)):
        x = scale * column + shift
        of = f"one channel, train_x = test_x = {told(x)}"
        train, test = _pair_of(standardised, x, x, of=of)
        hint = "(x - mean) / spread, with train_x.mean(0) and train_x.std(0)"
        broken = "the training clips have the mean 0 in each channel"
        same(train.mean(0).round(decimals=4), torch.zeros(1), broken, of=of, hint=hint)
        spreads = [train.std(0, correction=correction).item() for correction in (0, 1)]
        require(
            any(abs(spread - 1) < 1e-3 for spread in spreads),
            "the training clips have the spread 1 in each channel",
            of=of,
            found=f"standard deviation {spreads[1]:.4g}",
            hint=hint,
        )
        same(test, train, "test clips are treated like training clips", of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    shifts = torch.tensor([0.0, -5.0, 2.0], dtype=torch.float64)
    train_x = scales * torch.randn(8, 3, dtype=torch.float64, generator=generator) + shifts
    of = "train_x (8, 3), channels of different mean and spread"
    train, test = _pair_of(standardised, train_x, train_x[:2] + 3 * scales, of=of)
    broken, hint = "every channel has its own mean and spread", "over the clips, which are axis 0"
    same(train.mean(0).round(decimals=4), torch.zeros(3), broken, of=of, hint=hint)
    spread = train.std(0) / train[:, 0].std()
    same(spread.round(decimals=3), torch.ones(3), broken, of=of, hint=hint)

    of = "train_x (8, 3), and test clips that lie elsewhere"
    broken = "test clips go through the same formula as the training clips, with the same numbers"
    wanted = train[:2] + (train[1] - train[0]) / (train_x[1] - train_x[0]) * 3 * scales
    same(test, wanted, broken, of=of, hint=only_train)

    of = "a channel that is 5 in all training clips, and 5 or 6 in test clips"
    five = torch.full((4, 1), 5.0, dtype=torch.float64)
    train, test = _pair_of(standardised, five, five[:2] + torch.tensor([[0.0], [1.0]]), of=of)
    require(
        bool(train.isfinite().all() and test.isfinite().all()),
        "a channel without spread gives no NaN and no infinity",
        of=of,
        found=f"{told(train)} and {told(test)}",
        hint="add a small number, such as 1e-6, to the spread before you divide",
    )
    return "mean and spread of the training clips alone, each channel's own, and a dead channel"


def _pair_of(
    standardised: Standardised, train_x: Tensor, test_x: Tensor, *, of: str
) -> tuple[Tensor, Tensor]:
    got = ask(standardised, train_x, test_x, of=of)
    require(
        isinstance(got, (tuple, list))
        and len(got) == 2
        and all(isinstance(part, Tensor) for part in got)
        and got[0].shape == train_x.shape
        and got[1].shape == test_x.shape,
        "it returns two tensors, of the shapes of train_x and of test_x",
        of=of,
        found=", ".join(str(tuple(part.shape)) for part in got if isinstance(part, Tensor))
        if isinstance(got, (tuple, list))
        else kind(got),
        hint="return train_x and test_x, both changed",
    )
    return got[0].double(), got[1].double()
