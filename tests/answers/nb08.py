"""Answers to the exercises of notebook 08: wrong ones under the property they break, right ones."""

import random
from contextlib import contextmanager

import torch


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


def capture_under_the_last_name(model, names):
    return capture(model, names, lambda cache, name: keeper(cache, names[-1]))


def capture_replaces_outputs(model, names):
    def hook(cache, name):
        def keep(module, args, output):
            cache[name] = output.detach().clone()
            return cache[name] + 1

        return keep

    return capture(model, names, hook)


@contextmanager
def capture_clears_all_hooks(model, names):
    try:
        with capture(model, names) as cache:
            yield cache
    finally:
        for module in model.modules():
            module._forward_hooks.clear()


@contextmanager
def capture_yields_nothing(model, names):
    with capture(model, names):
        yield


@contextmanager
def capture_swallows_errors(model, names):
    try:
        with capture(model, names) as cache:
            yield cache
    except Exception:
        pass


@contextmanager
def capture_skips_unknown_names(model, names):
    known = dict(model.named_modules())
    with capture(model, [name for name in names if name in known]) as cache:
        yield cache


def kept_forward(cache, name, forward):
    def new_forward(*args):
        output = forward(*args)
        cache[name] = output.detach().clone()
        return output

    return new_forward


@contextmanager
def capture_by_forward(model, names):
    cache, forwards = {}, []
    try:
        for name in names:
            module = model.get_submodule(name)
            forwards.append((module, module.forward))
            module.forward = kept_forward(cache, name, module.forward)
        yield cache
    finally:
        for module, forward in forwards:
            module.forward = forward


@contextmanager
def capture_without_gradients(model, names):
    with torch.no_grad(), capture(model, names) as cache:
        yield cache


def capture_uses_names_up(model, names):
    mine = [names.pop() for _ in range(len(names))]
    return capture(model, mine)


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


def edit_unless_zero(function, x, output):
    return function(output) if function(output).any() else None


@contextmanager
def edited_for_ever(module, function):
    module.register_forward_hook(lambda module, args, output: function(output))
    yield


@contextmanager
def edited_without_finally(module, function):
    handle = module.register_forward_hook(lambda module, args, output: function(output))
    yield
    handle.remove()


@contextmanager
def edited_pops_the_last(module, function):
    with edited_for_ever(module, function):
        try:
            yield
        finally:
            module._forward_hooks.popitem()


@contextmanager
def edited_forward_stays(module, function):
    forward = module.forward
    module.forward = lambda x: function(forward(x))
    yield
    module.forward = forward


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


def donors_by_dict(labels):
    last = {label: i for i, label in enumerate(labels.tolist())}
    found = []
    for i, label in enumerate(labels.tolist()):
        found.append(last[label])
        last[label] = i
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


def standardised_by_numpy(train_x, test_x):
    train, test = train_x.numpy(), test_x.numpy()
    mean, spread = train.mean(0), train.std(0).clip(1e-9)
    return [torch.from_numpy((x - mean) / spread) for x in (train, test)]


WRONG = {
    "capture_by_hand": {
        "the cache holds, under each name": [
            capture_with(lambda output: output.detach()),
            capture_with(lambda output: output.clone()),
            capture_with(lambda output: output.shape),
            capture_under_the_last_name,
            capture_replaces_outputs,
            capture_yields_nothing,
        ],
        "the network computes what it always did": [capture_without_gradients],
        "after an error inside the `with` nothing is left": [
            capture_swallows_errors,
            capture_without_finally,
        ],
        "a name that does not exist is an error": [
            capture_registers_too_early,
            capture_skips_unknown_names,
        ],
        "hooks that others register": [capture_clears_all_hooks],
        "what it is given is left as it was": [
            capture_uses_names_up,
            lambda model, names: capture(model.eval(), names),
            lambda model, names: capture(model.requires_grad_(False), names),
        ],
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
            edit_with(edit_unless_zero),
        ],
        "what the module returned is left as it was": [edit_with(edit_in_place)],
        "after an error inside the `with` nothing is left": [
            edited_without_finally,
            edited_forward_stays,
        ],
        "hooks that others register": [edited_pops_the_last],
        "what it is given is left as it was": [
            edited_for_ever,
            lambda module, function: edit(module.eval(), function),
        ],
        "it runs without an error": [
            edit_with(lambda function, x, output: function(output) or output),
        ],
    },
    "other_of_class": {
        "a donor is another clip of the same class": [
            donors_of(lambda rows: rows),
            donors_of(lambda rows: rows.flip(0)),  # leaves the middle one in its place
            donors_of(lambda rows: torch.arange(len(rows)).roll(1)),
            donors_of(lambda rows: rows.roll(1)[[0] + [1] * (len(rows) - 1)]),
            lambda labels: torch.arange(len(labels)).roll(-1),
            lambda labels: donors(labels) + 1,
            lambda labels: [*donors(labels).tolist(), 0],
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
            standardised_with(of_test=lambda x: (0.0, 1.0)),
            standardised_with(lambda x: (x.mean(), x.std())),
            standardised_with(divide=lambda x, m, s: ((x - m) / s).clamp(-5, 5)),
        ],
        "a channel without spread": [standardised_with(lambda x: (x.mean(0), x.std(0)))],
        "it returns two things": [lambda train_x, test_x: standardised(train_x, test_x)[0]],
    },
}

RIGHT = {
    "capture_by_hand": [capture, CaptureByClass, capture_by_forward],
    "edited": [edit, edited_by_forward],
    "other_of_class": [donors, donors_by_dict, donors_by_luck],
    "standardised": [
        standardised,
        standardised_by_numpy,
        standardised_with(lambda x: (x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt())),
        standardised_with(lambda x: (x.mean(0), x.std(0) + 1e-4)),
    ],
}
