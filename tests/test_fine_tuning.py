"""What is frozen stays as it is, to the bit, and costs a forward pass only."""

from dataclasses import replace

import pytest
import torch
from test_engine import CPU, SHORT, assert_equal, constant, fitted, stop_after, tensors
from torch import Tensor, nn
from training_process import Clips

from blvnet_lab.training.checkpoint import load_trained, read_checkpoint
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.recipe import Hardware, Recipe
from blvnet_lab.training.state import make_optimizer

FROZEN = replace(SHORT, body_rate=0.0, weight_decay=0.1)


def trained(recipe: Recipe = SHORT) -> nn.Module:
    """A network whose batch norms have statistics of other clips than those to come."""
    model = build(recipe, 2)
    with torch.no_grad():
        for _ in range(3):
            model.train()(3 * torch.randn(4, 4, 3, 32, 32))
    return model


def assert_kept(model: nn.Module, before: dict[str, Tensor], kept: list[str], *moved: str) -> None:
    after = tensors(model)
    assert kept
    assert_equal({name: after[name] for name in kept}, {name: before[name] for name in kept})
    assert [name for name in moved if torch.equal(after[name], before[name])] == []


def body(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t for name, t in values.items() if not name.startswith("classifier.")}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"freeze": "body", "body_rate": 1.0},
        {"ema": 0.9},
        {"keep_statistics": True, "clip_norm": 0.1, "momentum": 0.0},
        {"hardware": Hardware("bfloat16", accumulate=2, checkpointing=True)},
        {"hardware": Hardware("float16", channels_last=False)},
    ],
)
def test_a_frozen_body_stays_as_it_is(changes, tmp_path):
    recipe = replace(FROZEN, **changes)
    model = trained(recipe)
    before, seen, dropout = tensors(model), [], set()
    note = lambda *call: seen.append((model.training, call[2].requires_grad))  # noqa: E731
    model.stage4.register_forward_hook(note)
    model.dropout.register_forward_hook(lambda module, *_: dropout.add(module.training))
    out = tmp_path / "run"
    fitted(out, recipe, model=model)
    assert_equal(body(tensors(model)), body(before))
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])
    assert (True, False) in seen and (True, True) not in seen, "no graph of the body is kept"
    assert dropout == {True, False}, "before the classifier it goes on"
    assert not any(w.grad is not None for n, w in model.named_parameters() if "classifier" not in n)
    assert_equal(body(tensors(load_trained(out / "last.pt").model)), body(before))
    # Afterwards all of it may be trained further.
    assert all(weight.requires_grad for weight in model.parameters())
    fitted(tmp_path / "next", model=model)
    assert not torch.equal(model.stem.conv.weight, before["stem.conv.weight"])


def test_an_error_unfreezes_too():
    model = trained()
    with pytest.raises(ValueError, match="expected labels"):
        train_set = Clips(24)
        train_set.labels = train_set.labels + 5
        fitted(recipe=FROZEN, model=model, train_set=train_set)
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_frozen_run_goes_on_where_it_was(tmp_path):
    recipe = replace(FROZEN, ema=0.9)
    models = []
    for name, parts in (("whole", [None]), ("parts", [stop_after(1), None])):
        for score in parts:
            torch.manual_seed(5)
            model = trained(recipe)
            fitted(tmp_path / name, recipe, model=model, resume=True, score=score)
        models.append(tensors(model))
    assert_equal(*models)
    ends = [read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts")]
    assert_equal(ends[0]["ema"], ends[1]["ema"])


def test_statistics_are_kept_while_weights_learn():
    model = trained()
    before = tensors(model)
    fitted(recipe=replace(SHORT, keep_statistics=True), model=model)
    buffers = [name for name, _ in model.named_buffers()]
    learned = "stem.conv.weight", "stage1.big.0.bn1.weight", "classifier.weight"
    assert_kept(model, before, buffers, *learned)


@pytest.mark.parametrize("changes", [{"keep_statistics": True}, {"body_rate": 0.0}])
def test_kept_statistics_are_what_it_is_trained_with(changes):
    """One clip's loss does not depend on the others."""
    recipe = replace(SHORT, learning_rate=1e-20, **changes)
    model, data, losses = trained(), Clips(8), []
    model.dropout.p = 0.0
    for batches in ([[i] for i in range(8)], [list(range(8))]):
        loader = [(data.clips[b], data.labels[b]) for b in batches]
        optimizer = make_optimizer(model, recipe)
        losses.append(train_one_epoch(model, loader, optimizer, constant(optimizer), CPU, recipe))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_the_caller_froze_stays_as_it_is():
    model = trained()
    model.stem.requires_grad_(False)
    before = tensors(model)
    fitted(recipe=replace(SHORT, ema=0.9, weight_decay=0.1), model=model)
    stem = [name for name in before if name.startswith("stem.")]
    assert_kept(model, before, stem, "stage1.big.0.bn1.running_mean", "stage1.big.0.conv1.weight")
    assert not any(weight.requires_grad for weight in model.stem.parameters())
