"""Metrics, the training loop, the staircase from end to end, and the command line."""

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from lab import run_python, type_command
from test_engine import CPU, Small, assert_equal, constant, fitted, points, tensors
from test_engine import SHORT as BRIEF
from test_faults import without_times
from torch.utils.data import DataLoader
from training_process import Clips

from blvnet_lab.data import ClipDataset, DataSet, evaluation_transform
from blvnet_lab.datasets.motion import CLASSES, write_dataset
from blvnet_lab.models import count_cost
from blvnet_lab.runs import staircase
from blvnet_lab.runs.staircase import as_table, find_partners, run_staircase, score
from blvnet_lab.training import engine
from blvnet_lab.training.checkpoint import load_trained
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.evaluation import Predictions, evaluate, standard_scores
from blvnet_lab.training.metrics import (
    confusion_matrix,
    partner_accuracy,
    per_class_scores,
    top_k_accuracy,
)
from blvnet_lab.training.recipe import Hardware, Network, Recipe

LOGITS = torch.tensor(
    [
        [9.0, 1.0, 2.0, 3.0],  # best first: 0 3 2 1
        [1.0, 2.0, 4.0, 3.0],  # 2 3 1 0
        [5.0, 6.0, 7.0, 8.0],  # 3 2 1 0
        [4.0, 3.0, 2.0, 1.0],  # 0 1 2 3
    ]
)
LABELS = torch.tensor([0, 3, 0, 1])  # at ranks 1, 2, 4, 2


def test_scores_by_hand():
    assert [top_k_accuracy(LOGITS, LABELS, k) for k in range(1, 6)] == [0.25, 0.75, 0.75, 1, 1]
    assert top_k_accuracy(LOGITS, LABELS) == 0.25, "top-1 unless asked otherwise"
    matrix = confusion_matrix(LOGITS, LABELS)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [  # rows: true, columns: predicted
        [1, 0, 0, 1],  # clips 0 and 2
        [1, 0, 0, 0],  # clip 3
        [0, 0, 0, 0],
        [0, 0, 1, 0],  # clip 1
    ]
    table = per_class_scores(LOGITS, LABELS, ["a", "b", "c", "d"])
    assert table.values.tolist() == [["a", 2, 0.5, "d"], ["b", 1, 0.0, "a"], ["d", 1, 0.0, "c"]]
    numbered = per_class_scores(torch.eye(3), torch.arange(3))
    assert numbered.values.tolist() == [["0", 1, 1.0, ""], ["1", 1, 1.0, ""], ["2", 1, 1.0, ""]]


def test_partner_accuracy_by_hand():
    partners = torch.tensor([1, 0, 3, 2])
    # 9 > 1 right; 3 < 4 wrong; 5 < 6 wrong; 3 < 4 wrong
    assert partner_accuracy(LOGITS, LABELS, partners) == 0.25
    # top-1 is wrong, but of the two partners the right one is preferred
    assert partner_accuracy(torch.tensor([[2.0, 1.0, 9.0, 9.0]]), torch.tensor([0]), partners) == 1
    logits = torch.tensor([[1.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    for labels, expected in (([0, 0, 0], 2.5 / 3), ([1, 1, 1], 0.5 / 3), ([2, 3, 2], 0.5)):
        found = partner_accuracy(logits, torch.tensor(labels), partners)  # a tie is half
        assert found == pytest.approx(expected)


def test_a_clip_without_finite_logits_is_wrong_whatever_its_class():
    logits = torch.tensor([[5.0, 0, 0], [torch.nan] * 3, [0, torch.inf, 0], [0, 0, torch.nan]])
    labels = torch.tensor([0, 0, 1, 2])
    scores = standard_scores(Predictions(logits, labels, labels, {}))
    assert scores["top_1"] == scores["top_5"] == 0.25 and scores["not_finite"] == 3
    assert scores["mean_class"] == pytest.approx(0.5 / 3) and scores["largest_class"] == 0.5
    assert confusion_matrix(logits, labels).sum() == 1
    several = standard_scores(Predictions(logits, torch.eye(3)[labels], labels, {}))
    # Class 0: a clip before all others, and one among the last; the others: one of the last.
    expected = ((1 + 2 / 4) / 2 + 1 / 4 + 1 / 4) / 3
    assert several["map"] == pytest.approx(expected) and several["not_finite"] == 3


def test_score_by_hand():
    labels = torch.arange(10)
    logits = torch.eye(10)
    assert score(logits, labels) == {"top_1": 1.0, "direction": 1.0, "order": 1.0}
    logits[6:] = torch.eye(10)[0]  # order classes tie, and all are taken for moves_right
    assert score(logits, labels) == pytest.approx({"top_1": 0.6, "direction": 1.0, "order": 0.5})
    logits = torch.eye(10)
    logits[0] = torch.eye(10)[1]  # moves_right taken for moves_left
    logits[2] = torch.eye(10)[9]  # moves_up taken for a class of another kind: a tie of partners
    expected = {"top_1": 0.8, "direction": 4.5 / 6, "order": 1.0}
    assert score(logits, labels) == pytest.approx(expected)
    logits = torch.tensor([[3.0, 9, 0, 1], [2, 0, 0, 1], [0, 1, 2, 0], [0, 1, 2, 3]])
    classes = ("moves_down", "moves_left", "moves_right", "moves_up")
    scores = {"top_1": 0.0, "moves_down / moves_up": 0.5, "moves_left / moves_right": 0.5}
    assert score(logits, torch.tensor([0, 3, 1, 2]), classes) == scores


def test_an_epoch_lowers_the_loss():
    model = build(replace(BRIEF, network=Network()), 2)
    loader = DataLoader(Clips(16), 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    options = optimizer, constant(optimizer), CPU
    losses = [train_one_epoch(model, loader, *options) for _ in range(12)]
    assert losses[0] == pytest.approx(math.log(2), abs=0.1)  # a new network tosses a coin
    assert losses[-1] < 0.2
    found = evaluate(model, Clips(16, seed=1), device=CPU)
    assert top_k_accuracy(found.logits, found.labels) > 0.7


def test_loss_is_the_mean_over_clips_of_unequal_batches():
    model, (clips, labels), modes = Small().double(), points(9).tensors, []
    expected = F.cross_entropy(model(clips), labels).item()
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    optimizer = torch.optim.SGD(model.parameters(), 0.0)  # weights stay as they are
    steps = optimizer, constant(optimizer), CPU
    loss = train_one_epoch(model.eval(), DataLoader(points(9), 4), *steps)
    assert loss == pytest.approx(expected, rel=1e-5) and modes == [True] * 3


def test_a_label_without_a_class_and_a_loss_that_is_not_finite_of_clips_without_numbers():
    model, spoilt = Small().double(), points(4)
    optimizer, before = torch.optim.SGD(model.parameters(), 0.1), tensors(model)
    spoilt.tensors[0][0] = torch.nan
    for data, error, words in (
        (points(4, classes=4), ValueError, r"labels from 0 to 2, got 0 to 3: .*num_classes"),
        (spoilt, FloatingPointError, "got nan at step 1 of the epoch: look at these"),
    ):
        with pytest.raises(error, match=words):
            train_one_epoch(model, DataLoader(data, 4), optimizer, constant(optimizer), CPU)
        assert_equal(tensors(model), before)


def test_equal_seeds_give_equal_runs_and_others_do_not():
    runs = []
    for seed in (0, 0, 1):
        recipe = replace(BRIEF, seed=seed)
        model = build(recipe, 2)
        torch.seed()  # random numbers drawn before must not matter
        runs.append(fitted(recipe=recipe, model=model))
    (one, first), (other, second), (another, _) = runs
    assert_equal(tensors(one), tensors(other))
    assert first.history[-1]["train_loss"] == second.history[-1]["train_loss"]
    assert torch.equal(first.predictions.logits, second.predictions.logits)
    assert not torch.equal(one.stem.conv.weight, another.stem.conv.weight)


def test_a_run_follows_its_schedule():
    for schedule, peak, end in (("cosine", 0, 9), ("one-cycle", 1.7, 8)):  # in steps
        recipe = replace(BRIEF, epochs=3, schedule=schedule, learning_rate=0.2)
        _, found = fitted(recipe=recipe)  # three steps an epoch
        parts = [math.pi * (step - peak) / (end - peak) for step in (2, 5, 8)]
        rates = [line["learning_rate"] for line in found.history]
        assert rates == pytest.approx([0.1 * (1 + math.cos(part)) for part in parts], abs=1e-6)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    group = {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}
    for name, value in (group | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"a GPU for every process, got 2 and .* rank 2"):
        with process_group():
            pass


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Ten classes of two training clips and two for validation."""
    return write_dataset(tmp_path_factory.mktemp("motion"), 2, 2, seed=3)


SHORT = Recipe(epochs=1, batch_size=8, num_frames=8, size=(32, 32))


def test_partners_by_name():
    partners, kinds = find_partners(CLASSES)
    assert partners.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    assert kinds == ("direction",) * 6 + ("order",) * 4
    partners, kinds = find_partners(("moves_down", "moves_left", "moves_right", "moves_up"))
    assert partners.tolist() == [3, 2, 1, 0]
    sides, heights = "moves_left / moves_right", "moves_down / moves_up"
    assert kinds == (heights, sides, sides, heights)
    assert find_partners(("backwards", "forwards"))[1] == ("backwards / forwards",) * 2
    for others in (("run", "walk"), ("moves_up", "moves_down", "moves_left")):
        with pytest.raises(ValueError, match="expected partner classes.*got " + ", ".join(others)):
            find_partners(others)


def named(architecture: str, **changes) -> Recipe:
    return staircase.with_architecture(replace(SHORT, **changes), architecture)


def test_taps_start_as_they_learn_soonest():
    def taps(architecture, tap_init):
        network = Network(architecture, tap_init=tap_init)
        weights = tensors(build(replace(SHORT, network=network), 7))
        return {name: weights[name] for name in weights if name.endswith(".taps")}

    for architecture, start in {"tam_resnet": "shift", "blvnet_tam": "identity"}.items():
        assert_equal(taps(architecture, None), taps(architecture, start))
        last = "stage4.1.tam.taps"
        assert not torch.equal(taps(architecture, None)[last], taps(architecture, "kaiming")[last])


@pytest.mark.parametrize("architecture", ["tsn", "tsn_blnet", "blvnet", "blvnet_tam"])
def test_networks_are_built_as_the_recipe_says(architecture):
    options = Network(architecture, "tiny", 4, 2, 5, "kaiming", causal=True, dropout=0.25)
    hardware = Hardware(checkpointing=True)
    model = build(replace(SHORT, network=options, hardware=hardware), 7)
    assert model.grad_checkpointing and not build(SHORT, 7).grad_checkpointing
    assert model.causal == (architecture == "blvnet_tam")
    known = dataclasses.asdict(options) | {"num_frames": 8, "num_classes": 7, "in_channels": 3}
    assert known.pop("architecture") == model.architecture
    assert model.arguments.items() <= known.items()
    leaves_out = {"tsn": 5, "tsn_blnet": 3, "blvnet": 3, "blvnet_tam": 0}
    assert len(known) - len(model.arguments) == leaves_out[architecture]


def test_whole_staircase(manifest, tmp_path):
    out = tmp_path / "out"
    architectures = ("tsm", "blvnet_tam")
    options = {"architectures": architectures, "seeds": (4, 5), "recipe": SHORT}
    summary = run_staircase(out=out, manifest=manifest, **options).summary
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "staircase.json",
        *(f"{a}.{suffix}" for a in architectures for suffix in ("safetensors", "jsonl")),
        *(f"logs/{a}_seed{seed}.jsonl" for a in architectures for seed in (4, 5)),
    }
    assert json.loads((out / "staircase.json").read_text()) == summary
    assert summary["recipe"] == json.loads(json.dumps(dataclasses.asdict(SHORT)))
    assert summary["versions"]["torch"] == torch.__version__ and "CPU cores" in summary["machine"]
    costs = pd.DataFrame(summary["costs"])
    assert (costs.to_numpy() > 0).all() and list(costs.index) == ["mmacs", "mb", "ms"]
    tsm = count_cost(build(named("tsm", seed=4), 10), SHORT.size).macs
    assert costs.at["mmacs", "tsm"] == pytest.approx(tsm / 1e6, abs=0.05)
    assert summary["unreadable"] == [] and summary["largest_class"] == 0.1
    runs = {(run["architecture"], run["seed"]): run for run in summary["runs"]}
    assert set(runs) == {(a, seed) for a in architectures for seed in (4, 5)}

    clips = ClipDataset(DataSet.read(manifest), "val", 8, evaluation_transform((32, 32)))
    for architecture in architectures:
        # The checkpoint is that of the first seed, and gives the logged accuracy.
        log = (out / f"{architecture}.jsonl").read_text()
        assert log == (out / "logs" / f"{architecture}_seed4.jsonl").read_text()
        last = json.loads(log.splitlines()[-1])
        trained = load_trained(out / f"{architecture}.safetensors")
        assert trained.recipe == named(architecture, seed=4)
        assert trained.classes[:2] == ("moves_right", "moves_left")
        model = trained.model
        with torch.no_grad():
            right = [model(clip[None]).argmax().item() == label for clip, label in clips]
        assert last["top_1"] == runs[architecture, 4]["top_1"] == sum(right) / len(right)
        for name in ("direction", "order"):
            assert last[name] == runs[architecture, 4][name]
        assert bool(last["taps"]) == (architecture == "blvnet_tam"), "only those that learn"

    # The taps of every epoch are logged, before the first one those of the seed.
    first, last = map(json.loads, (out / "blvnet_tam.jsonl").read_text().splitlines())
    assert (first["epoch"], last["epoch"]) == (0, 1) and set(first) == {"epoch", "taps"}
    trained = load_trained(out / "blvnet_tam.safetensors").model
    for line, network in ((first, build(named("blvnet_tam", seed=4), 10)), (last, trained)):
        logged = torch.tensor(line["taps"]["stage3.tam"])
        assert (logged - network.stage3.tam.taps.detach()).abs().max() <= 0.5001e-4
    assert first["taps"] != last["taps"]


@pytest.fixture
def threads():
    """Set the number of PyTorch's threads: so many networks train at once."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_staircase_that_is_stopped_trains_no_more(manifest, tmp_path, monkeypatch, threads):
    threads(1)
    monkeypatch.setattr(engine, "noted_signals", lambda: nullcontext(["SIGTERM"]))
    with pytest.raises(InterruptedError, match=r"stopped by SIGTERM: .* all logs are in"):
        run_staircase(out=tmp_path / "out", manifest=manifest, recipe=SHORT)
    assert not list(tmp_path.rglob("*.*"))


def contents(file: Path) -> Any:
    """What is in a file of a staircase, without times and memory."""
    if file.suffix == ".jsonl":
        return without_times(map(json.loads, file.read_text().splitlines()))
    if file.suffix != ".json":
        return file.read_bytes()
    found = json.loads(file.read_text())
    return found | {"runs": [run | {"seconds": None} for run in found["runs"]]}


AT_ONCE = pytest.mark.skipif(torch.cuda.is_available(), reason="networks share no GPU")


@AT_ONCE
def test_networks_trained_at_once_are_those_trained_alone(manifest, tmp_path, threads, monkeypatch):
    options = {"manifest": manifest, "architectures": ("tsm", "blvnet_tam"), "seeds": (4,)}
    options["recipe"] = replace(SHORT, epochs=2, hardware=Hardware(in_memory=True))
    monkeypatch.setattr(staircase, "measure_costs", lambda *_: {})
    one, two = tmp_path / "1", tmp_path / "2"
    threads(1)
    run_staircase(out=one, **options)
    monkeypatch.setattr(staircase, "fit", None)  # this process trains nothing
    threads(2)
    run_staircase(out=two, **options)
    files = [sorted(p.relative_to(out) for p in out.rglob("*.*")) for out in (one, two)]
    assert files[0] == files[1]
    for name in files[0]:
        assert contents(one / name) == contents(two / name), name


def train_badly(act: str, recipe: Recipe) -> dict:
    """In a process of its own: `act` happens to TSN, and the other network is never finished."""
    if recipe.network.architecture == "tsn" and act == "error":
        raise ArithmeticError("something is wrong")
    if recipe.network.architecture == "tsn" and act == "exit":
        os._exit(3)
    if recipe.network.architecture == "tsn":
        os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
    threading.Event().wait()


@AT_ONCE
@pytest.mark.skipif(not hasattr(os, "fork"), reason="sends a signal that not every system knows")
@pytest.mark.parametrize(
    "act, error, words",
    [
        ("error", ArithmeticError, "^something is wrong$"),
        ("exit", ChildProcessError, "has died, .* OMP_NUM_THREADS=1 .*__main__"),
        ("signal", InterruptedError, "stopped by SIGTERM: .* all logs are in /nowhere"),
    ],
)
def test_what_happens_to_one_of_two_networks_ends_both(act, error, words, threads):
    def unheard(*_):
        raise AssertionError("the signal was not noted")

    before, others = signal.signal(signal.SIGTERM, unheard), multiprocessing.active_children()
    threads(2)
    try:
        with pytest.raises(error, match=words):
            both = [named("tsn"), named("tsm")]
            staircase._train_all(partial(train_badly, act), both, Path("/nowhere"))
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(multiprocessing.active_children()) <= set(others), "no process is left"


def test_a_folder_that_cannot_be_written_is_noticed_first(manifest, monkeypatch):
    monkeypatch.setattr("blvnet_lab.runs.staircase.clip_datasets", None)  # which may take minutes
    with pytest.raises(NotADirectoryError):
        run_staircase(out=manifest / "out", manifest=manifest, recipe=SHORT)


def test_what_cannot_be_done_fails_before_any_training(manifest, tmp_path):
    odd = replace(SHORT, num_frames=7)  # fine for TSN, which would come first
    with pytest.raises(ValueError, match="even num_frames, got 7"):
        run_staircase(out=tmp_path / "out", manifest=manifest, recipe=odd)
    assert not (tmp_path / "out").exists()
    (tmp_path / "staircase.json").write_text("an earlier run")
    with pytest.raises(FileExistsError, match="new or an empty folder for the run"):
        run_staircase(out=tmp_path, manifest=manifest, recipe=SHORT)
    assert (tmp_path / "staircase.json").read_text() == "an earlier run"


def test_a_kind_without_clips_in_val_is_left_out(manifest, tmp_path):
    data_set = DataSet.read(manifest)
    rows = data_set.rows.query("split == 'train' or label < 6")
    few = data_set.with_rows(rows).save(tmp_path / "manifest.csv")
    options = {"architectures": ("tsn",), "seeds": (0,), "recipe": SHORT}
    found = run_staircase(out=tmp_path / "out", manifest=few, **options)
    assert "direction %" in str(found) and "order" not in str(found)


def test_table_by_hand():
    names = ("architecture", "seed", "top_1", "direction", "order", "seconds")
    rows = [("tsn", 0, 0.5, 0.4, 0.6, 10), ("blvnet_tam", 0, 1.0, 0.98, 0.97, 30)]
    rows += [("tsn", 1, 0.25, 0.5, 0.5, 21)]
    runs = [dict(zip(names, row, strict=True)) for row in rows]
    expected = {
        "model": ["TSN", "bLVNet-TAM"],
        "direction %": [45.0, 98.0],
        "direction range": ["40.0-50.0", "98.0-98.0"],
        "order %": [55.0, 97.0],
        "order range": ["50.0-60.0", "97.0-97.0"],
        "top_1 %": [37.5, 100.0],
        "top_1 range": ["25.0-50.0", "100.0-100.0"],
        "seconds": ["10-21", "30-30"],
        "MMACs": [32.3, 20.9],
        "ms": [3.0, 4.0],
        "MB": [5.0, 3.5],
    }
    costs = {"blvnet_tam": {"mmacs": 20.9, "mb": 3.5, "ms": 4.0}}
    costs["tsn"] = {"mmacs": 32.3, "mb": 5.0, "ms": 3.0}
    table = as_table({"runs": runs, "costs": costs})
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_help_comes_at_once():
    done = run_python("-X", "importtime", "-m", "blvnet_lab", "--help")
    assert done.returncode == 0
    assert "Count what one clip costs each architecture" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "blvnet_lab.cli" in imported, "the list of imports is there"
    assert not imported & {"torch", "torchvision", "pandas", "matplotlib", "av"}


def test_cost_command(monkeypatch, capsys):
    type_command(monkeypatch, "cost", "--depth", "50", "--num-frames", 16)
    shown = capsys.readouterr().out
    assert "16 frames of 224 x 224" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[2:]}
    *costs, ratio = rows["blvnet_tam"]
    assert costs == ["23.851", "0.072", "25.020"] and round(float(ratio), 2) == 2.74
    assert list(rows) == ["tsn", "tsm", "tam_resnet", "tsn_blnet", "blvnet", "blvnet_tam"]


def test_commands_from_clips_to_table(monkeypatch, capsys, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    counts = ["--clips-per-class", 1, "--val-per-class", 1, "--seed", 2]
    type_command(monkeypatch, "samples", "--out", data, *counts)
    assert str(data / "manifest.csv") in capsys.readouterr().out
    assert len(DataSet.read(data / "manifest.csv").rows) == 20

    settings = ["--manifest", data / "manifest.csv", "--out", out, "--seeds", 0]
    settings += ["--epochs", 1, "--size", 32, 32, "--num-frames", 4]
    type_command(monkeypatch, "staircase", *settings, "--architectures", "tsn", "blvnet")
    shown = capsys.readouterr().out
    for words in ("TSN", "bLVNet", "direction %", "order %", "toss of a coin", str(out)):
        assert words in shown
    assert (out / "staircase.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((out / "staircase.json").read_text())
    assert summary["command"].startswith("python -m blvnet_lab staircase --manifest")
    used = summary["recipe"]
    assert used["num_frames"] == 4 and used["size"] == [32, 32]
