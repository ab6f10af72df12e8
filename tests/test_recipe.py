"""Recipes: strict, complete and as published; and what they mean for rates and weights."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from blvnet_lab.models import blvnet_tam
from blvnet_lab.training.engine import build
from blvnet_lab.training.recipe import (
    PRESETS,
    Augmentation,
    Hardware,
    Network,
    Recipe,
    Views,
    preset,
    recipe_from_json,
    recipe_to_json,
)
from blvnet_lab.training.state import make_optimizer, make_scheduler, rate_factor

# The rows of the paper's tables (FACTS, section 3): pairs of frames of each data set and depth.
ROWS = {
    ("ssv1", 50): [8, 16],
    ("ssv1", 101): [8, 16, 24, 32],
    ("ssv2", 50): [8, 16],
    ("ssv2", 101): [8, 16, 24, 32],
    ("kinetics400", 50): [8, 16, 24],
    ("moments", 50): [8, 16],
}
CASES = [(name, depth, pairs) for (name, depth), row in ROWS.items() for pairs in row]


def read(values: dict, origin: str = "file.json") -> Recipe:
    return recipe_from_json(json.dumps(values), origin)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_file(name, tmp_path):
    recipe = preset(name)
    text = recipe_to_json(recipe)
    assert recipe_from_json(text) == recipe and text.endswith("}\n")
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Recipe)}
    (tmp_path / "recipe.json").write_text(text)
    assert preset(str(tmp_path / "recipe.json")) == recipe


def test_values_that_no_preset_has_survive_too():
    recipe = Recipe(
        warmup_epochs=2.5,
        no_decay=("norm", "bias", "taps"),
        clip_norm=3.0,
        ema=0.99,
        network=Network("tsn", 152, causal=True, dropout=0.25),
        augmentation=Augmentation(mixup=0.2, cutmix=1.0, rand_augment=2, erase=0.5, mirror=True),
        evaluation=Views((128, 112), 120, 10, 10),
        hardware=Hardware("float16", False, True, True, 4, True, 3, True),
    )
    back = recipe_from_json(recipe_to_json(recipe))
    assert back == recipe and type(back.size) is tuple and type(back.no_decay) is tuple


def test_missing_keys_have_the_classrooms_values():
    assert read({}) == Recipe()
    given = {"epochs": 3, "network": {"depth": 50}}
    assert read(given) == Recipe(epochs=3, network=Network(depth=50))
    assert read({"ema": 0}) == Recipe() and type(read({"momentum": 0}).momentum) is float


def test_values_that_make_no_recipe():
    for values, words in (
        ({"epoch": 3}, "expected keys of Recipe, got 'epoch' (did you mean epochs"),
        ({"learning_rat": 1}, "(did you mean learning_rate?)"),
        ({"network": {"dept": 50}}, "network: expected keys of Network, got 'dept' (did you"),
        ({"augmentation": {"mix_up": 1}}, "augmentation: expected keys of Augmentation"),
        ({"epochs": 3.0}, "expected epochs as int, got 3.0"),
        ({"epochs": True}, "expected epochs as int, got True"),
        ({"epochs": None}, "expected epochs as int, got None"),
        ({"clip_norm": "1"}, "expected clip_norm as float, got '1'"),
        ({"size": [64]}, "expected size as tuple[int, int], got [64]"),
        ({"size": [64, 64.5]}, "expected size as int, got 64.5"),
        ({"evaluation": {"size": [224]}}, "evaluation: expected size as tuple[int, int], got [2"),
        ({"network": 50}, "expected network as Network, got 50"),
        ({"network": {"depth": 50.0}}, "among tiny, 18, 34, 50, 101, 152, got 50.0"),
        ({"network": {"architecture": "blvnet-tam"}}, "got 'blvnet-tam' (did you mean blvnet_tam"),
        ({"schedule": "linear"}, "expected schedule among one-cycle, cosine, steps, got 'linear'"),
        ({"no_decay": ["norms"]}, "no_decay among norm, bias, taps, got 'norms' (did you mean no"),
        ({"no_decay": "bias"}, "expected no_decay as tuple["),
        ({"hardware": {"compile": 1}}, "hardware: expected compile as bool, got 1"),
        ({"size": [0, 64]}, "expected size to be positive, got (0, 64)"),
        ({"hardware": {"accumulate": 0}}, "hardware: expected accumulate to be positive, got 0"),
        ({"evaluation": {"crops": 4}}, "evaluation: expected crops among 1, 3, 5, 10, got 4"),
        ({"warmup_epochs": -1}, "expected warmup_epochs to be at least 0, got -1.0"),
        ({"label_smoothing": 1.0}, "expected label_smoothing from 0 to below 1, got 1.0"),
        ([1], "expected file.json as Recipe, got [1]"),
    ):
        with pytest.raises(ValueError) as error:
            read(values)
        assert words in str(error.value)
        assert str(error.value).count("file.json") == 1, "said once"
    with pytest.raises(ValueError, match=r"file.json: expected a recipe in JSON, got Expecting"):
        recipe_from_json("{epochs: 3}", "file.json")


def test_there_are_the_rows_of_the_paper_and_no_others():
    names = {f"{name}-{depth}-f{pairs}x2" for name, depth, pairs in CASES}
    assert set(PRESETS) == {"classroom", "kinetics-subset"} | names and len(names) == 17


@pytest.mark.parametrize("name, depth, pairs", CASES)
def test_published_values(name, depth, pairs):
    """FACTS, sections 3 and 4."""
    recipe = preset(f"{name}-{depth}-f{pairs}x2")
    assert (recipe.network.architecture, recipe.network.depth) == ("blvnet_tam", depth)
    assert (recipe.network.alpha, recipe.network.beta, recipe.network.num_taps) == (2, 4, 3)
    assert (recipe.network.dropout, recipe.network.tap_init) == (0.5, "kaiming")
    assert recipe.num_frames == 2 * pairs and recipe.size == (224, 224) and recipe.stride is None
    assert (recipe.batch_size, recipe.rate_batch, recipe.momentum) == (64, 64, 0.9)
    assert recipe.weight_decay == 5e-4 and recipe.no_decay == () and recipe.body_rate == 1
    assert recipe.label_smoothing == recipe.ema == recipe.warmup == 0 and recipe.clip_norm is None
    changes = recipe.augmentation
    assert changes == Augmentation(crop="multi-scale", jitter=0.0, mirror=True)

    something, shortest = name in ("ssv1", "ssv2"), pairs == 8
    if shortest:
        assert (recipe.epochs, recipe.schedule, recipe.peak_rate) == (50, "cosine", 0.01)
        assert recipe.starts_from == f"bLResNet-{depth} trained on ImageNet"
    else:
        assert (recipe.epochs, recipe.schedule, recipe.step_epochs) == (25, "steps", 10)
        assert recipe.peak_rate == (0.01 if something else 0.005)
        assert recipe.starts_from == f"{name}-{depth}-f{pairs - 8}x2"
    evaluated = recipe.evaluation
    if something:
        assert (evaluated.size or recipe.size) == (224, 224)
        assert (evaluated.num_clips, evaluated.crops, evaluated.short_side) == (1, 1, None)
    else:
        assert (evaluated.size, evaluated.short_side) == ((256, 256), 256)
        assert (evaluated.num_clips, evaluated.crops) == (3, 3)
        assert recipe.read_short_side == 256


def test_presets_of_ours():
    assert preset("classroom") == Recipe(hardware=Hardware(in_memory=True))
    assert (Recipe().network.depth, Recipe().num_frames, Recipe().size) == ("tiny", 8, (64, 64))
    subset = preset("kinetics-subset")
    assert (subset.network.depth, subset.num_frames, subset.size) == (50, 16, (224, 224))
    assert subset.hardware.precision == "bfloat16" and subset.hardware.workers > 0
    assert subset.peak_rate == pytest.approx(0.005) and subset.rate_batch == 64
    words = "name of a preset or a file .*got ssv2-50-f8x3 .did you mean ssv2-50-f8x2.*moments-50"
    with pytest.raises(ValueError, match=words):
        preset("ssv2-50-f8x3")


@pytest.mark.parametrize("batch_size, warmup", [(16, 0), (256, 0), (257, 5)])
def test_rate_and_warm_up_grow_with_the_batch(batch_size, warmup):
    recipe = Recipe(learning_rate=0.01, rate_batch=64, batch_size=batch_size)
    assert recipe.warmup == warmup
    assert recipe.peak_rate == pytest.approx(0.01 * batch_size / 64)
    assert replace(recipe, warmup_epochs=2.0).warmup == 2
    assert replace(recipe, warmup_epochs=0.0).warmup == 0


def rates(recipe: Recipe, steps: int) -> list[float]:
    """The rate of every step of a run, as the optimizer had it."""
    model = nn.Module()
    model.classifier = nn.Linear(2, 2)
    optimizer = make_optimizer(model, recipe)
    scheduler = make_scheduler(optimizer, recipe, steps)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_in_closed_form():
    recipe = Recipe(schedule="cosine", epochs=4, learning_rate=0.2, batch_size=32)
    expected = [0.4 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert rates(recipe, 3) == pytest.approx(expected)
    assert rate_factor(12, recipe, 3) == pytest.approx(0, abs=1e-12)
    recipe = Recipe(schedule="cosine", epochs=6, warmup_epochs=2.0, learning_rate=1.0)
    rising = [0.1 + 0.9 * step / 10 for step in range(10)]
    falling = [(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert rates(recipe, 5) == pytest.approx(rising + falling)
    half = replace(recipe, warmup_epochs=0.5)  # 2.5 steps
    assert rates(half, 5)[:3] == pytest.approx([0.1 + 0.9 * step / 2.5 for step in range(3)])
    assert rates(half, 5)[3] == pytest.approx((1 + math.cos(math.pi * 0.5 / 27.5)) / 2)
    recipe = Recipe(schedule="steps", epochs=25, step_epochs=10, learning_rate=0.005)
    assert rates(recipe, 2) == pytest.approx([0.005] * 20 + [0.0005] * 20 + [0.00005] * 10)
    warm = rates(replace(recipe, warmup_epochs=1.0), 2)
    assert warm == pytest.approx([0.0005, 0.00275, *[0.005] * 18, *[0.0005] * 20, *[0.00005] * 10])


def test_one_cycle_has_the_recipes_peak():
    recipe = Recipe(schedule="one-cycle", epochs=10, learning_rate=0.1, batch_size=32)
    found = rates(recipe, 10)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(0.2, rel=1e-3) and 25 < peak < 35
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[0] == pytest.approx(0.2 / 25) and found[-1] < 0.001 * 0.2
    for steps in (1, 2, 3):  # too few for a cycle, and still something is learned
        assert 0.5 < max(rates(replace(recipe, epochs=1), steps)) / recipe.peak_rate <= 1


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "steps"])
def test_groups_keep_their_shares_all_the_way(schedule):
    model = blvnet_tam(depth="tiny", num_frames=4, num_classes=2)
    recipe = Recipe(schedule=schedule, epochs=2, body_rate=0.1, step_epochs=1)
    optimizer = make_optimizer(model, recipe)
    scheduler = make_scheduler(optimizer, recipe, 5)
    body, head = optimizer.param_groups
    for _ in range(9):
        assert body["lr"] == pytest.approx(0.1 * head["lr"]) and head["lr"] > 0
        assert (head["momentum"], head["nesterov"]) == (0.9, True)
        optimizer.step()
        scheduler.step()


def kind_of(name: str, model: nn.Module) -> str:
    """By its name alone, as a second opinion."""
    if name.endswith(".taps"):
        return "taps"
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.modules.batchnorm._BatchNorm):
        return "norm"
    return "bias" if name.endswith(".bias") else "weight"


@pytest.mark.parametrize("body_rate, shared", [(1.0, False), (0.1, True)])
@pytest.mark.parametrize("no_decay", [(), ("norm",), ("bias", "taps")])
def test_every_weight_is_in_one_group(no_decay, body_rate, shared):
    model = blvnet_tam(depth="tiny", num_frames=4, num_classes=2)
    if shared:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    recipe = Recipe(no_decay=no_decay, body_rate=body_rate, weight_decay=0.01, learning_rate=0.5)
    found = {}
    for group in make_optimizer(model, recipe).param_groups:
        assert group["params"]
        for weight in group["params"]:
            assert id(weight) not in found, "in two groups"
            found[id(weight)] = group["lr"], group["weight_decay"]
    named = dict(model.named_parameters())
    assert set(found) == {id(weight) for weight in named.values()}
    kinds = {name: kind_of(name, model) for name in named}
    assert set(kinds.values()) == {"taps", "norm", "bias", "weight"}
    for name, weight in named.items():
        rate = 0.5 if name.startswith("classifier.") else 0.5 * body_rate
        decay = 0.0 if kinds[name] in no_decay else 0.01
        assert found[id(weight)] == (pytest.approx(rate), decay), name


def test_a_step_of_the_optimizer_by_hand():
    """Nesterov momentum with decay, in float64 by hand; weights and gradients in channels-last."""
    recipe = replace(Recipe(), weight_decay=0.01, learning_rate=0.1)
    model = build(recipe, 10).to(memory_format=torch.channels_last)
    optimizer, expected = make_optimizer(model, recipe), {}
    for name, weight in model.named_parameters():
        expected[name] = (weight.detach().double(), torch.zeros_like(weight).double())
    for _ in range(2):
        for name, weight in model.named_parameters():
            weight.grad = torch.randn_like(weight)
            value, momentum = expected[name]
            slope = weight.grad.double() + 0.01 * value
            momentum = 0.9 * momentum + slope
            expected[name] = (value - 0.1 * (slope + 0.9 * momentum), momentum)
        optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.double(), expected[name][0], rtol=1e-5, atol=1e-5)
