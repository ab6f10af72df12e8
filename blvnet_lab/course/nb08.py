"""The checks of notebook 08: hooks that leave by themselves, and controls that could fail."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from blvnet_lab.course.checking import (
    Wrong,
    ask,
    changed,
    check,
    kind,
    plain,
    require,
    require_not_seeded,
    same,
    state_of,
    told,
    two,
)


class _Times(nn.Module):
    """Multiplies by a number that could be learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class _ReluInPlace(nn.Module):
    """What the library does without: it overwrites what a hook before it has kept."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(min=0)


def _network() -> nn.Sequential:
    """`start` does nothing, `first` doubles, `block.inner` makes negative numbers 0, in place, and
    `last` triples.
    """
    parts = OrderedDict(
        start=nn.Identity(),
        first=_Times(2),
        block=nn.Sequential(OrderedDict(inner=_ReluInPlace())).eval(),  # the rest is in train mode
        last=_Times(3),
    )
    return nn.Sequential(parts)


NETWORK = "start: identity, first: 2 x, block.inner: ReLU in place, last: 3 x"
X = torch.tensor([1.0, -1.0], dtype=torch.float32)


class _Interrupted(Exception):
    """What goes wrong inside the `with`."""


def _open(answer: Callable, *given: Any, of: str) -> AbstractContextManager:
    require(
        not isinstance(answer, AbstractContextManager),
        "the answer is a function",
        of=of,
        found=f"{kind(answer)}: what your function returns",
        hint="give the check the function itself, without calling it",
    )
    block = ask(answer, *given, of=of, changes=given[:1])
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


def _within(answer: Callable, *given: Any, run: Callable[[Any], Any], of: str) -> Any:
    """Run `run` inside the learner's `with`, and return what stands after `as`.

    The body of a function with @contextmanager runs no sooner than there. What becomes of the
    network, the first of the given, `_require_as_before` looks at.
    """
    block = _open(answer, *given, of=of)

    @functools.wraps(answer)  # so that errors tell a line of the learner's function
    def inside(*_: Any) -> list[Any]:
        with block as value:
            run(value)
        return [value]

    return ask(inside, *given, of=of, changes=given[:1])[0]


def _interrupt(answer: Callable, *given: Any, of: str) -> None:
    """Raise an error inside the learner's `with`; it must come out of it."""
    block = _open(answer, *given, of=of)

    @functools.wraps(answer)
    def inside(*_: Any) -> str:
        try:
            with block:
                raise _Interrupted
        except _Interrupted:
            return "passed on"
        return "lost"

    require(
        ask(inside, *given, of=of, changes=given[:1]) == "passed on",
        "an error inside the `with` goes on to whoever made it",
        of=of,
        found="the error has disappeared: the reader would never hear of it",
        hint="try: yield ... finally: ... tidies up and lets errors through; no except, no return",
    )


def _hooks(network: nn.Module) -> list[Callable]:
    return [
        hook
        for module in network.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    ]


def _require_as_before(
    network: nn.Module, before: dict[str, list[Any]], broken: str, *, of: str, hint: str
) -> None:
    """Nothing of the network is changed. (There was no hook before.)"""
    left = len(_hooks(network))
    require(left == 0, broken, of=of, found=f"hooks left behind: {left}", hint=hint)
    undo = (
        "what you change before the `yield`, undo in `finally`; what need not change, leave alone"
    )
    others = ", ".join(changed(network, before))
    require(not others, broken, of=of, found=f"changed: {others}", hint=undo)


def _among_others(answer: Callable, network: nn.Module, name: str, *given: Any, of: str) -> None:
    """Somebody registers a hook before the `with` and another inside; both must stay, and go."""
    theirs, handles = [], []

    def register(*_: Any) -> None:
        theirs.append(lambda module, args, output: None)
        handles.append(network.get_submodule(name).register_forward_hook(theirs[-1]))

    of = f"{of}; somebody else registers a hook there before the `with`, and another one inside"
    own = "keep the handle that register_forward_hook returns, and remove just that"
    register()
    _within(answer, *given, run=register, of=of)
    now = _hooks(network)
    lost = sum(hook not in now for hook in theirs)
    found = f"of the two hooks that somebody else had registered, gone: {lost}"
    require(lost == 0, "hooks of others stay", of=of, found=found, hint=own)
    left, broken = len(now) - len(theirs), "after the `with` nothing is left behind"
    require(left == 0, broken, of=of, found=f"hooks left behind: {left}", hint=own)
    for handle in handles:
        handle.remove()
    require(
        not _hooks(network),
        "the handles of others still remove their hooks",
        of=of,
        found="a hook that stays after its handle.remove()",
        hint=f"do not put another dictionary in the place of module._forward_hooks; {own}",
    )


Capture = Callable[[nn.Module, list[str]], AbstractContextManager[dict[str, Tensor]]]


@check
def check_capture_by_hand(capture_by_hand: Capture) -> str:
    """Checks `capture_by_hand(model, names)`: inside the `with`, a dict of what modules return."""
    maps = {"first": [2.0, -2.0], "block.inner": [2.0, 0.0], "last": [6.0, 0.0]}
    copy_it = "a later module may change the tensor in place: keep output.detach().clone()"
    leave = "in `finally`, undo everything: remove every handle that was registered"
    cases = [
        (
            ["last"],
            "the cache holds what the named module returned, in the last of several calls",
            "the hook gets (module, args, output): cache[name] = a copy of the output",
        ),
        (
            ["last", "block.inner"],
            "every module is kept under its own name",
            "a hook made in a loop sees the loop's *last* name: make it in a function that takes "
            "the name. Names with dots: model.get_submodule(name)",
        ),
        (["first"], "what is kept is a copy that nothing changes afterwards", copy_it),
    ]
    for names, broken, hint in cases:
        of = f"a network ({NETWORK}), x = [5, -5], then [1, -1]; names = {names}"
        network, results = _network(), []
        before = state_of(network)

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
            require(
                isinstance(cache[name], Tensor),
                "the cache holds tensors",
                of=of,
                found=kind(cache[name]),
                hint="cache[name] = output.detach().clone()",
            )
            same(cache[name], torch.tensor(maps[name]), broken, of=of, hint=hint)
            require(
                not cache[name].requires_grad,
                "what is kept has left the graph",
                of=of,
                found=f"{name} requires a gradient, so it keeps all maps before it in memory",
                hint="output.detach().clone()",
            )
        same(
            results[0],
            torch.tensor(maps["last"]),
            "the network itself computes what it always did",
            of=of,
            hint="a hook that returns something replaces the module's output: return nothing",
        )
        require(
            results[0].requires_grad,
            "the network can still be trained inside the `with`",
            of=of,
            found="a result without a gradient",
            hint="no torch.no_grad() around the `yield`, and a hook that returns nothing",
        )
        kept = {name: cache[name].clone() for name in names}
        broken = "after the `with` nothing is left behind"
        _require_as_before(network, before, broken, of=of, hint=leave)
        network(7 * X)
        for name in names:
            same(cache[name], kept[name], broken, of=of, hint=leave)

    network = _network()
    before = state_of(network)
    of = f"a network ({NETWORK}), names = ['first', 'last'], and an error inside the `with`"
    _interrupt(capture_by_hand, network, ["first", "last"], of=of)
    hint = "code after `yield` is skipped by an error unless it stands in `finally`"
    broken = "also after an error nothing is left behind"
    _require_as_before(network, before, broken, of=of, hint=hint)

    of = f"a network ({NETWORK}), names = ['first', 'frist'], of which the second does not exist"

    def enter() -> bool:
        with capture_by_hand(network, ["first", "frist"]):
            return True

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
    _require_as_before(network, before, broken, of=of, hint=hint)

    of = f"a network ({NETWORK}), names = ['first'], and in this `with` another one for ['last']"

    def another(_: Any) -> None:
        _within(capture_by_hand, network, ["last"], run=lambda _: network(5 * X), of=of)
        network(X.clone())

    cache = _within(capture_by_hand, network, ["first"], run=another, of=of)
    broken = "one `with` inside another takes only its own hooks away"
    hint = "remove the handles of this call only; `handles = []` and `cache = {}` stand inside the "
    hint += "function, for as defaults of arguments all calls would share them"
    same(cache, {"first": maps["first"]}, broken, of=of, hint=hint)
    _require_as_before(network, before, "nothing is left behind", of=of, hint=hint)
    of = f"a network ({NETWORK}), names = ['first']"
    _among_others(capture_by_hand, network, "first", network, ["first"], of=of)
    return (
        "names, copies that in-place work cannot reach, the network undisturbed, and no hook left: "
        "afterwards, after an error, after a misspelt name, inside another, among those of others"
    )


Edited = Callable[[nn.Module, Callable[[Tensor], Tensor]], AbstractContextManager]


@check
def check_edited(edited: Edited) -> str:
    """Checks `edited(module, function)`: inside the `with`, what the module returns goes through
    the function.
    """
    result = "the result is function(output), of what the module returned"
    after = "what comes after the module works with the edited maps"
    returns = "the hook gets (module, args, output); what it *returns* takes the output's place"
    cases = [
        ("last", "+ 10", lambda maps: maps + 10, [[16.0, 10], [40, 10]], result),
        ("first", "+ 10", lambda maps: maps + 10, [[36.0, 24], [60, 0]], after),
        (
            "last",
            "times 0",
            lambda maps: 0 * maps,
            [[0.0, 0], [0, 0]],
            "an edit to zeros is an edit, too",
        ),
        ("block", "+ 1", lambda maps: maps + 1, [[9.0, 3], [33, 3]], after),
        ("start", "+ 10", lambda maps: maps + 10, [[66.0, 54], [90, 30]], after),
    ]
    for name, what, function, wanted, broken in cases:
        of = f"a network ({NETWORK}), x = [1, -1], output of {name} {what}"
        network, results, clips = _network(), [], (X.clone(), 5 * X)
        before, then = state_of(network), f"{of}; then x = [5, -5]"
        first, second = torch.tensor(wanted, dtype=torch.float32)

        def run(
            _: Any, network: nn.Module = network, results: list = results, clips: tuple = clips
        ) -> None:
            results.extend(map(network, clips))

        _within(edited, network.get_submodule(name), function, run=run, of=of)
        same(results[0], first, broken, of=of, hint=returns)
        require(
            results[0].requires_grad,
            "gradients flow through the edit",
            of=of,
            found="a result without a gradient",
            hint="give the function the output itself: no detach(), no torch.no_grad()",
        )
        broken = "every call inside the `with` is edited, each time anew"
        hint = "the hook calls the function, each time, and is removed at the end"
        same(results[1], second, broken, of=then, hint=hint)
        same(
            clips[0],
            X,
            "the output that the function gets is left as it was: others may have it, too",
            of=of,
            hint="return function(output); output[:] = ... writes into the tensor itself",
        )
        broken = "after the `with` the network is as it was"
        hint = "remove the handle in `finally`"
        _require_as_before(network, before, broken, of=of, hint=hint)

    network = _network()
    before = state_of(network)
    of = f"a network ({NETWORK}), last edited, and an error inside the `with`"
    _interrupt(edited, network.last, lambda maps: maps + 10, of=of)
    broken = "also after an error the network is as it was"
    hint = "code after `yield` is skipped by an error unless it stands in `finally`"
    _require_as_before(network, before, broken, of=of, hint=hint)

    of = f"a network ({NETWORK}), last edited twice, one `with` in the other: + 10, then times 2"
    results = []

    def both(_: Any) -> None:
        def run(_: Any) -> None:
            results.append(network(X.clone()))

        _within(edited, network.last, lambda maps: 2 * maps, run=run, of=of)
        results.append(network(X.clone()))

    _within(edited, network.last, lambda maps: maps + 10, run=both, of=of)
    broken = "two edits act one after the other, in the order in which they were entered"
    hint = "hooks run in the order of their registration, without prepend=True; and each `with` "
    hint += "edits what is there already"
    same(results[0], torch.tensor([32.0, 20.0]), broken, of=of, hint=hint)
    broken = "the inner `with` takes only its own edit away"
    hint = "each `with` removes its own handle only"
    same(results[1], torch.tensor([16.0, 10.0]), broken, of=of, hint=hint)
    _require_as_before(network, before, "nothing is left of two edits", of=of, hint=hint)
    of = f"a network ({NETWORK}), last edited"
    _among_others(edited, network, "last", network.last, lambda maps: maps + 10, of=of)
    return "edits at four places, to zeros, one inside another, among hooks of others, an error"


@check
def check_other_of_class(other_of_class: Callable[[Tensor], Tensor]) -> str:
    """Checks `other_of_class(labels)`: for each clip the number of another one of its class."""
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = (order % 6).tolist()
    cases = [[0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [3, 3, 3], [5, 2, 2, 5, 2, 9, 9], shuffled]
    for labels in cases:
        of = f"labels = {labels}" if len(labels) < 10 else "60 labels of 6 classes, in any order"
        for _ in range(30 if len(labels) < 10 else 1):  # chance must not save an answer
            donors = plain(ask(other_of_class, torch.tensor(labels), of=of))
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
    require_not_seeded(
        lambda: ask(other_of_class, torch.tensor(labels), of=of),
        "the global random numbers are not begun anew",
        of=of,
    )
    return "2 to 6 classes in any order: the same class, never itself, every clip once"


Standardised = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@check
def check_standardised(standardised: Standardised) -> str:
    """Checks `standardised(train_x, test_x)`: both in units of the training clips' mean and spread,
    channel by channel.
    """
    column = torch.tensor([[0.0], [2.0], [4.0]], dtype=torch.float32)
    five = torch.full((4, 1), 5.0, dtype=torch.float32)
    only_train = "mean and spread of train_x for both: nothing must be learned from test clips"
    _require_blind(standardised, column, hint=only_train)
    for scale, shift in ((1.0, 0.0), (0.1, 0.0), (5.0, 7.0)):
        x = scale * column + shift
        of = f"one channel, train_x = test_x = {told(x)}"
        train, test = _pair_of(standardised, x, x, of=of)
        hint = "(x - mean) / spread, with train_x.mean(0) and train_x.std(0)"
        broken = "the training clips have the mean 0 in each channel"
        same(train.mean(0).round(decimals=4), torch.zeros(1), broken, of=of, hint=hint)
        spreads = [train.std(0, correction=correction).item() for correction in (0, 1)]
        require(
            any(abs(spread - 1) < 0.01 for spread in spreads),
            "the training clips have the spread 1 in each channel",
            of=of,
            found=f"standard deviation {spreads[1]:.4g}",
            hint=hint,
        )
        same(test, train, "test clips are treated like training clips", of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float32)
    shifts = torch.tensor([0.0, -5.0, 2.0], dtype=torch.float32)
    train_x = scales * torch.randn(8, 3, dtype=torch.float32, generator=generator) + shifts
    of = "train_x (8, 3), channels of different mean and spread"
    train, test = _pair_of(standardised, train_x, train_x[:2] + 30 * scales, of=of)
    broken, hint = "every channel has its own mean and spread", "over the clips, which are axis 0"
    same(train.mean(0).round(decimals=4), torch.zeros(3), broken, of=of, hint=hint)
    spread = train.std(0) / train[:, 0].std()
    found = f"standard deviations {told(train.std(0))}"
    require(bool(((spread - 1).abs() < 0.01).all()), broken, of=of, found=found, hint=hint)

    of = "train_x (8, 3), and test clips that lie far away from them"
    broken = "test clips go through the same formula as the training clips, with the same numbers"
    unit = (train.amax(0) - train.amin(0)) / (train_x.amax(0) - train_x.amin(0)).double()
    hint = "(x - mean) / spread, with mean and spread of train_x, however far away a clip lies"
    same(test, train[:2] + 30 * scales * unit, broken, of=of, hint=hint)

    of = "a channel that is 5 in all training clips, and 5 or 6 in test clips"
    train, test = _pair_of(standardised, five, five[:2] + torch.tensor([[0.0], [1.0]]), of=of)
    require(
        bool((train.abs() < 1e20).all() and (test.abs() < 1e20).all()),
        "a channel without spread gives no NaN, no infinity, and nothing as good as infinite",
        of=of,
        found=f"{told(train)} and {told(test)}",
        hint="add a small number, such as 1e-6, to the spread before you divide",
    )
    _require_blind(standardised, five, hint=only_train)
    return "mean and spread of the training clips alone, each channel's own, and a dead channel"


def _require_blind(standardised: Standardised, train_x: Tensor, *, hint: str) -> None:
    """Two pairs of test clips, of which the second clips differ: nothing else may."""
    first, second = (torch.tensor([[6.0], [x]], dtype=torch.float32) for x in (2.0, 102.0))
    of = f"one channel, train_x = {told(train_x)}, test_x once {told(first)}, once {told(second)}"
    one, other = (_pair_of(standardised, train_x, test_x, of=of) for test_x in (first, second))
    for which, broken in (
        (0, "the training numbers do not depend on the test clips"),
        (1, "what becomes of a test clip does not depend on the other test clips"),
    ):
        a, b = one[which], other[which]
        a, b = (a, b) if which == 0 else (a[:1], b[:1])
        found = f"{told(a)} with the one, {told(b)} with the other"
        require(torch.allclose(a, b, equal_nan=True), broken, of=of, found=found, hint=hint)


def _pair_of(
    standardised: Standardised, train_x: Tensor, test_x: Tensor, *, of: str
) -> tuple[Tensor, Tensor]:
    got = two(ask(standardised, train_x, test_x, of=of), "train_x, test_x", of=of)
    for part, x, name in zip(got, (train_x, test_x), ("train_x", "test_x"), strict=True):
        require(
            isinstance(part, Tensor) and part.shape == x.shape,
            "the two are tensors, of the shapes of train_x and of test_x",
            of=of,
            found=f"{name}: {kind(part)} instead of {tuple(x.shape)}",
            hint="return train_x and test_x, both changed; statistics go along axis 0, the clips",
        )
    return got[0].double(), got[1].double()
