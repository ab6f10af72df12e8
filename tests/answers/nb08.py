"""Answers to the exercises of notebook 08: wrong ones under the property they break, right ones."""

import copy
import random
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F


def keeper(cache, name, copied=lambda output: output.detach().clone()):
    """Make a right hook, unless `copied` is a wrong one."""

    def hook(module, args, output):
        cache[name] = copied(output)

    return hook


def register(model, cache, name, hook=keeper):
    return model.get_submodule(name).register_forward_hook(hook(cache, name))


@contextmanager
def removed(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture(model, names, hook=keeper):
    cache, handles = {}, []
    with removed(handles):
        for name in names:
            handles.append(register(model, cache, name, hook))
        yield cache


def capture_with(copied):
    return lambda model, names: capture(model, names, lambda *given: keeper(*given, copied))


@contextmanager
def capture_without_finally(model, names):
    cache = {}
    handles = [register(model, cache, name) for name in names]
    yield cache
    for handle in handles:
        handle.remove()


@contextmanager
def capture_registers_too_early(model, names):
    cache = {}
    handles = [register(model, cache, name) for name in names]
    with removed(handles):
        yield cache


class CaptureByClass:
    def __init__(self, model, names):
        self.modules = {name: model.get_submodule(name) for name in names}

    def __enter__(self):
        cache = {}
        self.handles = [
            module.register_forward_hook(keeper(cache, name))
            for name, module in self.modules.items()
        ]
        return cache

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()


@contextmanager
def hooked(module, hook, **how):
    with removed([module.register_forward_hook(hook, **how)]):
        yield


def edit_with(result, **how):
    """Make an edit of what its hook returns, by the function, its input and the output."""
    return lambda module, function: hooked(
        module, lambda module, args, output: result(function, args[0], output), **how
    )


edit = edit_with(lambda function, x, output: function(output))


def edit_in_place(function, x, output):
    output[:] = function(output)


@contextmanager
def edited_without_finally(module, function):
    handle = module.register_forward_hook(lambda module, args, output: function(output))
    yield
    handle.remove()


@contextmanager
def edited_by_forward(module, function):
    forward = module.forward
    module.forward = lambda *args: function(forward(*args))
    try:
        yield
    finally:
        module.forward = forward


def donors_of(function):
    """Make an answer of the donors of the clips `rows` of a class."""

    def other_of_class(labels):
        donors = torch.empty_like(labels)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            donors[rows] = function(rows)
        return donors

    return other_of_class


donors = donors_of(lambda rows: rows.roll(1))
drawn = donors_of(lambda rows: rows[torch.randperm(len(rows))])


def donors_by_luck(labels):
    while True:
        found = drawn(labels)
        if (found != torch.arange(len(labels))).all():
            return found


def statistics(x):
    return x.mean(0), x.std(0) + 1e-6


def standardised_with(of_train=statistics, of_test=None, divide=lambda x, m, s: (x - m) / s):
    """Make an answer of two functions that give mean and spread, of both or of the clips alone."""

    def standardised(train_x, test_x):
        both = of_train(train_x), of_test(test_x) if of_test else of_train(train_x)
        return [divide(x, *two) for x, two in zip((train_x, test_x), both, strict=True)]

    return standardised


standardised = standardised_with()


def weighed(features, weight, bias=0.0):
    return torch.einsum("pchw,c->phw", features, weight) + bias


def parts(*given):
    return weighed(*given) / given[0][:, 0].numel()


def parts_then(change):
    return lambda *given: change(parts(*given))


def parts_with_the_bias_at(*places):
    def logit_parts(features, weight, bias):
        found = parts(features, weight)
        found[places] += bias / found[places].numel()
        return found

    return logit_parts


def parts_by_loops(features, weight, bias):
    found = torch.zeros_like(features[:, 0])
    for p, y, x in np.ndindex(*found.shape):
        found[p, y, x] = (features[p, :, y, x] * weight).sum() + bias
    return found / found.numel()


def reordered(weight):
    return weight.flatten()[torch.randperm(weight.numel())].view_as(weight)


def pearson(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].nan_to_num(0)


@torch.no_grad()
def shuffle(model, new=reordered, which=slice(None)):
    for weight in list(model.parameters())[which]:
        weight.copy_(new(weight))
    return model


def like_with(alike=pearson, copied=copy.deepcopy, **how):
    """Make an answer of how alike two maps are, how the model is copied, and how shuffled."""

    def like_without_learning(draw, model, clip):
        before = draw(model, clip)
        return alike(before, draw(shuffle(copied(model), **how), clip))

    return like_without_learning


like = like_with()


def like_by_numpy(draw, model, clip):
    rng, other = np.random.default_rng(3), copy.deepcopy(model)
    for weight in other.parameters():
        numbers = rng.permutation(weight.detach().numpy().ravel()).reshape(weight.shape)
        weight.data = torch.from_numpy(numbers)
    a, b = (draw(each, clip).numpy().ravel() for each in (model, other))
    return 0 if a.std() == 0 or b.std() == 0 else np.corrcoef(a, b)[0, 1]


WRONG = {
    "capture_by_hand": {
        "the cache holds, under each name": [
            capture_with(lambda output: output.detach()),
            capture_with(lambda output: output.clone()),
        ],
        "after an error inside the `with` nothing is left": [capture_without_finally],
        "a name that does not exist is an error": [capture_registers_too_early],
        "its inputs are left unchanged": [lambda model, names: capture(model.eval(), names)],
        "it runs without an error": [
            capture(torch.nn.Identity(), []),  # called by mistake
        ],
    },
    "edited": {
        "the result is function(output), each time": [
            edit_with(lambda function, x, output: (function(output), None)[1]),
            edit_with(lambda function, x, output: function(x)),
            edit_with(lambda function, x, output: function(output.detach().clone())),
            edit_with(torch.no_grad()(lambda function, x, output: function(output))),
        ],
        "what the module returned is left as it was": [edit_with(edit_in_place)],
        "after an error inside the `with` nothing is left": [edited_without_finally],
        "its inputs are left unchanged": [lambda module, function: edit(module.eval(), function)],
    },
    "other_of_class": {
        "a donor is another clip of the same class": [
            donors_of(lambda rows: rows),
            donors_of(lambda rows: rows.flip(0)),  # leaves the middle one in its place
            lambda labels: torch.arange(len(labels)).roll(-1),
            drawn,
        ],
        "the global random generators are not seeded": [
            lambda labels: (torch.manual_seed(0), donors_by_luck(labels))[1],
            lambda labels: (random.seed(0), donors(labels))[1],
        ],
    },
    "standardised": {
        "all clips are (x - mean) / spread": [
            standardised_with(of_test=statistics),
            standardised_with(of_test=lambda x: (x.mean(0), 1.0)),
            standardised_with(lambda x: (x.mean(), x.std())),
        ],
        "a channel without spread": [standardised_with(lambda x: (x.mean(0), x.std(0)))],
        "it returns two things": [lambda train_x, test_x: standardised(train_x, test_x)[0]],
    },
    "logit_parts": {
        "add up to the logit": [
            lambda features, weight, bias: parts(features, weight),
            lambda features, weight, bias: parts(features, weight) + bias,
            weighed,
            lambda *given: weighed(*given) / given[0][0, 0].numel(),  # h * w
            parts_then(torch.relu),
            parts_then(lambda x: (x - x.min()) / (x.max() - x.min())),
            parts_then(torch.flatten),
            lambda features, *given: parts(features.relu(), *given),
            lambda features, weight, bias: parts(features, weight.abs(), bias),
        ],
        "depends on the features at that position and place alone": [
            parts_then(lambda x: x.mean().expand_as(x)),
            parts_then(lambda x: x.mean(0, keepdim=True).expand_as(x)),
            parts_then(lambda x: x.flip(0)),
        ],
        "the same share of the bias": [parts_with_the_bias_at(0, 0, 0), parts_with_the_bias_at(0)],
    },
    "like_without_learning": {
        "own numbers in random order": [
            like_with(which=slice(-1, None)),
            like_with(new=lambda weight: weight[torch.randperm(len(weight))]),
            like_with(new=torch.randn_like),
            like_with(new=lambda weight: weight + 0.1 * torch.randn_like(weight)),
        ],
        "it is the correlation (Pearson)": [
            lambda draw, model, clip: pearson(draw(model, clip), draw(model, clip)),
            like_with(lambda a, b: pearson(a, b).abs()),
            like_with(lambda a, b: pearson(a, b).square()),
            like_with(lambda a, b: F.cosine_similarity(a.flatten(), b.flatten(), 0)),
            like_with(lambda a, b: pearson(a.flatten().argsort(), b.flatten().argsort())),
            like_with(lambda a, b: torch.stack([*map(pearson, a[0], b[0])]).mean()),
        ],
        "is the same everywhere, it is 0": [
            like_with(lambda a, b: torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]),
        ],
        "random generators are not": [lambda *given: (torch.manual_seed(0), like(*given))[1]],
        "its inputs are left unchanged": [
            like_with(copied=lambda model: model),
            like_with(copied=copy.copy),
            lambda draw, model, clip: like(draw, model.eval(), clip),
            lambda draw, model, clip: like(draw, model.requires_grad_(False), clip),
        ],
        "it runs without an error": [
            lambda draw, model, clip: pearson(draw(model, clip), shuffle(model)(clip.numpy())),
        ],
    },
}

RIGHT = {
    "capture_by_hand": [capture, CaptureByClass],
    "edited": [edit, edited_by_forward],
    "other_of_class": [donors, donors_by_luck],
    "standardised": [
        standardised,
        standardised_with(lambda x: (x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt())),
    ],
    "logit_parts": [parts, parts_by_loops],
    "like_without_learning": [like, like_by_numpy],
}
