"""The checks of notebook 08: hooks that leave by themselves, and controls that could fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blvnet_lab.course.checking import Answer, Check, Wrong, kind, plain, rand, require, same, two


class _Layer(nn.Module):
    """Multiplies by a number that could be learned; by 0 it is a ReLU instead, which overwrites
    its input (what the library does without).
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x if self.factor else x.clamp_(min=0)

    def __repr__(self) -> str:
        return f"{self.factor.item():.0f} x" if self.factor else "ReLU in place"


class _Network(nn.Module):
    """Layers of which `block` and what is in it are in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.first, self.last = nn.Identity(), _Layer(2.0), _Layer(3.0)
        self.block = nn.ModuleDict({"inner": _Layer(0.0)}).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block["inner"](self.first(self.start(x))))

    def __repr__(self) -> str:
        return "a network (start: x, first: 2 x, block.inner: ReLU in place, last: 3 x)"


MAPS = {"first": [2.0, -2.0], "block.inner": [2.0, 0.0], "last": [6.0, 0.0]}  # of x = [1, -1]
MANAGER = "keep the line @contextmanager above it, and `yield` where the inside of `with` runs"
FINALLY = "try: yield ... finally: ... tidies up, also after an error, and lets it through"
OWN = "keep the handles that register_forward_hook returns to this call, and remove just those"
Given = Callable[[_Network], Sequence[Any]]  # what the learner's function gets, of a network


def _x(size: float = 1) -> Tensor:
    return torch.tensor([size, -size])


def _hooks(network: nn.Module) -> list[Callable]:
    return [hook for module in network.modules() for hook in module._forward_hooks.values()]


def _within(answer: Answer, *given: Any, run: Callable[[], Any], changes: Any = ()) -> Any:
    """Run `run` inside the learner's `with`, and return what stands after `as`."""

    def use(manager: Callable, *given: Any) -> list[Any]:
        with manager(*given) as value:
            run()
        return [value]

    return answer(*given, use=use, hint=MANAGER, changes=changes)[0]


def _compute(answer: Answer, network: nn.Module, *given: Any) -> tuple[Any, list[Tensor]]:
    """Return what stands after `as`, and what the network makes of 5 x and x inside."""
    results: list[Tensor] = []
    run = [_x(5), _x()]
    return _within(answer, *given, run=lambda: results.extend(map(network, run))), results


def _lets_errors_through(given: Given) -> Callable[[Answer], None]:
    class Interrupted(Exception):
        """What goes wrong inside the `with`."""

    def use(manager: Callable, *given: Any) -> str:
        """an error inside the `with`"""
        try:
            with manager(*given):
                raise Interrupted
        except Interrupted:
            return "passed on"
        return "lost: the reader would never hear of it"

    def rule(answer: Answer) -> None:
        """after an error inside the `with` nothing is left behind, and the error goes on"""
        network = _Network()
        same(answer(*given(network), use=use), "passed on", FINALLY)
        same(network(_x()), torch.tensor(MAPS["last"]), FINALLY)

    return rule


def _leaves_other_hooks(given: Given) -> Callable[[Answer], None]:
    def rule(answer: Answer) -> None:
        """hooks that others register before the `with` and inside stay, and no other is left"""
        network, theirs = _Network(), []

        def register() -> None:
            theirs.append(lambda module, args, output: None)
            network.last.register_forward_hook(theirs[-1])

        register()
        _within(answer, *given(network), run=register, changes=given(network)[:1])
        found = f"of two hooks of others, and none of its own, {len(_hooks(network))} are there"
        require(_hooks(network) == theirs, found, OWN)

    return rule


def capture_keeps_copies(capture_by_hand: Answer) -> None:
    """the cache holds, under each name, a detached copy of what the module returned last; it is
    still there after the `with`, and nothing is added to it
    """
    for names in (["last"], ["last", "block.inner"], ["first"]):
        network = _Network()
        cache, _ = _compute(capture_by_hand, network, network, names)
        network(_x(7))
        keys = sorted(map(str, cache)) if isinstance(cache, Mapping) else kind(cache)
        hint = "yield the cache; a hook made in a loop sees its *last* name: make it in a function"
        same(keys, sorted(names), hint)
        for name in names:
            hint = "cache[name] = output.detach().clone(): a later module may change the tensor"
            same(cache[name], torch.tensor(MAPS[name]), hint)
            require(not cache[name].requires_grad, f"{name} is still part of the graph", hint)


def capture_disturbs_nothing(capture_by_hand: Answer) -> None:
    """the network computes what it always did, and can be trained inside the `with`"""
    network = _Network()
    _, (_, result) = _compute(capture_by_hand, network, network, ["first"])
    hint = "a hook that returns something replaces the module's output; no torch.no_grad() either"
    same(result, torch.tensor(MAPS["last"]), hint)
    require(result.requires_grad, "a result without a gradient", hint)


def capture_refuses_unknown_names(capture_by_hand: Answer) -> None:
    """a name that does not exist is an error, and nothing is left behind then, either"""
    network = _Network()
    try:
        _compute(capture_by_hand, network, network, ["first", "frist"])
    except Wrong as wrong:  # an error, as it should be; which one is the learner's choice
        if wrong.broken != "it runs without an error":
            raise
    else:
        raise Wrong("no error: the reader would miss maps later", "model.get_submodule raises one")
    hint = "register inside the `try`, so that `finally` removes what is already there"
    require(not _hooks(network), f"hooks left behind: {len(_hooks(network))}", hint)


def capture_can_be_nested(capture_by_hand: Answer) -> None:
    """one `with` inside another takes only its own hooks away"""
    network = _Network()

    def another() -> None:
        _within(capture_by_hand, network, ["last"], run=lambda: network(_x(5)), changes=[network])
        network(_x())

    cache = _within(capture_by_hand, network, ["first"], run=another)
    same(dict(cache), {"first": MAPS["first"]}, OWN)


check_capture_by_hand = Check(
    "capture_by_hand",
    capture_keeps_copies,
    capture_disturbs_nothing,
    _lets_errors_through(lambda network: (network, ["first", "last"])),
    capture_refuses_unknown_names,
    capture_can_be_nested,
    _leaves_other_hooks(lambda network: (network, ["last"])),
)


def zero_out(maps: Tensor) -> Tensor:
    return 0 * maps


def add_10(maps: Tensor) -> Tensor:
    return maps + 10


def edit_takes_the_place_of_outputs(edited: Answer) -> None:
    """the result is function(output), each time, what comes after works with it, and gradients
    flow through it
    """
    for name, function, *wanted in (
        ("last", add_10, [40.0, 10.0], [16.0, 10.0]),
        ("first", add_10, [60.0, 0.0], [36.0, 24.0]),
        ("last", zero_out, [0.0, 0.0], [0.0, 0.0]),
        ("start", add_10, [90.0, 30.0], [66.0, 54.0]),
    ):
        network = _Network()
        _, results = _compute(edited, network, network.get_submodule(name), function)
        hint = "the hook gets (module, args, output); what it *returns* takes the output's place"
        same([result.detach() for result in results], wanted, hint)
        hint = "give the function the output itself: no detach(), no torch.no_grad()"
        require(results[0].requires_grad, "a result without a gradient", hint)


def edit_overwrites_nothing(edited: Answer) -> None:
    """what the module returned is left as it was: others may hold it, too"""
    network, x = _Network(), _x()
    _within(edited, network.start, add_10, run=lambda: network(x))
    same(x, _x(), "return function(output); output[:] = ... writes into the tensor itself")


def edits_act_in_order(edited: Answer) -> None:
    """of two edits the first entered acts first, and the inner `with` takes only its own away"""
    network, results = _Network(), []

    def inner() -> None:
        results.extend(_compute(edited, network, network.last, lambda maps: 2 * maps)[1][1:])
        results.append(network(_x()))

    _within(edited, network.last, add_10, run=inner)
    same(results, [[32.0, 20.0], [16.0, 10.0]], f"{OWN}; hooks run in the order of registration")


check_edited = Check(
    "edited",
    edit_takes_the_place_of_outputs,
    edit_overwrites_nothing,
    _lets_errors_through(lambda network: (network.last, add_10)),
    edits_act_in_order,
    _leaves_other_hooks(lambda network: (network.last, add_10)),
)


def donors_are_others_of_the_class(other_of_class: Answer) -> None:
    """a donor is another clip of the same class, given by its number from 0 to N - 1, and every
    clip is the donor of exactly one
    """
    small = [0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [3, 3, 3], [5, 2, 2, 5, 2, 9, 9]
    for labels in [*small * 20, (torch.arange(60) * 7 % 6).tolist()]:  # luck must not save it
        donors = plain(other_of_class(torch.tensor(labels)))
        numbers = range(len(labels))
        hint = "donors[i] is the number of the clip that i gets, one of (labels == label).nonzero()"
        is_list = isinstance(donors, list) and len(donors) == len(labels)
        require(is_list and all(donor in numbers for donor in donors), donors, hint)
        require([labels[donor] for donor in donors] == labels, donors, hint)
        hint = "a random order may leave some in their place; rows.roll(1) in each class does not"
        others = all(donor != i for i, donor in enumerate(donors))
        require(others and len(set(donors)) == len(donors), donors, hint)


def donors_seed_nothing(other_of_class: Answer) -> None:
    """the global random generators are not seeded"""
    other_of_class.never_seeds(torch.tensor([0, 0, 1, 1]))


check_other_of_class = Check("other_of_class", donors_are_others_of_the_class, donors_seed_nothing)


def standardised_by_training_clips(standardised: Answer) -> None:
    """all clips are (x - mean) / spread, with mean and spread of the training clips in each
    channel: nothing is learned from test clips
    """
    column, scales = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([1.0, 10.0, 0.1])
    for train_x, test_x in (
        (column, column),
        (0.1 * column, column[:2] + 6),
        (scales * rand(8, 3) + torch.tensor([0.0, -5, 2]), 30 * scales * rand(2, 3)),
    ):
        train, test = two(standardised(train_x, test_x))
        hint = "mean = train_x.mean(0) and spread = train_x.std(0), for both"
        same(f"{kind(train)}, {kind(test)}", f"{kind(train_x)}, {kind(test_x)}", hint)
        mean = train_x.mean(0)
        spread = train_x.std(0, correction=int(train.std() < 1.01))
        for got, x in ((train, train_x), (test, test_x)):
            wanted = (x - mean) / spread
            require(torch.allclose(got, wanted, rtol=0.01, atol=0.01), [got, wanted], hint)


def standardised_dead_channels(standardised: Answer) -> None:
    """a channel without spread gives no NaN and nothing (nearly) infinite, whatever the other test
    clips are
    """
    five, firsts = torch.full((4, 1), 5.0), []
    for other in (5.0, 6.0, 102.0):
        train, test = two(standardised(five, torch.tensor([[6.0], [other]])))
        hint = "add a small number, such as 1e-6, to the spread of train_x before you divide"
        require((train.abs() < 1e20).all() and (test.abs() < 1e20).all(), [train, test], hint)
        firsts.append(test[:1])
        same(firsts[-1], firsts[0], hint)


check_standardised = Check(
    "standardised", standardised_by_training_clips, standardised_dead_channels
)
