"""Checks of notebook 08: hooks that remove themselves, and controls that could fail."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blvnet_lab.course.checking import Answer, Check, Rule, cases, never_seeds
from blvnet_lab.course.inputs import ToyNetwork, rand
from blvnet_lab.course.verdicts import Wrong, is_close, kind, plain, require, same, two


class _Layers(nn.Sequential):
    """A network in which `block` and its inside are in evaluation mode."""

    def __init__(self) -> None:
        first, last = (ToyNetwork(f"{w:.0f} x", torch.mul, torch.tensor(w)) for w in (2.0, 3.0))
        relu = ToyNetwork("ReLU in place", lambda x: x.clamp_(min=0))  # the library has none
        block = nn.Sequential(OrderedDict(inner=relu)).eval()
        super().__init__(OrderedDict(start=nn.Identity(), first=first, block=block, last=last))

    def __repr__(self) -> str:
        return "a network (start: x, first: 2 x, block.inner: ReLU in place, last: 3 x)"


MAPS = {"first": [2.0, -2.0], "block.inner": [2.0, 0.0], "last": [6.0, 0.0]}  # of x = [1, -1]
MANAGER = "keep the line @contextmanager above it, and `yield` where the inside of `with` runs"
FINALLY = "try: yield ... finally: ... tidies up, also after an error, and lets it through"
OWN = "keep the handles that register_forward_hook returns to this call, and remove just those"
TWO, EIGHT = torch.tensor([[[[2.0, -4]]]]), rand(2, 2, 2, 2)  # (P, C, h, w), the last maps
Given = Callable[[_Layers], Sequence[Any]]  # what the learner's function gets, of a network


def _x(size: float = 1) -> Tensor:
    return torch.tensor([size, -size])


def _hooks(network: nn.Module) -> list[Callable]:
    return [hook for module in network.modules() for hook in module._forward_hooks.values()]


def _compute(answer: Answer, network: nn.Module, *given: Any) -> tuple[Any, list[Tensor]]:
    """Return the value after `as`, and the network's results for 5 x and x inside the `with`."""
    inputs, results = [_x(5), _x()], []

    def use(manager: Callable, *given: Any) -> list[Any]:
        with manager(*given) as value:
            results.extend(map(network, inputs))
        return [value]

    (value,) = answer(*given, use=use, hint=MANAGER)
    same(inputs, [_x(5), _x()], "output[:] = ... writes into the tensor itself: return another")
    hint = "no no_grad(); and what a hook returns replaces the output, with its gradient"
    require(results[0].requires_grad, "a result without a gradient", hint)
    return value, [result.detach() for result in results]


def _tidies_up(given: Given) -> Rule:
    class Interrupted(Exception):
        """The error raised inside the `with`."""

    def rule(answer: Answer) -> None:
        """after an error inside the `with` nothing is left behind, and the error goes on; hooks
        that others register before and inside stay
        """
        network = _Layers()
        theirs = [lambda module, args, output: None, lambda module, args, output: None]
        register = network.last.register_forward_hook

        def use(manager: Callable, *given: Any) -> str:
            """an error inside the `with`"""
            try:
                with manager(*given):
                    register(theirs[1])
                    raise Interrupted
            except Interrupted:
                return "passed on"
            return "lost: the reader would never hear of it"

        register(theirs[0])
        how = {"use": use, "hint": MANAGER, "changes": given(network)[:1]}
        same(answer(*given(network), **how), "passed on", FINALLY)
        found = f"of two hooks of others, and none of its own, {len(_hooks(network))} are there"
        hint = FINALLY if len(_hooks(network)) > len(theirs) else OWN
        require(_hooks(network) == theirs, found, hint)
        same(network(_x()), torch.tensor(MAPS["last"]), FINALLY)

    return rule


def capture_keeps_copies(capture_by_hand: Answer) -> None:
    """the cache holds, under each name, a detached copy of what the module returned last; it is
    still there after the `with`, and nothing is added to it; the network computes what it always
    did, and can be trained inside
    """
    for names in (["last"], ["last", "block.inner"], ["first"]):
        network = _Layers()
        cache, results = _compute(capture_by_hand, network, network, names)
        network(_x(7))
        keys = sorted(map(str, cache)) if isinstance(cache, Mapping) else kind(cache)
        hint = "yield the cache; a hook made in a loop sees its *last* name: make it in a function"
        same(keys, sorted(names), hint)
        for name in names:
            hint = "cache[name] = output.detach().clone(): a later module may change the tensor"
            same(cache[name], torch.tensor(MAPS[name]), hint)
            require(not cache[name].requires_grad, f"{name} is still part of the graph", hint)
        same(results[1], torch.tensor(MAPS["last"]), "a hook that returns something replaces it")


def capture_refuses_unknown_names(capture_by_hand: Answer) -> None:
    """a name that does not exist is an error, and nothing is left behind then, either"""
    network = _Layers()
    try:
        _compute(capture_by_hand, network, network, ["first", "frist"])
    except Wrong as wrong:  # an error, as it should be; which one is the learner's choice
        if wrong.broken != "it runs without an error":
            raise
    else:
        raise Wrong("no error: the reader would miss maps later", "model.get_submodule raises one")
    hint = "register inside the `try`, so that `finally` removes what is already there"
    require(not _hooks(network), f"hooks left behind: {len(_hooks(network))}", hint)


check_capture_by_hand = Check(
    capture_keeps_copies,
    _tidies_up(lambda network: (network, ["first", "last"])),
    capture_refuses_unknown_names,
)


def add_10(maps: Tensor) -> Tensor:
    return maps + 10


def zero_out(maps: Tensor) -> Tensor:
    return 0 * maps


def edit_takes_the_place_of_outputs(edited: Answer) -> None:
    """the result is function(output), each time, what comes after works with it, and gradients
    flow through it; what the module returned is left as it was, since others may hold it, too
    """
    for name, function, *wanted in (
        ("last", add_10, [40.0, 10.0], [16.0, 10.0]),
        ("first", add_10, [60.0, 0.0], [36.0, 24.0]),
        ("last", zero_out, [0.0, 0.0], [0.0, 0.0]),
        ("start", add_10, [90.0, 30.0], [66.0, 54.0]),
    ):
        network = _Layers()
        _, results = _compute(edited, network, network.get_submodule(name), function)
        hint = "the hook gets (module, args, output); what it *returns* takes the output's place"
        same(results, wanted, hint)


check_edited = Check(
    edit_takes_the_place_of_outputs, _tidies_up(lambda network: (network.last, add_10))
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


check_other_of_class = Check(
    donors_are_others_of_the_class,
    never_seeds(lambda other_of_class: other_of_class(torch.tensor([0, 0, 1, 1]))),
)


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
        mean, spread = train_x.mean(0), train_x.std(0, correction=int(train.std() < 1.01))
        for got, x in ((train, train_x), (test, test_x)):
            wanted = (x - mean) / spread
            require(torch.allclose(got, wanted, rtol=0.01, atol=0.01), [got, wanted], hint)


def standardised_dead_channels(standardised: Answer) -> None:
    """a channel without spread gives no NaN and nothing (nearly) infinite"""
    parts = two(standardised(torch.full((4, 1), 5.0), torch.tensor([[6.0], [5.0]])))
    hint = "add a small number, such as 1e-6, to the spread of train_x before you divide"
    require(all((part.abs() < 1e20).all() for part in parts), list(parts), hint)


check_standardised = Check(standardised_by_training_clips, standardised_dead_channels)


def parts_add_up(logit_parts: Answer) -> None:
    """the numbers, (P, h, w), add up to the logit, also where they or the logit are negative"""
    for features in (TWO.view(2, 1, 1, 1), TWO, EIGHT):
        weight, bias = torch.tensor([1.0, -2])[: features.shape[1]], torch.tensor(-3.0)
        parts = logit_parts(features, weight, bias)
        hint = "(torch.einsum('pchw,c->phw', features, weight) + bias) / (P * h * w), and no ReLU"
        same(kind(parts), kind(features[:, 0]), hint)
        total, logit = parts.sum(), features.mean((0, 2, 3)) @ weight + bias
        found = f"of {tuple(features.shape)} they add up to {total:.4g}, the logit is {logit:.4g}"
        require(is_close(total, logit), found, hint)


check_logit_parts = Check(
    parts_add_up,
    cases(
        "the number of a place depends on the features at that position and place alone",
        "no mean, softmax or share of the sum: weigh the features of each place by themselves",
        (TWO, torch.ones(1), torch.tensor(0.0), TWO[:, 0] / 2),
        (EIGHT, torch.tensor([1.0, 0]), torch.tensor(0.0), EIGHT[:, 0] / 8),
    ),
    cases(
        "every place gets the same share of the bias",
        "bias / (P * h * w) to each, also where all features are 0",
        (torch.zeros(2, 1, 1, 2), torch.ones(1), torch.tensor(2.0), torch.full((2, 1, 2), 0.5)),
    ),
)

# To be read as two rows each, which keep their numbers if only rows, columns or kernels move.
LEARNED = {"bias (24)": rand(24), "matrix (2, 12)": rand(2, 12), "kernels (2, 3, 4)": rand(2, 3, 4)}


def _given(what: str, other: Callable[[Tensor], Tensor]) -> tuple:
    """Make a method, a network that returns x (`other(x)` without its learned weights), a clip."""

    def give(x: Tensor, *weights: Tensor) -> Tensor:
        if all(map(torch.equal, weights, LEARNED.values())):
            return x.clone()
        for name, *both in zip(LEARNED, LEARNED.values(), weights, strict=True):
            hint = "weight.flatten()[torch.randperm(weight.numel())].view_as(weight), for all"
            same_numbers = torch.equal(*(weight.flatten().sort()[0] for weight in both))
            require(same_numbers, f"{name}: not the numbers it had", hint)
            old, new = (sorted(map(sorted, weight.reshape(2, -1).tolist())) for weight in both)
            require(old != new, f"{name}: as it was, but for whole rows or columns", hint)
        return other(x)

    what = f"a network that gives x, but {what} if its weights are others ({', '.join(LEARNED)})"
    network = ToyNetwork(what, give, *(weight.clone() for weight in LEARNED.values()))
    return ToyNetwork.forward, network, torch.arange(4.0).view(1, 2, 1, 1, 2)


def every_weight_is_shuffled(like_without_learning: Answer) -> None:
    """each weight of the copy has its own numbers in random order, and so has each bias"""
    like_without_learning(*_given("-x", torch.neg))


check_like_without_learning = Check(
    every_weight_is_shuffled,
    cases(
        "it is the correlation (Pearson) of the model's map with the copy's, over all numbers and "
        "with its sign; where one of them is the same everywhere, it is 0",
        "torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].nan_to_num(0), where "
        "a = draw(model, clip) and b = draw(copy, clip)",
        (*_given("-x", torch.neg), -1.0),
        (*_given("x squared", torch.square), 15 / 7 / 5**0.5),
        (*_given("0", torch.zeros_like), 0.0),
    ),
    never_seeds(lambda like_without_learning: like_without_learning(*_given("-x", torch.neg))),
)
