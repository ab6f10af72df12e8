"""Answers to the exercises of notebook 08: (check, answer, words of the property it breaks)."""

import random
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from blvnet_lab.course.exercises import (
    check_capture_by_hand,
    check_edited,
    check_other_of_class,
    check_standardised,
)


def keeper(cache, name, copied=lambda output: output.detach().clone()):
    """A right hook, unless `copied` is a wrong one."""

    def hook(module, args, output):
        cache[name] = copied(output)

    return hook


@contextmanager
def capture_with(model, names, copied):
    cache, handles = {}, []
    try:
        for name in names:
            module = model.get_submodule(name)
            handles.append(module.register_forward_hook(keeper(cache, name, copied)))
        yield cache
    finally:
        for handle in handles:
            handle.remove()


def capture_without_copy(model, names):
    return capture_with(model, names, lambda output: output.detach())


def capture_with_graph(model, names):
    return capture_with(model, names, lambda output: output.clone())


def capture_of_shapes(model, names):
    return capture_with(model, names, lambda output: output.shape)


@contextmanager
def capture_stays(model, names):
    cache = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(keeper(cache, name))
    yield cache


@contextmanager
def capture_without_finally(model, names):
    cache = {}
    handles = [model.get_submodule(n).register_forward_hook(keeper(cache, n)) for n in names]
    yield cache
    for handle in handles:
        handle.remove()


@contextmanager
def capture_registers_too_early(model, names):
    cache = {}
    handles = [model.get_submodule(n).register_forward_hook(keeper(cache, n)) for n in names]
    try:
        yield cache
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture_under_the_last_name(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:

            def hook(module, args, output):
                cache[name] = output.detach().clone()  # noqa: B023 (that is the mistake)

            handle = model.get_submodule(name).register_forward_hook(hook)
            stack.callback(handle.remove)
        yield cache


@contextmanager
def capture_outer_names_only(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:
            handle = getattr(model, name).register_forward_hook(keeper(cache, name))
            stack.callback(handle.remove)
        yield cache


@contextmanager
def capture_of_inputs(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:

            def hook(module, args, name=name):
                cache[name] = args[0].detach().clone()

            stack.callback(model.get_submodule(name).register_forward_pre_hook(hook).remove)
        yield cache


@contextmanager
def capture_detaches_the_network(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:

            def hook(module, args, output, name=name):
                cache[name] = output.detach().clone()
                return cache[name]

            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield cache


@contextmanager
def capture_clears_all_hooks(model, names):
    cache = {}
    try:
        for name in names:
            model.get_submodule(name).register_forward_hook(keeper(cache, name))
        yield cache
    finally:
        for module in model.modules():
            module._forward_hooks.clear()


@contextmanager
def capture_empties_the_cache(model, names):
    with capture_by_stack(model, names) as cache:
        yield cache
        cache.clear()


@contextmanager
def capture_yields_nothing(model, names):
    with capture_by_stack(model, names):
        yield


@contextmanager
def capture_swallows_errors(model, names):
    try:
        with capture_by_stack(model, names) as cache:
            yield cache
    except Exception:
        pass


@contextmanager
def capture_skips_unknown_names(model, names):
    known = dict(model.named_modules())
    with capture_by_stack(model, [name for name in names if name in known]) as cache:
        yield cache


@contextmanager
def capture_forward_stays(model, names):
    cache = {}

    def kept(name, forward):
        def kept_forward(*args):
            output = forward(*args)
            cache[name] = output.detach().clone()
            return output

        return kept_forward

    for name in names:
        module = model.get_submodule(name)
        module.forward = kept(name, module.forward)
    yield cache


@contextmanager
def capture_of_the_first_call(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:

            def hook(module, args, output, name=name):
                cache.setdefault(name, output.detach().clone())

            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield cache


def capture_without_decorator(model, names):
    yield {}


@contextmanager
def capture_returns(model, names):
    return {}


@contextmanager
def capture_by_stack(model, names):
    cache = {}
    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(keeper(cache, name))
            stack.callback(handle.remove)
        yield cache


def kept_forward(cache, name, forward):
    def new_forward(*args):
        output = forward(*args)
        cache[name] = output.detach().clone()
        return output

    return new_forward


@contextmanager
def capture_forward_without_finally(model, names):
    cache, modules = {}, [model.get_submodule(name) for name in names]
    forwards = [module.forward for module in modules]
    for name, module in zip(names, modules, strict=True):
        module.forward = kept_forward(cache, name, module.forward)
    yield cache
    for module, forward in zip(modules, forwards, strict=True):
        module.forward = forward


@contextmanager
def capture_forward_stays_when_misspelt(model, names):
    cache, forwards = {}, []
    for name in names:
        module = model.get_submodule(name)
        forwards.append((module, module.forward))
        module.forward = kept_forward(cache, name, module.forward)
    try:
        yield cache
    finally:
        for module, forward in forwards:
            module.forward = forward


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
def capture_with_shared_handles(model, names, handles=[]):  # noqa: B006 (that is the mistake)
    cache = {}
    try:
        for name in names:
            hook = keeper(cache, name)
            handles.append(model.get_submodule(name).register_forward_hook(hook))
        yield cache
    finally:
        while handles:
            handles.pop().remove()


@contextmanager
def hooks_put_back(modules):
    kept = [module._forward_hooks.copy() for module in modules]
    try:
        yield
    finally:
        for module, hooks in zip(modules, kept, strict=True):
            module._forward_hooks = hooks


@contextmanager
def capture_puts_hooks_back(model, names):
    cache = {}
    with hooks_put_back(list(model.modules())):
        for name in names:
            model.get_submodule(name).register_forward_hook(keeper(cache, name))
        yield cache


@contextmanager
def capture_filters_hooks(model, names):
    """Takes only its own hooks away, but puts another dictionary in the place of the old."""
    with capture_by_stack(model, names) as cache:
        yield cache
    for name in names:
        module = model.get_submodule(name)
        module._forward_hooks = module._forward_hooks.copy()


@contextmanager
def capture_pops_the_last(model, names):
    cache, modules = {}, []
    try:
        for name in names:
            modules.append(model.get_submodule(name))
            modules[-1].register_forward_hook(keeper(cache, name))
        yield cache
    finally:
        for module in modules:
            module._forward_hooks.popitem()


@contextmanager
def capture_in_eval_mode(model, names):
    with capture_by_stack(model.eval(), names) as cache:
        yield cache


@contextmanager
def capture_ends_in_train_mode(model, names):
    with capture_by_stack(model.eval(), names) as cache:
        yield cache
    model.train()


@contextmanager
def capture_freezes(model, names):
    with capture_by_stack(model, names) as cache:
        yield cache
    model.requires_grad_(False)


@contextmanager
def capture_without_gradients(model, names):
    with torch.no_grad(), capture_by_stack(model, names) as cache:
        yield cache


@contextmanager
def capture_sorts_names(model, names):
    names.sort()
    with capture_by_stack(model, names) as cache:
        yield cache


@contextmanager
def capture_uses_names_up(model, names):
    cache = {}
    with ExitStack() as stack:
        while names:
            name = names.pop()
            handle = model.get_submodule(name).register_forward_hook(keeper(cache, name))
            stack.callback(handle.remove)
        yield cache


called_by_mistake = capture_by_stack(torch.nn.Identity(), [])
called_by_mistake.__name__ = "called_by_mistake"


class CaptureByClass:
    def __init__(self, model, names):
        modules = dict(model.named_modules())
        self.modules = {name: modules[name] for name in names}

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
def edited_hook(module, hook, register="register_forward_hook"):
    handle = getattr(module, register)(hook)
    try:
        yield
    finally:
        handle.remove()


def edited_forgets_return(module, function):
    def hook(module, args, output):
        function(output)

    return edited_hook(module, hook)


def edited_input_of_hook(module, function):
    return edited_hook(module, lambda module, args, output: function(args[0]))


def edited_before(module, function):
    def hook(module, args):
        return (function(args[0]),)

    return edited_hook(module, hook, "register_forward_pre_hook")


def edited_or_not(module, function):
    return edited_hook(module, lambda module, args, output: function(output) or output)


def edited_zeros_are_nothing(module, function):
    def hook(module, args, output):
        maps = function(output)
        return maps if maps.any() else None

    return edited_hook(module, hook)


@contextmanager
def edited_once(module, function):
    def hook(module, args, output):
        handle.remove()
        return function(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


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
def edited_clears_all(module, function):
    module.register_forward_hook(lambda module, args, output: function(output))
    try:
        yield
    finally:
        module._forward_hooks.clear()


@contextmanager
def edited_swallows_errors(module, function):
    with edited_hook(module, lambda module, args, output: function(output)):
        try:
            yield
        except Exception:
            return


@contextmanager
def edited_forward_stays(module, function):
    forward = module.forward
    module.forward = lambda x: function(forward(x))
    yield
    module.forward = forward


@contextmanager
def edited_from_its_class(module, function):
    module.forward = lambda *args: function(type(module).forward(module, *args))
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)


def edited_detached(module, function):
    return edited_hook(module, lambda module, args, output: function(output.detach().clone()))


def edited_without_gradients(module, function):
    return edited_hook(module, torch.no_grad()(lambda module, args, output: function(output)))


def edited_in_place(module, function):
    def hook(module, args, output):
        output[:] = function(output)

    return edited_hook(module, hook)


def edited_computed_once(module, function):
    results = []

    def hook(module, args, output):
        if not results:
            results.append(function(output))
        return results[0]

    return edited_hook(module, hook)


@contextmanager
def edited_pops_the_last(module, function):
    module.register_forward_hook(lambda module, args, output: function(output))
    try:
        yield
    finally:
        module._forward_hooks.popitem()


@contextmanager
def edited_puts_hooks_back(module, function):
    with hooks_put_back([module]):
        module.register_forward_hook(lambda module, args, output: function(output))
        yield


def edited_in_eval_mode(module, function):
    return edited_by_hook(module.eval(), function)


@contextmanager
def edited_ends_in_train_mode(module, function):
    with edited_by_hook(module.eval(), function):
        yield
    module.train()


@contextmanager
def edited_in_front(module, function):
    handle = module.register_forward_hook(
        lambda module, args, output: function(output), prepend=True
    )
    try:
        yield
    finally:
        handle.remove()


def edited_by_hook(module, function):
    return edited_hook(module, lambda module, args, output: function(output))


@contextmanager
def edited_by_forward(module, function):
    forward = module.forward
    module.forward = lambda *args: function(forward(*args))
    try:
        yield
    finally:
        module.forward = forward


def donors_itself(labels):
    return torch.arange(len(labels))


def donors_next_clip(labels):
    return torch.arange(len(labels)).roll(-1)


def donors_by_chance(labels):
    donors = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        donors[rows] = rows[torch.randperm(len(rows))]
    return donors


def donors_backwards(labels):
    """Reversing leaves the middle one of an odd number in its place."""
    donors = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        donors[rows] = rows.flip(0)
    return donors


def donors_first_other(labels):
    found = []
    for i, label in enumerate(labels):
        found.append(next(j for j, it in enumerate(labels) if it == label and j != i))
    return torch.tensor(found)


def donors_as_if_sorted(labels):
    size = len(labels) // len(labels.unique())
    place = torch.arange(len(labels)) % size
    return labels * size + (place + 1) % size


def donors_places_in_class(labels):
    donors = torch.empty_like(labels)
    for label in labels.unique():
        rows = labels == label
        donors[rows] = torch.arange(int(rows.sum())).roll(1)
    return donors


def donors_one_too_far(labels):
    return donors_rolled(labels) + 1


def donors_labels(labels):
    return [*labels.tolist(), 0]


def donors_seed_torch(labels):
    torch.manual_seed(0)
    return donors_by_luck(labels)


def donors_seed_python(labels):
    random.seed(0)
    return donors_rolled(labels)


def donors_numpy(labels):
    return np.array(donors_by_dict(labels))


def donors_rolled(labels):
    donors = torch.empty_like(labels)
    sizes = labels.unique(return_counts=True)[1].tolist()
    for rows in labels.argsort(stable=True).split(sizes):
        donors[rows] = rows.roll(1)
    return donors


def donors_by_dict(labels):
    last, first, donors = {}, {}, [0] * len(labels)
    for i, label in enumerate(labels.tolist()):
        if label in last:
            donors[i] = last[label]
        first.setdefault(label, i)
        last[label] = i
    for label, i in first.items():
        donors[i] = last[label]
    return donors


def donors_by_luck(labels):
    while True:
        donors = donors_by_chance(labels)
        if (donors != torch.arange(len(labels))).all():
            return donors


EPSILON = 1e-6


def of_mean_and_spread(x, mean, spread):
    return (x - mean) / (spread + EPSILON)


def standardised_each_by_itself(train_x, test_x):
    def alone(x):
        return of_mean_and_spread(x, x.mean(0), x.std(0, correction=0))

    return alone(train_x), alone(test_x)


def standardised_together(train_x, test_x):
    both = torch.cat([train_x, test_x])
    mean, spread = both.mean(0), both.std(0)
    return of_mean_and_spread(train_x, mean, spread), of_mean_and_spread(test_x, mean, spread)


def standardised_test_mean(train_x, test_x):
    train, spread = standardised_right(train_x, train_x)[0], train_x.std(0)
    return train, of_mean_and_spread(test_x, test_x.mean(0), spread)


def standardised_over_channels(train_x, test_x):
    def alone(x):
        return of_mean_and_spread(x, x.mean(1, keepdim=True), x.std(1, correction=0, keepdim=True))

    return alone(train_x), alone(test_x)


def standardised_one_for_all(train_x, test_x):
    mean, spread = train_x.mean(), train_x.std()
    return of_mean_and_spread(train_x, mean, spread), of_mean_and_spread(test_x, mean, spread)


def standardised_by_variance(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.var(0)
    return of_mean_and_spread(train_x, mean, spread), of_mean_and_spread(test_x, mean, spread)


def standardised_without_mean(train_x, test_x):
    spread = train_x.std(0) + EPSILON
    return train_x / spread, test_x / spread


def standardised_divides_by_zero(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.std(0)
    return (train_x - mean) / spread, (test_x - mean) / spread


def standardised_training_only(train_x, test_x):
    return standardised_right(train_x, test_x)[0], test_x


def standardised_in_place(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.std(0) + EPSILON
    return train_x.sub_(mean).div_(spread), test_x.sub_(mean).div_(spread)


def standardised_train_returned(train_x, test_x):
    return standardised_right(train_x, test_x)[0]


def standardised_nan_to_num(train_x, test_x):
    return [torch.nan_to_num(x) for x in standardised_divides_by_zero(train_x, test_x)]


def standardised_dead_by_test(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.std(0)
    spread = torch.where(spread == 0, test_x.std(0), spread)
    return of_mean_and_spread(train_x, mean, spread), of_mean_and_spread(test_x, mean, spread)


def standardised_clamped(train_x, test_x):
    return [x.clamp(-5, 5) for x in standardised_right(train_x, test_x)]


def standardised_transposed(train_x, test_x):
    return [x.t() for x in standardised_right(train_x, test_x)]


def standardised_without_gradients(train_x, test_x):
    torch.set_grad_enabled(False)
    return standardised_right(train_x, test_x)


def standardised_by_variance_and_epsilon(train_x, test_x):
    mean, spread = train_x.mean(0), (train_x.var(0, correction=0) + 1e-5).sqrt()
    return (train_x - mean) / spread, (test_x - mean) / spread


def standardised_larger_epsilon(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.std(0) + 1e-4
    return (train_x - mean) / spread, (test_x - mean) / spread


def standardised_right(train_x, test_x):
    mean, spread = train_x.mean(0), train_x.std(0)
    return of_mean_and_spread(train_x, mean, spread), of_mean_and_spread(test_x, mean, spread)


def standardised_by_channel(train_x, test_x):
    train, test = torch.empty_like(train_x), torch.empty_like(test_x)
    for c in range(train_x.shape[1]):
        spread, mean = torch.std_mean(train_x[:, c], correction=0)
        spread = spread if spread > 0 else 1.0
        train[:, c] = (train_x[:, c] - mean) / spread
        test[:, c] = (test_x[:, c] - mean) / spread
    return train, test


def standardised_numpy(train_x, test_x):
    train, test = train_x.numpy(), test_x.numpy()
    mean, spread = train.mean(0), train.std(0).clip(1e-9)
    return [torch.from_numpy((x - mean) / spread) for x in (train, test)]


WRONG = [
    (check_capture_by_hand, capture_without_copy, "a copy that nothing changes"),
    (check_capture_by_hand, capture_with_graph, "has left the graph"),
    (check_capture_by_hand, capture_of_shapes, "the cache holds tensors"),
    (check_capture_by_hand, capture_stays, "after the `with` nothing is left"),
    (check_capture_by_hand, capture_without_finally, "after an error nothing is left"),
    (check_capture_by_hand, capture_registers_too_early, "misspelt nothing is left"),
    (check_capture_by_hand, capture_under_the_last_name, "under its own name"),
    (check_capture_by_hand, capture_outer_names_only, "runs without an error"),
    (check_capture_by_hand, capture_of_inputs, "what the named module returned"),
    (check_capture_by_hand, capture_detaches_the_network, "can still be trained"),
    (check_capture_by_hand, capture_clears_all_hooks, "takes only its own hooks away"),
    (check_capture_by_hand, capture_empties_the_cache, "still there after the `with`"),
    (check_capture_by_hand, capture_yields_nothing, "the dict of captured maps"),
    (check_capture_by_hand, capture_swallows_errors, "goes on to whoever made it"),
    (check_capture_by_hand, capture_skips_unknown_names, "does not exist is an error"),
    (check_capture_by_hand, capture_forward_stays, "after the `with` nothing is left"),
    (check_capture_by_hand, capture_of_the_first_call, "in the last of several calls"),
    (check_capture_by_hand, capture_without_decorator, "can stand after `with`"),
    (check_capture_by_hand, capture_returns, "can stand after `with`"),
    (check_capture_by_hand, capture_forward_without_finally, "after an error nothing is left"),
    (check_capture_by_hand, capture_forward_stays_when_misspelt, "misspelt nothing is left"),
    (check_capture_by_hand, capture_with_shared_handles, "takes only its own hooks away"),
    (check_capture_by_hand, capture_puts_hooks_back, "hooks of others stay"),
    (check_capture_by_hand, capture_filters_hooks, "handles of others still remove"),
    (check_capture_by_hand, capture_pops_the_last, "hooks of others stay"),
    (check_capture_by_hand, capture_in_eval_mode, "after the `with` nothing is left"),
    (check_capture_by_hand, capture_ends_in_train_mode, "after the `with` nothing is left"),
    (check_capture_by_hand, capture_freezes, "after the `with` nothing is left"),
    (check_capture_by_hand, capture_without_gradients, "can still be trained"),
    (check_capture_by_hand, capture_sorts_names, "left as it was"),
    (check_capture_by_hand, capture_uses_names_up, "left as it was"),
    (check_capture_by_hand, called_by_mistake, "the answer is a function"),
    (check_edited, edited_forgets_return, "the result is function(output)"),
    (check_edited, edited_input_of_hook, "the result is function(output)"),
    (check_edited, edited_before, "the result is function(output)"),
    (check_edited, edited_detached, "gradients flow through the edit"),
    (check_edited, edited_without_gradients, "gradients flow through the edit"),
    (check_edited, edited_in_place, "that the function gets is left as it was"),
    (check_edited, edited_computed_once, "each time anew"),
    (check_edited, edited_pops_the_last, "hooks of others stay"),
    (check_edited, edited_puts_hooks_back, "hooks of others stay"),
    (check_edited, edited_in_eval_mode, "the network is as it was"),
    (check_edited, edited_ends_in_train_mode, "the network is as it was"),
    (check_edited, edited_in_front, "in the order in which they were entered"),
    (check_edited, edited_or_not, "runs without an error"),
    (check_edited, edited_zeros_are_nothing, "an edit to zeros is an edit"),
    (check_edited, edited_once, "every call inside the `with`"),
    (check_edited, edited_for_ever, "after the `with` the network is as it was"),
    (check_edited, edited_without_finally, "after an error the network is as it was"),
    (check_edited, edited_clears_all, "takes only its own edit away"),
    (check_edited, edited_swallows_errors, "goes on to whoever made it"),
    (check_edited, edited_forward_stays, "after an error the network is as it was"),
    (check_edited, edited_from_its_class, "two edits act one after the other"),
    (check_other_of_class, donors_itself, "no clip is its own donor"),
    (check_other_of_class, donors_next_clip, "of the same class"),
    (check_other_of_class, donors_by_chance, "no clip is its own donor"),
    (check_other_of_class, donors_backwards, "no clip is its own donor"),
    (check_other_of_class, donors_first_other, "the donor of exactly one"),
    (check_other_of_class, donors_as_if_sorted, "of the same class"),
    (check_other_of_class, donors_places_in_class, "of the same class"),
    (check_other_of_class, donors_one_too_far, "from 0 to N - 1"),
    (check_other_of_class, donors_labels, "one whole number for each clip"),
    (check_other_of_class, donors_seed_torch, "not begun anew"),
    (check_other_of_class, donors_seed_python, "not begun anew"),
    (check_standardised, standardised_each_by_itself, "not depend on the other test clips"),
    (check_standardised, standardised_together, "do not depend on the test clips"),
    (check_standardised, standardised_test_mean, "not depend on the other test clips"),
    (check_standardised, standardised_over_channels, "the spread 1 in each channel"),
    (check_standardised, standardised_one_for_all, "every channel has its own"),
    (check_standardised, standardised_by_variance, "the spread 1 in each channel"),
    (check_standardised, standardised_without_mean, "the mean 0 in each channel"),
    (check_standardised, standardised_divides_by_zero, "no NaN, no infinity"),
    (check_standardised, standardised_training_only, "treated like training clips"),
    (check_standardised, standardised_in_place, "left as it was"),
    (check_standardised, standardised_train_returned, "it returns two things"),
    (check_standardised, standardised_nan_to_num, "as good as infinite"),
    (check_standardised, standardised_dead_by_test, "not depend on the other test clips"),
    (check_standardised, standardised_clamped, "go through the same formula"),
    (check_standardised, standardised_transposed, "of the shapes of train_x"),
    (check_standardised, standardised_without_gradients, "PyTorch's settings"),
]

RIGHT = [
    (check_capture_by_hand, capture_by_stack),
    (check_capture_by_hand, CaptureByClass),
    (check_capture_by_hand, capture_by_forward),
    (check_edited, edited_by_hook),
    (check_edited, edited_by_forward),
    (check_other_of_class, donors_rolled),
    (check_other_of_class, donors_by_dict),
    (check_other_of_class, donors_by_luck),
    (check_other_of_class, donors_numpy),
    (check_standardised, standardised_right),
    (check_standardised, standardised_by_channel),
    (check_standardised, standardised_numpy),
    (check_standardised, standardised_by_variance_and_epsilon),
    (check_standardised, standardised_larger_epsilon),
]
