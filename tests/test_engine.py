"""The training engine in one process: steps, random numbers, figures, files and faults."""

import copy
import errno
import itertools
import json
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partialmethod
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import torchvision
from lab import contents
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils.data import TensorDataset
from training_process import Clips, short_recipe
from videos import write_video

from blvnet_lab.data import ClipDataset, DataSet, evaluation_transform, training_transform
from blvnet_lab.datasets.motion import CLASSES, write_dataset
from blvnet_lab.models import blvnet, blvnet_tam, save_model, tsn
from blvnet_lab.runs import train as run_module
from blvnet_lab.runs.train import clip_datasets, start_from, train
from blvnet_lab.training import engine
from blvnet_lab.training.checkpoint import Trained, load_trained, read_checkpoint, save_trained
from blvnet_lab.training.distributed import Ranks
from blvnet_lab.training.engine import Fitted, build, fit, train_one_epoch
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.loading import (
    Batches,
    DeadWorkerError,
    Keyed,
    mixing,
    report_dead_worker,
    timed_batches,
    training_loader,
)
from blvnet_lab.training.recipe import Augmentation, Hardware, Network, Output, Recipe, Views
from blvnet_lab.weights import official

CPU = torch.device("cpu")
SHORT = short_recipe()
FILES = {"last.pt", "best.pt", "log.jsonl", "recipe.json"}


class Small(nn.Module):
    """The least that an epoch asks of a network: two layers, one of them a classifier."""

    def __init__(self, features: int = 6, classes: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.classifier = nn.Linear(features, 5), nn.Linear(5, classes)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(self.body(clips.flatten(1)).tanh())


class Watching(torch.optim.SGD):
    """Keeps the gradients of every step, and changes no weights."""

    def __init__(self, model: nn.Module):
        super().__init__(model.parameters(), 0.1)
        self.gradients: list[list[Tensor]] = []

    def step(self, closure: None = None) -> None:
        found = [weight.grad.clone() for weight in self.param_groups[0]["params"]]
        self.gradients.append(found)


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)


def points(count: int = 24, classes: int = 3) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(3 * data, torch.arange(count) % classes)


def watch(recipe: Recipe, data: TensorDataset | None = None) -> tuple[Watching, float, list]:
    """An epoch over `points`: what the optimizer was given, the loss, the numbers of the clips."""
    data = data or points()
    model = Small().to(data.tensors[0].dtype)
    optimizer = Watching(model)
    loader, batches = training_loader(data, recipe, Ranks(), CPU)
    loss = train_one_epoch(model, loader, optimizer, constant(optimizer), CPU, recipe)
    return optimizer, loss, [key[1] for keys in batches for key in keys]


def fitted(out: Path | None = None, recipe: Recipe = SHORT, **options) -> tuple[nn.Module, Fitted]:
    """A run on noisy clips that are dark or bright."""
    model = options.pop("model", None) or build(recipe, 2)
    train_set = options.pop("train_set", None) or Clips(24, augmented=True)
    val_set = options.pop("val_set", None) or Clips(10, seed=1)
    names = [field.name for field in fields(Output) if field.name in options]
    how = {name: options.pop(name) for name in names}
    output = Output(out, **how) if out else None
    return model, fit(model, train_set, val_set, recipe, device=CPU, output=output, **options)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def weights_before_steps(model: nn.Module) -> list[dict[str, Tensor]]:
    """Filled while the model is trained."""
    seen = []
    model.register_forward_pre_hook(
        lambda module, _: seen.append(tensors(module)) if module.training else None
    )
    return seen


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


# ---------------------------------------------------------------- a step
@pytest.mark.parametrize("accumulate", [1, 4])
def test_parts_of_a_batch_give_its_gradients(accumulate):
    recipe = replace(SHORT, hardware=Hardware(accumulate=accumulate))
    optimizer, loss, order = watch(recipe)
    model, data = Small().double(), points()
    assert len(optimizer.gradients) == 3 and sorted(order) == list(range(24))
    losses = []
    for step, gradients in enumerate(optimizer.gradients):
        clips, labels = data[order[8 * step : 8 * step + 8]]
        losses.append(F.cross_entropy(model(clips), labels))
        expected = torch.autograd.grad(losses[-1], list(model.parameters()))
        torch.testing.assert_close(gradients, list(expected), rtol=1e-9, atol=1e-14)
    assert loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)


@pytest.mark.parametrize("last", [True, False])
def test_clips_and_maps_have_the_layout_of_the_recipe_both_ways(last):
    recipe = replace(SHORT, epochs=1, hardware=Hardware(channels_last=last))
    layout, found = (torch.contiguous_format, torch.channels_last)[last], []
    model = build(recipe, 2)

    def note(module: nn.Module, maps: tuple[Tensor], *_) -> None:
        if model.training:
            found.append(maps[0].flatten(0, -4).is_contiguous(memory_format=layout))

    model.stem.conv.register_forward_pre_hook(note)
    for place in (model.stem.tam, model.stem.relu):  # the gradients of what goes in
        place.register_full_backward_hook(note)
    fitted(recipe=recipe, model=model)
    assert len(found) == 9 and all(found)


def test_long_gradients_are_shortened():
    recipe = replace(SHORT, hardware=Hardware(accumulate=2))
    whole, _, _ = watch(recipe)
    lengths = [torch.cat([g.flatten() for g in step]).norm().item() for step in whole.gradients]
    limit = sorted(lengths)[1]  # one is longer, one is shorter
    shortened, _, _ = watch(replace(recipe, clip_norm=limit))
    for length, before, after in zip(lengths, whole.gradients, shortened.gradients, strict=True):
        expected = [min(1, limit / length) * gradient for gradient in before]
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-12)
    assert min(lengths) < 0.999 * limit < 0.99 * max(lengths)


@pytest.mark.parametrize("changes", [{"cutmix": 0.5}, {"mixup": 0.5, "cutmix": 1.0}])
def test_all_frames_are_mixed_alike(changes):
    """Clip b has the brightness 10 b, and t more in frame t: the picture tells what was mixed."""
    clips = torch.arange(6.0).mul(10)[:, None, None, None, None].repeat(1, 4, 3, 16, 24)
    clips += torch.arange(4.0)[:, None, None, None]
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    recipe = replace(SHORT, augmentation=Augmentation(**changes))
    mix, kinds = mixing(recipe, 5), set()
    for seed in range(12):
        torch.manual_seed(seed)
        before = clips.clone()
        mixed, targets = mix(clips, labels)
        assert torch.equal(clips, before) and type(mixed) is Tensor and mixed.shape == clips.shape
        assert targets.shape == (6, 5)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        still = mixed - torch.arange(4.0)[:, None, None, None]
        assert (still - still[:, :1, :1]).abs().max() < 1e-3, "the same in all frames and colours"
        other = clips.roll(1, 0)[:, 0, 0] - clips[:, 0, 0]  # (B, H, W)
        share_of_other = (still[:, 0, 0] - clips[:, 0, 0]) / other  # of each pixel
        weights = share_of_other.mean((1, 2))
        expected = (1 - weights)[:, None] * F.one_hot(labels, 5)
        expected += weights[:, None] * F.one_hot(labels.roll(1), 5)
        torch.testing.assert_close(targets, expected, rtol=0, atol=1e-4)
        whole = (share_of_other - share_of_other.round()).abs().max() < 1e-3
        kinds.add("cutmix" if whole else "mixup")
    assert kinds == set(changes)


def test_the_loss_of_mixed_clips_is_that_of_mixed_labels():
    changes = Augmentation(mixup=1.0, cutmix=1.0)
    recipe = replace(SHORT, augmentation=changes, label_smoothing=0.2)
    torch.manual_seed(3)
    clips, labels = torch.randn(8, 4, 3, 8, 8), torch.arange(8) % 3
    model = Small(4 * 3 * 8 * 8)
    optimizer = Watching(model)
    for seed in range(4):
        torch.manual_seed(seed)
        mixed, targets = mixing(recipe, 3)(clips, labels)
        expected = F.cross_entropy(model(mixed), targets, label_smoothing=0.2).item()
        torch.manual_seed(seed)
        batches = [(clips, labels)]
        loss = train_one_epoch(model, batches, optimizer, constant(optimizer), CPU, recipe)
        assert loss == pytest.approx(expected, rel=1e-5)
        plain = F.cross_entropy(model(mixed), labels, label_smoothing=0.2).item()
        assert loss != pytest.approx(plain, rel=1e-3)


def test_average_of_weights_by_hand(tmp_path):
    recipe = replace(SHORT, ema=0.22)
    model, seen = build(recipe, 2), []
    after = weights_before_steps(model)

    def score(network, predictions):
        seen.append((network, tensors(network), predictions.logits))
        return {"top_1": 0.5}

    _, result = fitted(tmp_path / "run", recipe, model=model, score=score)
    last = read_checkpoint(tmp_path / "run" / "last.pt")["model"]
    after = [*after[1:], dict(last)]  # before a step is after the one before
    assert len(after) == 6
    by_hand, at_epochs = dict(after[0]), []
    for number, weights in enumerate(after):
        if number:
            decay = min(0.22, (1 + number) / (10 + number))  # it rises: 2/11, 3/12, ...
            by_hand = {k: decay * by_hand[k] + (1 - decay) * weights[k] for k in weights}
        if number % 3 == 2:
            at_epochs.append(dict(by_hand))
    for (network, evaluated, _), expected in zip(seen, at_epochs, strict=True):
        learned = {name: t for name, t in evaluated.items() if t.is_floating_point()}
        averages = {name: expected[name] for name in learned}
        torch.testing.assert_close(learned, averages, rtol=1e-5, atol=1e-7)
        assert network is not model
        assert not torch.equal(evaluated["stem.conv.weight"], after[2]["stem.conv.weight"])
    # Evaluated is the average, and kept; the best epoch is the first here.
    check = build(recipe, 2)
    for (_, evaluated, logits), name in zip(seen, ("best.pt", "last.pt"), strict=True):
        assert_equal(tensors(load_trained(tmp_path / "run" / name).model), evaluated)
        check.load_state_dict(evaluated)
        again = evaluate(check, Clips(10, seed=1), device=CPU).logits
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-6)
    assert torch.equal(result.predictions.logits, seen[-1][2])
    assert_equal(tensors(model), seen[-1][1])
    check.load_state_dict(after[-1])
    raw = evaluate(check, Clips(10, seed=1), device=CPU)
    top_1 = (raw.logits.argmax(1) == raw.labels).float().mean().item()
    assert result.history[-1]["raw_top_1"] == pytest.approx(top_1)


# ---------------------------------------------------------------- precision
@pytest.mark.parametrize(
    "precision, dtype", [("bfloat16", torch.bfloat16), ("float16", torch.half)]
)
def test_half_precision_is_for_activations_only(precision, dtype, tmp_path):
    recipe = replace(SHORT, hardware=Hardware(precision))
    model, seen = build(recipe, 2), set()
    model.stage2.out.register_forward_hook(lambda net, _, out: seen.add((net.training, out.dtype)))
    _, half = fitted(tmp_path / "run", recipe, model=model)
    _, full = fitted()
    assert seen == {(True, dtype), (False, dtype)}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for one, other in zip(half.history, full.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=0.03)
    assert half.predictions.logits.dtype == torch.float32
    torch.testing.assert_close(half.predictions.logits, full.predictions.logits, rtol=0.1, atol=0.1)
    scaler = read_checkpoint(tmp_path / "run" / "last.pt")["scaler"]
    assert (scaler != {}) == (precision == "float16")
    if scaler:
        assert scaler["scale"] > 1 and scaler["_growth_tracker"] == 6


def test_float16_gradients_are_scaled_back():
    """Those that are shortened, and those that reach the weights, are the true ones."""
    clips, labels = points().tensors
    data = TensorDataset(clips.float(), labels)
    full, half = (
        watch(replace(SHORT, hardware=Hardware(precision), clip_norm=0.01), data)[0].gradients
        for precision in ("float32", "float16")
    )
    for one, other in zip(full, half, strict=True):
        assert torch.cat([g.flatten() for g in other]).norm() == pytest.approx(0.01, rel=1e-2)
        torch.testing.assert_close(one, other, rtol=0.05, atol=1e-4)


def overflowing(monkeypatch, scale: float) -> None:
    """Losses are scaled by so much to begin with."""
    monkeypatch.setattr(
        "blvnet_lab.training.state.GradScaler",
        lambda device, enabled: GradScaler(device, scale, enabled=enabled),
    )


def test_steps_that_overflow_do_not_count(tmp_path, monkeypatch):
    recipe = replace(SHORT, ema=0.9, hardware=Hardware("float16"))
    overflowing(monkeypatch, 2.0**20)
    model = build(recipe, 2)
    seen = weights_before_steps(model)
    _, result = fitted(tmp_path / "run", recipe, model=model)
    weights = [found["classifier.weight"] for found in [*seen, tensors(model)]]
    still = sum(torch.equal(a, b) for a, b in itertools.pairwise(weights))
    lines = result.history
    assert 0 < still < 6 and sum(line["skipped_steps"] for line in lines) == still
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert found["scheduler"]["last_epoch"] == found["ema"]["n_averaged"] == 6 - still
    assert found["scaler"]["scale"] == 2.0 ** (20 - still)
    # And after an interruption as without one.
    _, parts = interrupted(tmp_path / "parts", recipe)
    for key in ("train_loss", "skipped_steps", "learning_rate"):
        assert [line[key] for line in parts.history] == [line[key] for line in lines]


def test_a_run_in_which_all_steps_overflow(monkeypatch, caplog):
    recipe = replace(SHORT, hardware=Hardware("float16"))
    overflowing(monkeypatch, 2.0**120)
    model = build(recipe, 2)
    before = tensors(model)
    _, result = fitted(recipe=recipe, model=model)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
    assert [line["skipped_steps"] for line in result.history] == [3, 3]
    assert caplog.text.count("3 of 3 steps were skipped, as gradients overflowed in float16") == 2
    monkeypatch.setattr("blvnet_lab.training.engine.MIN_SCALE", 2.0**116)  # in the second epoch
    words = "overflowed in float16 with the loss scaled by no more than"
    with pytest.raises(FloatingPointError, match=words):
        fitted(recipe=recipe)


def test_the_hardware_may_change_on_the_way(tmp_path):
    hardware = Hardware("float16", channels_last=False, accumulate=2)
    recipes = [SHORT, replace(SHORT, hardware=hardware)]
    for number, (one, other) in enumerate(itertools.permutations(recipes)):
        out = tmp_path / str(number)
        fitted(out, one, score=stop_after(1))
        model, result = fitted(out, other, resume=True)
        assert [line["epoch"] for line in result.history] == [1, 2] and result.stopped == ""
        assert model.stem.conv.weight.is_contiguous() != other.hardware.channels_last
        kept = json.loads((out / "recipe.json").read_text())
        assert kept["hardware"]["precision"] == other.hardware.precision


def stop_after(epoch: int):
    """A `score` that has the run stop in the epoch after this one."""
    epochs = itertools.count(1)

    def score(network, predictions):
        if next(epochs) == epoch:
            signal.raise_signal(signal.SIGTERM)
        return {"top_1": 0.5}

    return score


def interrupted(out: Path, recipe: Recipe = SHORT, **options) -> tuple[nn.Module, Fitted]:
    """A run that is stopped in its second epoch, and its second part."""
    fitted(out, recipe, score=stop_after(1), **options)
    return fitted(out, recipe, resume=True, **options)


# ---------------------------------------------------------------- clips and random numbers
def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


LABELS = [4 if i % 13 == 5 else 1 if i % 6 == 0 else 0 for i in range(29)]  # rare classes


def keys_of(
    count: int = 29, batch: int = 8, *, seed: int = 0, epoch: int = 1, first: int = 0,
    rank: int = 0, world: int = 1, accumulate: int = 1, labels: list[int] | None = None,
) -> list[list[tuple[int, int]]]:  # fmt: skip
    """The batches of an epoch: numbers of clips, and how often they were drawn before."""
    options = {"seed": seed, "accumulate": accumulate, "labels": labels}
    batches = Batches(count, batch, ranks=Ranks(rank, world), **options)
    batches.epoch, batches.first_step = epoch, first
    found = list(batches)
    assert all(key[0] == epoch for keys in found for key in keys)
    assert len(found) == len(batches)
    return [[key[1:] for key in keys] for keys in found]


def numbers_of(*arguments, **options) -> list[list[int]]:
    return [[key[0] for key in keys] for keys in keys_of(*arguments, **options)]


def test_every_clip_once_an_epoch_at_most():
    for epoch in (1, 2, 3):
        found = numbers_of(epoch=epoch)
        assert [len(keys) for keys in found] == [8, 8, 8]
        assert len(set(flat(found))) == 24 and set(flat(found)) <= set(range(29))
        assert {before for _, before in flat(keys_of(epoch=epoch))} == {0}
    left_out = [set(range(29)) - set(flat(numbers_of(epoch=epoch))) for epoch in range(1, 30)]
    assert set.union(*left_out) == set(range(29)), "not always the same"
    orders = {tuple(flat(numbers_of(seed=k % 4, epoch=k // 4))) for k in range(20)}
    assert len(orders) == 20, "another order every epoch and seed"
    assert [sorted(keys) for keys in numbers_of(5, 8)] == [[0, 1, 2, 3, 4]], "less than a batch"


@pytest.mark.parametrize("size", [6, 7, 29])
def test_every_class_is_drawn_equally_often(size):
    seen = set()
    for epoch in range(1, 21):
        keys = flat(keys_of(29, size, epoch=epoch, labels=LABELS))
        drawn = Counter(LABELS[index] for index, _ in keys)
        assert len(keys) == 29 // size * size
        assert set(drawn) == {0, 1, 4} and max(drawn.values()) - min(drawn.values()) <= 1
        clips = Counter(index for index, _ in keys)
        for label in (0, 1, 4):
            of_class = [clips[i] for i in range(29) if LABELS[i] == label]
            assert max(of_class) - min(of_class) <= 1, "no clip again before all had a turn"
        assert len(set(keys)) == len(keys), "each draw has random numbers of its own"
        seen |= set(clips)
    assert seen == set(range(29))


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("world, accumulate", [(4, 1), (2, 2)])
def test_ranks_and_parts_share_the_batch_of_one_process(world, accumulate, labels):
    whole = keys_of(epoch=3, labels=labels)
    options = {"world": world, "accumulate": accumulate, "labels": labels}
    shares = [keys_of(epoch=3, rank=rank, **options) for rank in range(world)]
    for step, batch in enumerate(whole):
        own = [flat(share[step * accumulate : (step + 1) * accumulate]) for share in shares]
        assert flat(own) == batch
        assert {len(part) for share in shares for part in share} == {8 // world // accumulate}


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rest_of_an_epoch(accumulate, labels):
    whole = keys_of(epoch=2, accumulate=accumulate, labels=labels)
    for first in range(4):
        rest = keys_of(epoch=2, accumulate=accumulate, first=first, labels=labels)
        assert rest == whole[first * accumulate :]


def test_batches_that_cannot_be():
    with pytest.raises(ValueError, match="2 parts each can divide, got 10: take a multiple of 4"):
        keys_of(100, 10, world=2, accumulate=2)
    with pytest.raises(ValueError, match="one batch of 8 training clips, got 6: take a smaller"):
        keys_of(6, 8, world=2, accumulate=2)


def drawn(workers: int, *, epoch: int = 1, first: int = 0, seed: int = 0) -> dict[int, Tensor]:
    """The clips of (the rest of) an epoch, by their number."""
    recipe = replace(SHORT, seed=seed, hardware=Hardware(workers=workers))
    loader, batches = training_loader(Clips(24, augmented=True), recipe, Ranks(), CPU)
    batches.epoch, batches.first_step = epoch, first
    return {
        index: clip
        for _, (clips, _, numbers) in timed_batches(loader)
        for index, clip in zip(numbers.tolist(), clips, strict=True)
    }


def test_what_is_drawn_for_a_clip_depends_on_nothing_but_it():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    alone = drawn(0)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's draws are changed"
    assert set(alone) == set(range(24))
    torch.manual_seed(6)
    for workers in (1, 2):
        for index, clip in drawn(workers).items():
            assert torch.equal(clip, alone[index])
    rest = drawn(2, first=1)
    assert len(rest) == 16 and all(torch.equal(clip, alone[i]) for i, clip in rest.items())
    keyed, plain = Keyed(Clips(24, augmented=True), 0), Clips(24)
    for index in (7, 3, 7, 23):
        clip, label, number = keyed[1, index, 0]
        assert torch.equal(clip, alone[index]) and (label, number) == (index % 2, index)
        for other in (keyed[1, index, 1], keyed[1, index, 2], plain[index]):
            assert not torch.equal(clip, other[0]), "drawn again it is another"
    for other in (drawn(0, epoch=2), drawn(0, seed=1)):
        assert not any(torch.equal(other[index], alone[index]) for index in range(24))


class Spoilt(Clips):
    """One clip is not a number, from some epoch on (there are 24 clips an epoch)."""

    def __init__(self, clip: int, epochs: int = 0):
        super().__init__(24, augmented=True)
        self.clip, self.epochs = clip, epochs

    def __getitem__(self, index):
        clip, label = super().__getitem__(index)
        is_bad = index == self.clip and self.read > 24 * self.epochs
        return (clip * math.nan if is_bad else clip), label


@pytest.mark.parametrize("clip, accumulate", [(0, 1), (2, 4)])
def test_a_clip_that_is_not_a_number(clip, accumulate, tmp_path):
    recipe = replace(SHORT, hardware=Hardware(accumulate=accumulate))
    batches = numbers_of(24, epoch=2)
    ((step, batch),) = ((k, keys) for k, keys in enumerate(batches) if clip in keys)
    model = build(recipe, 2)
    with pytest.raises(FloatingPointError) as error:
        fitted(tmp_path / "run", recipe, model=model, train_set=Spoilt(clip, 1), save_minutes=0)
    names = ", ".join(f"clip_{index}.mp4" for index in batch)
    words = f"expected a finite loss, got nan at step {step + 1} of the epoch with {names}: look"
    assert words in str(error.value)
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (found["epoch"], found["step"]) == (2, step), "from before that step"
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    assert_equal(weights, {name: found["model"][name] for name in weights})
    assert all(tensor.isfinite().all() for tensor in found["model"].values())
    # Without the clip it goes on.
    _, result = fitted(tmp_path / "run", recipe, resume=True)
    assert [line["epoch"] for line in result.history] == [1, 2]


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    """The last step of the first epoch has a finite loss, but ruins the weights."""
    model, factors = build(SHORT, 2), iter([1, 1, math.inf])
    model.classifier.weight.register_hook(lambda gradient: gradient * next(factors))
    words = "expected finite weights, .* 1 tensors are not, first classifier.weight"
    with pytest.raises(FloatingPointError, match=words):
        fitted(tmp_path / "run", model=model, save_minutes=0)
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (found["epoch"], found["step"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in found["model"].values())


def test_the_line_of_an_epoch(tmp_path):
    seen = []
    model, result = fitted(
        tmp_path / "run", after_epoch=lambda history: seen.append(copy.deepcopy(history))
    )
    names = "epoch train_loss top_1 top_5 mean_class largest_class learning_rate seconds "
    names += "evaluation_seconds clips_per_second wait_share memory_gb unreadable"
    lines = [json.loads(text) for text in (tmp_path / "run" / "log.jsonl").open()]
    assert lines == result.history == seen[1] and seen[0] == lines[:1]
    for number, line in enumerate(lines, start=1):
        assert list(line) == names.split() and line["epoch"] == number and line["unreadable"] == 0
        assert abs(24 / line["clips_per_second"] - line["seconds"]) < 0.02
        assert 0 <= line["wait_share"] < 1 and line["evaluation_seconds"] > 0
        assert 0.05 < line["memory_gb"] < 64
    right = result.predictions.logits.argmax(1) == result.predictions.labels
    assert lines[-1]["top_1"] == pytest.approx(right.float().mean().item())
    assert lines[-1]["top_5"] == 1
    per_class = [right[result.predictions.labels == label].float().mean() for label in (0, 1)]
    assert lines[-1]["mean_class"] == pytest.approx(torch.stack(per_class).mean().item())
    assert lines[0]["learning_rate"] > lines[1]["learning_rate"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert result.stopped == "" and result.unreadable.empty
    assert not model.training
    _, other = fitted(score=lambda network, predictions: {"more": 1})
    assert [line["top_1"] for line in other.history] == [line["top_1"] for line in lines]
    assert model.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_slow_data_set_is_seen_at_once(monkeypatch):
    """By a clock of the test: a clip takes 0.05 s to read, and each of 12 forward passes 0.1 s."""
    recipe, clock = replace(SHORT, epochs=1, hardware=Hardware(accumulate=4)), [0.0]
    model = build(recipe, 2)
    monkeypatch.setattr(time, "perf_counter", lambda: sum(clock))
    monkeypatch.setattr(time, "sleep", clock.append)
    model.register_forward_pre_hook(lambda net, _: clock.append(0.1 * net.training))
    line = fitted(recipe=recipe, model=model, train_set=Clips(24, seconds=0.05))[1].history[0]
    names = ("seconds", "wait_share", "clips_per_second", "evaluation_seconds")
    assert [line[name] for name in names] == pytest.approx([2.4, 0.5, 10, 0])


def test_the_best_epoch_is_kept(tmp_path):
    """And remembered by a run that was stopped: its later epochs are worse."""
    recipe = replace(SHORT, epochs=5)
    scores = iter([0.5, 0.8, 0.8, 0.3, 0.7])
    states = []

    def score(network, _):
        states.append(tensors(network))
        if len(states) == 3:
            signal.raise_signal(signal.SIGTERM)
        return {"top_1": next(scores), "more": "words"}

    for resume in (False, True):
        fitted(tmp_path / "run", recipe, score=score, keep_every=2, resume=resume)
    files = {*FILES, "epoch_0002.pt", "epoch_0004.pt"}
    assert contents(tmp_path / "run").keys() == files and len(states) == 5
    for name, epoch in (("best", 2), ("epoch_0002", 2), ("epoch_0004", 4), ("last", 5)):
        found = read_checkpoint(tmp_path / "run" / f"{name}.pt")
        assert_equal(dict(found["model"]), states[epoch - 1])
        assert (len(found["history"]), found["epoch"]) == (epoch, epoch + 1)
        assert found["history"][0]["more"] == "words"
    before = contents(tmp_path / "run")  # a run that is done stays so
    model, result = fitted(tmp_path / "run", recipe, resume=True)
    assert_equal(tensors(model), states[4])
    assert len(result.history) == 5 and result.predictions is None and result.stopped == ""
    assert contents(tmp_path / "run") == before


def test_an_earlier_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"new or an empty folder for the run, got .*run, "):
        fitted(tmp_path / "run")
    assert contents(tmp_path / "run") == {"notes.txt": b"mine"}
    fitted(tmp_path / "run", replace(SHORT, epochs=1), resume=True)  # there is no run to lose
    before = contents(tmp_path / "run")
    with pytest.raises(FileExistsError, match="continue it with --resume auto"):
        fitted(tmp_path / "run", replace(SHORT, epochs=1))
    assert contents(tmp_path / "run") == before


@pytest.fixture(scope="module")
def half_done(tmp_path_factory) -> Path:
    """A run that was stopped after a step of its second epoch."""
    out = tmp_path_factory.mktemp("half_done") / "run"
    _, result = fitted(out, score=stop_after(1))
    assert result.stopped == "SIGTERM" and len(result.history) == 1
    return out


def other(count: int = 24, **changes) -> Clips:
    """Training clips, or ten validation clips, with other attributes."""
    clips = Clips(count, seed=int(count == 10), augmented=count == 24)
    vars(clips).update(changes)
    return clips


NAMED_3 = [f"clip_{i}{3 * (i == 3) or ''}.mp4" for i in range(24)]
ANOTHER = replace(SHORT, epochs=5, network=Network(dropout=0.1), hardware=Hardware(workers=1))


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("recipe", ANOTHER, r"epochs 2, got 5; network \{.*'dropout': 0.3.*'dropout': 0.1.*\}: "),
        ("train_set", other(32), "training clips 24, got 32; got other clips of train; "),
        ("train_set", other(classes=("bright", "dark")), "got other classes: "),
        ("train_set", other(paths=Clips(24).paths[::-1]), "got other clips of train: "),
        ("train_set", other(labels=Clips(24).labels.flip(0)), "got other labels of train: "),
        ("val_set", other(10, paths=NAMED_3[:10]), "got other clips of val: "),
    ],
)
def test_another_recipe_or_other_data_is_no_way_to_go_on(name, data, words, half_done):
    """But for the hardware, which may change."""
    before = contents(half_done)
    with pytest.raises(ValueError, match=f"with which {half_done} was begun, {words}") as error:
        fitted(half_done, resume=True, **{name: data})
    assert "resume with the same (the hardware may change," in str(error.value)
    assert "workers" not in str(error.value)
    assert f"--init {half_done / 'last.pt'}" in str(error.value)
    assert contents(half_done) == before


def test_an_older_checkpoint_goes_on(half_done, tmp_path):
    """From before data were compared, and with the states of other generators."""
    shutil.copytree(half_done, tmp_path / "run")
    found = read_checkpoint(half_done / "last.pt")
    del found["rows"]
    found["rng"][0] |= {"python": [3, [1, 2], None], "numpy": ["MT19937", torch.ones(624), 1, 0]}
    torch.save(found, tmp_path / "run" / "last.pt")
    _, result = fitted(tmp_path / "run", resume=True)
    assert [line["epoch"] for line in result.history] == [1, 2]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[:-5000],  # torch.load answers each of these in another way
        lambda whole: whole[:200] + bytes(range(128, 228)) + whole[300:],
        None,  # another file of torch.save
    ],
)
def test_a_checkpoint_that_is_damaged(damaged, half_done, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(half_done, out)
    if damaged:
        (out / "last.pt").write_bytes(damaged((out / "last.pt").read_bytes()))
    else:
        torch.save({"weights": torch.ones(2)}, out / "last.pt")
    before = contents(out)
    with pytest.raises(ValueError, match=r"run/last.pt: expected a checkpoint"):
        fitted(out, resume=True)
    assert contents(out) == before
    shutil.copy(out / "best.pt", out / "last.pt")  # a way out
    assert len(fitted(out, resume=True)[1].history) == 2


@pytest.mark.parametrize("which", [2, 3])
def test_a_full_disk(which, tmp_path, monkeypatch):
    """The nth checkpoint does not fit any more; best.pt and last.pt of an epoch are two."""
    out, write, written = tmp_path / "run", Path.write_bytes, []

    def filling(path, content):
        written.extend([path.name] if ".pt." in path.name else [])
        if len(written) == which:
            write(path, content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    epochs = itertools.count()
    options = {"score": lambda network, _: {"top_1": next(epochs)}}  # each is the best
    whole, _ = fitted(tmp_path / "whole", **options)
    monkeypatch.setattr(Path, "write_bytes", filling)
    with pytest.raises(OSError, match="No space left") as error:
        fitted(out, **options)
    monkeypatch.undo()
    assert error.value.filename == str(out / ["best.pt", "last.pt"][(which - 1) % 2])
    assert not list(out.glob(".*")), "the rest is given back"
    assert (out / "last.pt").exists() == (which > 2)
    model, _ = fitted(out, resume=True, **options)
    assert_equal(tensors(model), tensors(whole))
    best = [read_checkpoint(folder / "best.pt") for folder in (out, tmp_path / "whole")]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert_equal(dict(best[0]["model"]), dict(best[1]["model"]))


def test_checkpoints_hold_nothing_but_tensors_and_containers(half_done, tmp_path):
    found, trained = read_checkpoint(half_done / "last.pt"), load_trained(half_done / "last.pt")
    assert found["classes"] == ["dark", "bright"] and found["num_clips"] == 24
    assert (found["epoch"], found["step"], found["ema"]) == (2, 1, None)
    assert_equal(tensors(trained.model), dict(found["model"]))
    assert trained.recipe == SHORT and trained.classes == NAMES and not trained.model.training
    model = build(replace(SHORT, num_frames=8), 2)
    report = start_from(model, str(half_done / "last.pt"), NAMES)
    assert (report.layout, report.kept) == ("own", [])
    assert_equal(tensors(model), tensors(trained.model))
    for schedule in ("cosine", "steps"):  # the run's own was one-cycle
        fitted(tmp_path / schedule, replace(SHORT, epochs=1, schedule=schedule))
        torch.load(tmp_path / schedule / "last.pt", weights_only=True)


def test_another_default_device_changes_nothing(tmp_path):
    """And all is on the CPU."""
    found, data, recipe = [], Clips(8), replace(SHORT, ema=0.9, epochs=1)
    try:
        for default in ("cpu", "meta"):
            torch.set_default_device(default)
            output = Output(tmp_path / default)
            fit(build(recipe, 2), data, data, recipe, device=CPU, output=output)
            model = load_trained(tmp_path / default / "best.pt").model
            found.append(dict(model.state_dict()))
    finally:
        torch.set_default_device(None)
    assert_equal(*found)


# ---------------------------------------------------------------- videos and workers
@pytest.fixture
def videos(tmp_path) -> pd.DataFrame:
    """Eleven short videos of two classes; one of them is none, one is damaged inside."""
    rows = []
    for number in range(11):
        path = write_video(tmp_path / f"{number:02}.mp4", 20, gop=20, size=(48, 64))
        rows.append((str(path), number % 2, ("left", "right")[number % 2]))
    Path(rows[3][0]).write_bytes(b"not a video")
    content = bytearray(Path(rows[7][0]).read_bytes())
    begin = content.find(b"mdat") + 8
    content[begin + 20 : begin + len(content) // 2] = bytes(len(content) // 2 - 20)
    Path(rows[7][0]).write_bytes(content)
    table = pd.DataFrame(rows, columns=["path", "label", "class_name"])
    return table.assign(split=["train"] * 9 + ["val"] * 2)


def training_clips(videos: pd.DataFrame) -> ClipDataset:
    transform, how = training_transform((32, 32)), {"random_frames": True, "skip_unreadable": True}
    return ClipDataset(DataSet(videos), "train", 4, transform, **how)


@pytest.mark.parametrize("workers", [0, 2])
def test_videos_that_cannot_be_read_are_passed_over(workers, videos, tmp_path):
    """And stay listed after an interruption, even if they have been repaired in between."""
    Path(videos["path"][10]).unlink()
    for resume, score in ((False, stop_after(1)), (True, None)):
        hardware = Hardware(workers=0 if resume else workers)
        recipe = replace(SHORT, batch_size=3, hardware=hardware)
        val = ClipDataset(DataSet(videos), "val", 4, evaluation_transform((32, 32)))
        data = {"train_set": training_clips(videos), "val_set": val}
        _, result = fitted(tmp_path / "run", recipe, score=score, resume=resume, **data)
        assert [line["unreadable"] for line in result.history] == [3, 3][: 1 + resume]
        listed = pd.read_csv(tmp_path / "run" / "unreadable.csv")
        assert list(listed.columns) == ["path", "reason"]
        assert listed["path"].tolist() == videos["path"][[3, 7, 10]].tolist()
        assert all(path in why for path, why in zip(listed["path"], listed["reason"], strict=True))
        pd.testing.assert_frame_equal(listed, result.unreadable, check_dtype=False)
        for path in videos["path"][[3, 7]]:
            shutil.copy(videos["path"][9], path)
    Path(videos["path"][9]).unlink()
    with pytest.raises(ValueError, match="clips to evaluate, but not one of the 2 could be read"):
        fitted(tmp_path / "not begun", val_set=val)
    assert not (tmp_path / "not begun").exists()


def test_what_takes_the_place_of_a_damaged_video_is_always_the_same(videos):
    """Whether it was met before (by this worker, before an interruption) does not matter."""
    data = training_clips(videos)
    keyed = Keyed(data, 0)
    for index in (3, 7):
        first, again = keyed[1, index, 0][0], keyed[1, index, 0][0]
        assert len(data.unreadable()) == (1 if index == 3 else 2)
        assert torch.equal(first, again)


class Dying(Clips):
    """The process that reads clip 5 for the nth time dies of it."""

    def __init__(self, times: int, count: int = 24):
        super().__init__(count)
        self.times = times

    def __getitem__(self, index):
        self.times -= index == 5
        if self.times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_worker_that_dies(seconds, tmp_path):
    """While it is waited for, or in the middle of a step: a signal says so, at any moment."""
    recipe = replace(SHORT, hardware=Hardware(workers=1))
    model = build(recipe, 2)
    model.register_forward_hook(lambda *_: time.sleep(seconds))
    with pytest.raises(DeadWorkerError, match=r"a process that reads them has died.*--resume auto"):
        fitted(tmp_path / "run", recipe, model=model, train_set=Dying(2))
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (found["epoch"], found["step"]) == (2, 0)
    _, result = fitted(tmp_path / "run", replace(recipe, hardware=Hardware()), resume=True)
    assert [line["epoch"] for line in result.history] == [1, 2]


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError])
def test_a_worker_that_dies_while_it_sends_a_clip(error, monkeypatch):
    """Its end of the pipe is closed before its signal comes."""
    words = "DataLoader worker (pid 7) is killed"
    monkeypatch.setattr(time, "sleep", lambda _: (_ for _ in ()).throw(RuntimeError(words)))
    with pytest.raises(DeadWorkerError, match="has died"), report_dead_worker():
        raise error


def test_a_worker_that_dies_in_an_evaluation():
    recipe = replace(SHORT, hardware=Hardware(workers=1))
    with pytest.raises(DeadWorkerError, match="has died"):
        fitted(recipe=recipe, val_set=Dying(1, 10))
    with pytest.raises(DeadWorkerError, match="has died"):
        evaluate(build(SHORT, 2), Dying(1, 10), device=CPU, hardware=Hardware(workers=1))


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"TensorBoard to be .*: pip install tensorboard"):
        fitted(tmp_path / "run", tensorboard=True)
    assert list((tmp_path / "run").iterdir()) == [], "so that the same command can be typed again"


def test_events_for_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, result = interrupted(tmp_path / "run", tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name in ("train_loss", "learning_rate", "wait_share", "top_1"):
        found = events.Scalars(f"epoch/{name}")
        assert [event.step for event in found] == [1, 2]
        expected = [line[name] for line in result.history]
        assert [event.value for event in found] == pytest.approx(expected, rel=1e-5)


def test_compiling_changes_nothing_but_time(monkeypatch):
    """As the compiler records it, run by PyTorch's own operations: code takes long to make."""
    quick = partialmethod(nn.Module.compile, backend="eager")
    monkeypatch.setattr(nn.Module, "compile", quick)
    clips, labels = points(8).tensors
    data, results = TensorDataset(clips.float(), labels), []
    for compiled in (False, True):
        recipe = replace(SHORT, hardware=Hardware(compile=compiled))
        model = Small()
        result = fit(model, data, data, recipe, device=CPU)
        results.append((tensors(model), result.predictions.logits))
        assert (model._compiled_call_impl is not None) == compiled
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("layout, precision", [(False, "bfloat16"), (True, "float16")])
def test_precisions_on_a_gpu(precision, layout, tmp_path):
    """Weights stay in float32, in the layout that was asked for."""
    recipe = replace(SHORT, hardware=Hardware(precision, channels_last=layout, workers=1))
    model, dtypes, gpu = build(recipe, 2), set(), torch.device("cuda", 0)
    model.stage2.out.register_forward_hook(lambda *given: dtypes.add(given[2].dtype))
    data, output = (Clips(24, augmented=True), Clips(10)), Output(tmp_path / "run")
    result = fit(model, *data, recipe, device=gpu, output=output)
    assert dtypes == {getattr(torch, precision)}
    for name, weight in model.named_parameters():
        assert weight.is_cuda and weight.dtype == torch.float32, name
    assert model.stem.conv.weight.is_contiguous(memory_format=torch.channels_last) == layout
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (found["scaler"] != {}) == (precision == "float16")
    assert "cuda" in found["rng"][0]
    assert all(tensor.device == CPU for tensor in found["model"].values())
    assert result.history[0]["memory_gb"] > 0 and result.predictions.logits.device == CPU
    for one, expected in zip(result.history, fitted()[1].history, strict=True):
        assert one["train_loss"] == pytest.approx(expected["train_loss"], abs=0.1)


@pytest.mark.gpu
def test_a_run_on_a_gpu_goes_on_where_it_was(tmp_path):
    """Dropout and mixing draw on from where they were: figures agree but for rounding."""
    gpu = torch.device("cuda", 0)
    mixed, hardware = Augmentation(mixup=0.5), Hardware("float16", workers=1)
    recipe = replace(SHORT, ema=0.9, augmentation=mixed, hardware=hardware)
    histories = []
    for name, scores in (("whole", [stop_after(9)]), ("parts", [stop_after(1), stop_after(9)])):
        for score in scores:
            data, output = (Clips(24, augmented=True), Clips(10)), Output(tmp_path / name, True)
            result = fit(build(recipe, 2), *data, recipe, device=gpu, output=output, score=score)
        histories.append([line["train_loss"] for line in result.history])
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


# ---------------------------------------------------------------- where one starts from
def net(builder=blvnet_tam, seed: int = 1, **arguments) -> nn.Module:
    """A network with another value in every tensor, as after a training."""
    model = builder(depth="tiny", **{"num_frames": 4, "num_classes": 2, **arguments})
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


NAMES = ("dark", "bright")
HEAD = ("classifier.weight", "classifier.bias")


@pytest.mark.parametrize(
    "builder, arguments, classes, kept, ignored",
    [
        (blvnet_tam, {"num_frames": 16, "dropout": 0.1}, NAMES, (), ()),
        (blvnet_tam, {"num_classes": 3}, ("dark", "bright", "grey"), HEAD, HEAD),
        (blvnet_tam, {}, ("bright", "dark"), HEAD, HEAD),
        (blvnet_tam, {}, (), HEAD, HEAD),
        (blvnet, {}, NAMES, (".taps",), ()),
    ],
)
def test_start_from_a_network_of_ones_own(builder, arguments, classes, kept, ignored, tmp_path):
    """What the other network lacks, or means otherwise, is kept as it was."""
    source, model = net(builder), net(seed=2, **arguments)
    save_trained(Trained(source, SHORT, NAMES), tmp_path / "source.safetensors")
    before, weights = tensors(model), tensors(source)
    report = start_from(model, str(tmp_path / "source.safetensors"), classes)
    kept = [name for name in before if name.endswith(kept)]
    assert report.layout == "own" and report.kept == kept and report.ignored == [*ignored]
    assert not kept or kept[0].partition(".")[0] in str(report)
    assert_equal(tensors(model), {n: before[n] if n in kept else weights[n] for n in before})
    assert model.num_frames == arguments.get("num_frames", 4)


def sevens(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A state dict, small as a file, since every tensor is one number."""
    whole, real = torch.tensor(7), torch.tensor(7.0)
    return {n: (whole if "_tracked" in n else real).expand(shape) for n, shape in shapes.items()}


@pytest.mark.parametrize("download", [False, True])
def test_start_from_a_resnet_of_torchvision(download, tmp_path, monkeypatch):
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
        model = tsn(depth=50, num_frames=4, num_classes=2).to_empty(device="cpu")
    state, asked = sevens({name: tensor.shape for name, tensor in state.items()}), []
    torch.save(state, file := str(tmp_path / "resnet50.pth"))
    monkeypatch.setattr(official, "torchvision_resnet", lambda n: asked.append(n) or file)
    source = "torchvision" if download else file
    report = start_from(model, source, NAMES)
    assert report.layout == "resnet" and report.kept == [*HEAD]
    assert report.ignored == ["fc.weight", "fc.bias"]
    assert (model.stem.conv.weight == 7).all()
    with pytest.raises(ValueError, match="depth tiny"):
        start_from(net(), "torchvision")
    assert asked == [50] * download, "nothing is downloaded in vain"


def test_start_from_a_published_checkpoint(tmp_path):
    cases = json.loads((Path(__file__).parent / "data" / "official_cases.json").read_text())
    case, path = cases["r50_f4x2_blend5"], tmp_path / "published.pth.tar"
    torch.save({"state_dict": sevens(case["state_dict_shapes"])}, path)
    with torch.device("meta"):
        model = blvnet_tam(num_taps=5, num_classes=case["config"]["num_classes"])
    report = start_from(model.to_empty(device="cpu"), str(path))
    assert report.layout == "video" and report.kept == report.ignored == []
    assert (model.stem.conv.weight == 7).all()


def test_what_does_not_fit_changes_nothing(tmp_path):
    own, strange = tmp_path / "own.safetensors", tmp_path / "strange.pth"
    save_trained(Trained(net(), SHORT, NAMES), own)
    torch.save({"state_dict": {"a": torch.ones(1)}}, strange)
    for model, source, words in (
        (net(seed=2, num_taps=5), own, "misshapen: stem.tam.taps.* holds a blvnet_t"),
        (net(blvnet, seed=2), own, "left over: stem.tam.taps.*but for num_frames"),
        (net(tsn, seed=2), own, "missing: .*num_frames, num_classes and dropout"),
        (net(), tmp_path / "gone", 'to start from, "torchvision" or .* there is no file .*gone'),
        (net(), strange, "got one with .* and the tensors a: give a published ch"),
    ):
        before = tensors(model)
        with pytest.raises(ValueError, match=f"(?s){words}"):
            start_from(model, str(source), NAMES)
        assert_equal(tensors(model), before)


def test_networks_may_have_neither_recipe_nor_classes(tmp_path):
    save_model(net().train(), path := tmp_path / "model.safetensors")
    for _ in range(2):
        found = load_trained(str(path))
        assert found.recipe is None and found.classes == () and not found.model.training
        save_trained(found, path)


def test_files_that_are_no_trained_networks(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    save_model(net(), tmp_path / "c.safetensors", {"recipe": {"epoch": 3}})
    for name, words in (
        ("a.pt", "expected a checkpoint of `python -m blvnet_lab train`, got another file"),
        ("c.safetensors", r"c.safetensors: .*'epoch' \(did you mean epochs"),
        ("gone.pt", r"there is no file .*gone.pt"),
    ):
        with pytest.raises(ValueError, match=words):
            load_trained(tmp_path / name)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Ten classes of two training clips and one for validation."""
    return write_dataset(tmp_path_factory.mktemp("motion"), 2, 1, seed=3)


def test_train_from_a_manifest(manifest, tmp_path, monkeypatch):
    recipe = replace(SHORT, hardware=Hardware(in_memory=True))
    run = train(manifest, Output(tmp_path / "run", keep_every=1), recipe)
    assert run.start == "random weights" and run.file == tmp_path / "run" / "model.safetensors"
    files = {*FILES, "model.safetensors", "epoch_0001.pt", "epoch_0002.pt"}
    assert contents(tmp_path / "run").keys() == files
    kept, best = load_trained(run.file), load_trained(tmp_path / "run" / "best.pt")
    assert kept.classes == best.classes == run.trained.classes == CLASSES
    assert kept.recipe == best.recipe == recipe
    assert_equal(tensors(kept.model), tensors(best.model))
    assert kept.notes == {"clips": {"train": 20, "val": 10}, "init": "random weights"}
    assert len(run.fitted.predictions.labels) == 10 and run.fitted.unreadable.empty
    # Resumed when it had ended, and its clips had been moved: evaluations stay those of it.
    before, moved = run.file.read_bytes(), shutil.copytree(manifest.parent, tmp_path / "moved")
    again = train(moved / manifest.name, Output(tmp_path / "run", resume=True), recipe)
    assert again.start == "a checkpoint of this run" and run.file.read_bytes() == before
    with monkeypatch.context() as unread:
        unread.setattr(run_module, "clip_datasets", None)  # which may take minutes
        with pytest.raises(FileExistsError, match="continue it with --resume auto"):
            train(manifest, Output(tmp_path / "run"), recipe)
        with pytest.raises(ValueError, match=r"there is no file gone\.pt"):
            train(manifest, Output(tmp_path / "new"), recipe, init="gone.pt")
        with pytest.raises(NotADirectoryError):  # before the clips are read
            train(manifest, Output(manifest / "run"), recipe)
        alone = DataSet(DataSet.read(manifest).rows.query("label == 0")).save(tmp_path / "one.csv")
        with pytest.raises(ValueError, match="at least two classes, got moves_right alone: --root"):
            train(alone, Output(tmp_path / "new"), recipe)

    # Fine-tuning with more frames, stopped on the way, and gone on with.
    longer = replace(recipe, num_frames=8, body_rate=0.1)
    monkeypatch.setattr(engine, "noted_signals", lambda: nullcontext(["SIGTERM"]))
    begun = train(manifest, Output(tmp_path / "longer"), longer, init=str(run.file))
    assert begun.start.startswith(f"{run.file}\nown checkpoint: ") and begun.trained is None
    assert begun.fitted.stopped == "SIGTERM" and not begun.file.exists()
    first = read_checkpoint(tmp_path / "longer" / "last.pt")
    assert (first["epoch"], first["step"]) == (1, 1)
    change = (first["model"]["stem.conv.weight"] - kept.model.stem.conv.weight).abs().max()
    assert 0 < change < 0.01, "a step away from where it started"
    monkeypatch.undo()
    ended = train(manifest, Output(tmp_path / "longer", resume=True), longer, init=str(run.file))
    assert ended.start == "a checkpoint of this run" and ended.file.exists()
    again = load_trained(ended.file)
    assert again.model.num_frames == 8
    assert again.notes["init"] == "run/model.safetensors", "without folders of this machine"


def test_data_sets_follow_the_recipe(manifest, monkeypatch):
    asked = {}
    for name in ("training_transform", "evaluation_transform"):
        monkeypatch.setattr(
            run_module, name, lambda *a, name=name, **k: asked.update({name: (a, k)}) or name
        )
    recipe = replace(SHORT, num_frames=6, stride=2, read_short_side=40)
    changes = Augmentation("multi-scale", 0.2, 3, 0.4, mirror=True)
    recipe = replace(recipe, augmentation=changes, evaluation=Views((48, 40), 44))
    train_set, val_set = clip_datasets(DataSet.read(manifest), recipe)
    changes = {"crop": "multi-scale", "jitter": 0.2, "rand_augment": 3, "erase": 0.4}
    assert asked["training_transform"] == (((32, 32),), changes)
    assert asked["evaluation_transform"] == (((48, 40), 44), {})
    assert (train_set.transform, val_set.transform) == tuple(asked)
    for data in (train_set, val_set):
        assert (data.num_frames, data.stride, data.short_side, data.videos) == (6, 2, 40, None)
    assert (train_set.random_frames, val_set.random_frames) == (True, False)
    assert (train_set.skip_unreadable, val_set.skip_unreadable) == (True, False)
    assert val_set.mirror is None and val_set.num_clips is None
    assert train_set.mirror[:4] == (1, 0, 2, 3), "left and right are classes, up and down are not"
