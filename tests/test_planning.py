"""What a run will take: steps, hours, memory, disk; counted against sums by hand and real runs."""

import json
import os
import re
import shlex
import sys
from dataclasses import replace

import pandas as pd
import psutil
import pytest
import torch
from lab import ROOT, run_python, type_command
from torch import nn
from torch.utils.data import TensorDataset

from blvnet_lab.data import DataSet
from blvnet_lab.runs import plan as planning
from blvnet_lab.runs.memory import count_memory, kept_for_backward, most_at_once
from blvnet_lab.runs.plan import USABLE, USABLE_CPU, DataSize, TrainingPlan, plan_training
from blvnet_lab.training import engine
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.recipe import Hardware, Network, Output, Recipe, Views, preset

CPU = torch.device("cpu")
SAMPLES = ROOT / "data_samples" / "motion"

# 4 frames of 32 x 32: 4 * 3 * 4 * 32 * 32 = 49,152 bytes a clip
SMALL = Recipe(num_frames=4, size=(32, 32), ema=0.9, evaluation=Views(size=(48, 64)))
DATA = DataSize(1000, 300, 5)
TINY = replace(SMALL, epochs=1, batch_size=4, evaluation=Views())  # of which a run is quick
CLIPS = TensorDataset(torch.randn(8, 4, 3, 32, 32), torch.arange(8) % 2)


def on(recipe: Recipe, **hardware) -> Recipe:
    return replace(recipe, hardware=Hardware(**hardware))


def plan(recipe: Recipe, data: DataSize = DATA, **settings) -> TrainingPlan:
    return plan_training(None, recipe, data=data, **settings)


def row(found: TrainingPlan, label: str, below: int = 0) -> tuple[str, str]:
    """Value and origin of a row, or of one so many rows below it."""
    rows = list(found.rows())
    return rows[[row[0] for row in rows].index(label) + below][1:]


@pytest.fixture(autouse=True)
def on_cpu(request, monkeypatch):
    if "gpu" not in request.keywords:
        monkeypatch.setattr(planning, "pick_device", lambda: CPU)


@pytest.fixture(scope="module")
def small():
    """A plan of 16 clips on each of 4 processes, in 2 parts of 8."""
    recipe = on(replace(SMALL, batch_size=64, epochs=3), accumulate=2)
    data, given = replace(DATA, bytes_per_clip=2e6), {"clips_per_second": 10.0, "memory_gb": 1.0}
    return plan(recipe, data, processes=4, keep_every=2, **given)


# ---------------------------------------------------------------- steps, hours, bytes
def test_steps_by_hand(small):
    assert row(small, "batch") == ("64 clips", "processes x parts x clips at once: 4 x 2 x 8")
    assert row(small, "steps") == ("15 an epoch", "40 clips, no whole batch, left out")
    assert row(small, "steps", 1) == ("45 in all", "3 epochs")
    assert row(small, "learning rate")[0] == "0.12 at most", "0.03 * 64 / 16"
    few = plan(SMALL, DataSize(10, 1, 2), clips_per_second=5)
    assert row(few, "batch")[0] == "10 clips" and row(few, "steps")[0] == "1 an epoch"


def test_hours_by_hand(small):
    # Training: 45 * 64 / 10 = 288 s, only the clips of whole batches. Evaluation costs a third for
    # each pixel, of 3 times as many: 2 * 3 * 300 / 10 = 180 s for the average and the weights.
    assert (row(small, "time")[0], row(small, "time", 1)[0]) == ("7.8 min", "3 min")
    without = replace(small, recipe=replace(small.recipe, ema=0.0))
    assert row(without, "time", 1)[0] == "1.5 min"
    kept = replace(small, recipe=on(small.recipe, in_memory=True))
    assert "decoded" in row(kept, "time")[1] and "decoded" not in row(small, "time")[1]
    assert row(small, "clips to load")[0] == "2.5 clips/s", "of each process"


def test_a_run_takes_the_disk_that_was_planned(tmp_path):
    recipe = replace(TINY, epochs=2, ema=0.9)
    fit(build(recipe, 2), CLIPS, CLIPS, recipe, device=CPU, output=Output(tmp_path, keep_every=1))
    found = plan(recipe, DataSize(8, 8, 2), clips_per_second=1, keep_every=1)
    checkpoints = list(tmp_path.glob("*.pt"))
    assert len(checkpoints) == 4
    files = sum(path.stat().st_size for path in checkpoints)
    planned = float(row(found, "disk")[0].removesuffix(" MB")) * 1e6
    assert files + found.memory.weights == pytest.approx(planned, rel=0.1)


# ---------------------------------------------------------------- counting memory
class Shared(nn.Module):
    """One tensor, which three operations keep, and a view of one of which the rest is kept too."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        y = x * self.scale  # keeps x, 400 bytes
        return (y * y).sum() + y.sin().sum() + y[:10].cos().sum()  # y, y, y and a part of y


NET = nn.Sequential(  # of 2 x 3 x 8 x 8 float32: 1,536 bytes
    nn.Conv2d(3, 4, 3, padding=1, bias=False),  # keeps the clips, and a weight
    nn.ReLU(),  # keeps its result, 2,048 bytes
    nn.Conv2d(4, 5, 1),  # keeps the same result
    nn.Flatten(),
    nn.Linear(320, 2),  # keeps its input, the maps of 2,560 bytes
)
FROZEN = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).requires_grad_(False)


@pytest.mark.parametrize(
    "model, shape, kept",
    [
        (NET, (2, 3, 8, 8), 1536 + 2048 + 2560),
        (Shared(), (100,), 400 + 400),
        (FROZEN, (4, 8), 128),  # nothing but the clips
    ],
)
def test_kept_by_hand(model, shape, kept):
    assert kept_for_backward(model, torch.randn(shape)) == kept


@torch.no_grad()
def test_most_at_once_by_hand():
    clips = torch.randn(100)  # 400 bytes
    assert most_at_once(nn.ReLU(), clips) == 2 * 400
    # While a module runs there are the clips, its input and its result; earlier ones are gone.
    assert most_at_once(nn.Sequential(*[nn.ReLU() for _ in range(5)]), clips) == 3 * 400
    assert most_at_once(nn.Linear(100, 50), clips) == 400 + 200, "without the weights"
    wide = nn.Sequential(nn.Linear(100, 1000), nn.Linear(1000, 10), nn.Linear(10, 5))
    assert most_at_once(wide, clips) == 400 + 4000 + 40, "the most, not what there is in the end"


def test_a_frozen_body_has_no_gradients_and_keeps_no_maps():
    changes = ({}, {"body_rate": 0.0}, {"freeze": "body"})
    whole, frozen, named = (count_memory(Recipe(ema=0.9, **some), 10) for some in changes)
    assert named == frozen
    expected = sum(weight.nbytes for weight in build(Recipe(), 10).classifier.parameters())
    assert frozen.gradients == frozen.momentum == expected < whole.gradients / 20
    assert (frozen.weights, frozen.average) == (whole.weights, whole.average)
    assert frozen.clip == frozen.evaluation_clip == whole.evaluation_clip < whole.clip / 3


@pytest.mark.parametrize(
    "architecture, precision", [("blvnet_tam", "bfloat16"), ("tsn", "float32"), ("tsn", "float16")]
)
def test_counting_without_values_is_counting(precision, architecture):
    recipe = replace(on(SMALL, precision=precision), network=Network(architecture))
    memory, model = count_memory(recipe, 5), build(recipe, 5)
    clips, views = torch.randn(40, 4, 3, 32, 32), torch.randn(40, 4, 3, 48, 64)
    with autocast(CPU, recipe.hardware):
        kept = kept_for_backward(model, clips)
        with torch.no_grad():
            most = most_at_once(model.eval(), views)
    assert 40 * memory.clip == pytest.approx(kept, rel=0.03)
    assert 40 * memory.evaluation_clip == pytest.approx(most, rel=0.05)


def test_weights_by_hand():
    model = build(SMALL, 5)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    rng = torch.get_rng_state()
    memory = count_memory(SMALL, 5)
    assert torch.equal(torch.get_rng_state(), rng), "counting draws nothing"
    found = (memory.weights, memory.gradients, memory.momentum, memory.average)
    assert found == (weights, parameters, parameters, weights)
    plain = count_memory(replace(SMALL, momentum=0.0, ema=0.0), 5)
    assert (plain.momentum, plain.average) == (0, 0)
    assert plain.training(2) == weights + parameters + 2 * plain.clip
    assert plain.evaluation(2) == weights + 2 * plain.evaluation_clip


def test_published_size_of_the_network():
    """The published code keeps 0.779 GB for a clip; pairs that stay pairs need less."""
    recipe = preset("ssv2-50-f8x2")
    memory = count_memory(recipe, 174)
    assert 0.6e9 < memory.clip < 0.779e9
    assert memory.gradients == pytest.approx(4 * 25.020e6, rel=1e-4)
    half = count_memory(on(recipe, precision="bfloat16"), 174)
    assert half.clip == pytest.approx(memory.clip / 2, rel=0.04)
    less = count_memory(on(recipe, checkpointing=True), 174)
    assert 0.3 < less.clip / memory.clip < 0.45 and less.weights == memory.weights


PEAK = """
import re, torch
from blvnet_lab.training.engine import build
from blvnet_lab.runs.memory import count_memory
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.state import make_optimizer

torch.set_num_threads(1)
recipe = Recipe()
model = build(recipe, 10).to(memory_format=torch.channels_last)
optimizer = make_optimizer(model, recipe)

def train(clips):
    model(torch.randn(clips, 8, 3, 64, 64)).sum().backward()
    optimizer.step()

def memory(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

train(2)  # after which there are gradients and momentum
before = memory("VmRSS")
train(40)
# Not getrusage: its peak may be that of the process which started this one.
grown = memory("VmHWM") - before
counted = count_memory(recipe, 10)
print(grown / (40 * counted.clip))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_real_training_takes_what_was_counted():
    # Else the C library keeps memory that PyTorch has given back, and as much again is taken.
    # With one thread: the libraries take memory of their own for each.
    quiet = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = run_python("-c", PEAK, **quiet)
    assert done.returncode == 0, done.stderr
    assert 0.8 < float(done.stdout) < 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_counted_memory_on_a_gpu(precision):
    recipe = on(replace(preset("kinetics-subset"), ema=0.0), precision=precision)
    found = plan(recipe, DataSize(100, 10, 10))
    assert found.memory.origin == "measured"
    assert found.memory.clip == pytest.approx(count_memory(recipe, 10).clip, rel=0.25)


# ---------------------------------------------------------------- what fits
@pytest.mark.parametrize(
    "share, fits, accumulate",
    [
        *[(16, *pair) for pair in [(16, 1), (12, 2), (8, 2), (7, 4), (3, 8), (1, 16), (0, None)]],
        (15, 6, 3),  # in 3 parts of 5, not 2 of 7.5
    ],
)
def test_parts_that_make_the_batch_fit(small, share, fits, accumulate):
    recipe = on(replace(SMALL, batch_size=4 * share), accumulate=1 if share % 2 else 2)
    settings = {"processes": 4, "clips_per_second": 1, "memory_gb": 1}
    limit = small.memory.training(fits) + 12_345  # not enough for another one
    found = replace(plan(recipe, **settings), limit=limit)
    assert row(found, "largest batch")[0] == f"{fits} clips"
    value, advice = row(found, "largest batch", 1)
    if accumulate is None:
        assert value == "none" and "smaller or shorter clips" in advice
    elif accumulate <= 2:
        assert "with --hardware.accumulate" not in str(found), "it has 2"
    else:
        assert value == f"{share // accumulate} of {share} clips"
        assert f"with --hardware.accumulate {accumulate}" in advice
        again = plan(on(recipe, accumulate=accumulate), **settings)
        assert again.memory.training(again.batches.at_once) <= found.limit, "and it does"


def test_evaluation_takes_as_many_clips_as_the_engine_gives_it(monkeypatch):
    asked, real = [], engine.evaluate

    def watched(*args, batch_size, **options):
        asked.append(batch_size)
        return real(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(engine, "evaluate", watched)
    for recipe in (TINY, on(TINY, accumulate=2)):
        fit(build(recipe, 2), CLIPS, CLIPS, recipe, device=CPU)
        found = plan(recipe, DataSize(8, 8, 2), clips_per_second=1)
        assert row(found, "evaluation")[1].startswith(f"{asked.pop()} clips at once")


def test_what_does_not_fit_is_said(small):
    assert small.limit == USABLE * 1e9 and 0 < USABLE_CPU < USABLE < 1
    just = replace(small, limit=small.memory.training(8))
    for label in ("training", "evaluation"):
        assert row(just, label)[1].startswith("8 clips at once: fits in")
    under = replace(just, limit=just.limit - 1)
    large = replace(just, memory=replace(small.memory, evaluation_clip=2 * small.memory.clip))
    for found, label in ((under, "training"), (large, "evaluation")):
        assert row(found, label)[1].startswith("8 clips at once: does NOT fit in")


def test_memory_of_this_machine():
    found, shared = (plan(SMALL, clips_per_second=1, processes=n) for n in (1, 4))
    assert 0.5 < found.limit / (4 * shared.limit) < 2
    free = psutil.virtual_memory().available
    assert found.limit == pytest.approx(USABLE_CPU * free, rel=0.5)
    assert row(found, "training")[1].endswith("free here now")
    assert row(shared, "training")[1].endswith("free here now, for each of 4 processes")


# ---------------------------------------------------------------- measuring
def measured(recipe: Recipe, most: int, processes: int = 1):
    return planning.measure(recipe, 5, count_memory(recipe, 5), CPU, most, processes)


@pytest.mark.parametrize(
    "most, took, expected",
    [
        # Growing, up to the most; then the median counts, as one in three takes longer.
        (12, lambda n: 0.5 if n < 4 else 0.6 if n % 3 == 0 else 0.12, [2, 4, 8] + [12] * 21),
        (64, lambda n: 20.0, [2, 2]),  # one to warm up, one that counts
    ],
)
def test_steps_that_warm_up_do_not_count(monkeypatch, most, took, expected):
    sizes, clock = [], [0.0]
    monkeypatch.setattr(planning.time, "perf_counter", lambda: clock[0])

    def train(model, batches, *others):
        clock[0] += took(len(sizes))
        sizes.append(len(batches[0][0]))

    monkeypatch.setattr(planning, "train_one_epoch", train)
    rate, origin, _ = measured(SMALL, most, 3)
    assert sizes == expected and f"on the CPU here, {expected[-1]} clips of noise" in origin
    assert rate == pytest.approx(3 * (12 / 0.12 if most == 12 else 2 / 20))
    assert "times 3: an upper bound" in origin and "bound" not in measured(SMALL, most)[1]


def test_measured_as_the_recipe_says(monkeypatch):
    seen, models = [], []

    def look(module, args, result):
        if isinstance(module, nn.Conv2d) and module is models[-1].stem.conv:
            last = module.weight.is_contiguous(memory_format=torch.channels_last)
            seen.append((len(args[0]) // 4, tuple(args[0].shape[2:]), result.dtype, last))

    def train(model, *others):
        models.append(model)
        assert others[-1].hardware.accumulate == 1, "else not every batch is waited for"
        return engine.train_one_epoch(model, *others)

    monkeypatch.setattr(planning, "train_one_epoch", train)
    monkeypatch.setattr(planning, "MEASURED_STEPS", 2)
    hardware = {"precision": "bfloat16", "channels_last": False, "accumulate": 2}
    recipe = on(replace(SMALL, learning_rate=1e6, clip_norm=1.0), **hardware)
    memory, rng = count_memory(recipe, 5), torch.get_rng_state()
    hook = nn.modules.module.register_module_forward_hook(look)
    rate, _, same = planning.measure(recipe, 5, memory, CPU, 6)
    hook.remove()
    assert torch.equal(torch.get_rng_state(), rng)
    assert seen == [(clips, (32, 32), torch.bfloat16, False) for clips in (2, 4, 6, 6, 6)]
    assert rate > 0 and same == memory
    for weight, at_first in zip(models[0].parameters(), build(SMALL, 5).parameters(), strict=True):
        assert torch.equal(weight, at_first), "noise teaches nothing"


# ---------------------------------------------------------------- the size of data sets
def test_size_of_a_manifest(tmp_path):
    def size_of(rows):
        table = pd.DataFrame(rows, columns=["path", "label", "split", "status"])
        table["class_name"] = ["ab"[label] for label in table["label"]]
        table.to_csv(tmp_path / "manifest.csv", index=False)
        return planning.manifest_size(DataSet.read(tmp_path / "manifest.csv"))

    video = next(SAMPLES.glob("train/*/*.mp4"))
    rows = [
        ("gone.mp4", 0, "train", "ok"),
        ("frames", 0, "val", "ok"),
        ("bad.mp4", 1, "train", "unreadable"),
        ("test.mp4", 1, "test", "ok"),
    ]
    assert size_of(rows) == DataSize(1, 1, 2, None), "no file is here"
    rows.append((str(video), 1, "train", "ok"))
    # Classes without a clip count too, if the class list has them, as in training.
    (tmp_path / "classes.csv").write_text("label,class_name\n0,a\n1,b\n2,c\n")
    assert size_of(rows) == DataSize(2, 1, 3, os.path.getsize(video))


# ---------------------------------------------------------------- the table, the command
def test_every_number_says_where_it_comes_from(small):
    for found in (small, replace(small, limit=1)):
        title, *lines = str(found).splitlines()
        assert title.endswith("tiny, for clips of 4 frames of 32 x 32 pixels, in float32")
        assert max(map(len, lines)) <= 100
        for label, value, origin in found.rows():
            assert len(label) < 15 and 0 < len(value) < 22 and len(origin) > 2, label
            assert not re.search(r"\d\.\d{3}", value + origin), "no false precision"


def test_numbers_as_people_write_them():
    numbers = (0, 999, 49_152, 657_089_364, 42.3e9, 1.234e12, 5.6e15)
    texts = ["0 bytes", "999 bytes", "49.2 kB", "657 MB", "42.3 GB", "1.23 TB", "5,600 TB"]
    assert [planning._in(planning.BYTES, n) for n in numbers] == texts
    texts = ["0.5 s", "1.5 min", "2 h", "13,900 h"]
    assert [planning._in(planning.TIMES, n) for n in (0.5, 90, 7200, 5e7)] == texts


MANIFEST = shlex.quote(str(SAMPLES / "manifest.csv"))


@pytest.mark.parametrize(
    "words, texts",
    [
        (  # 240,258 // 64 steps; 50 * 3,754 * 64 / 250 s and the evaluations
            "--preset kinetics400-50-f8x2 --processes 8 --clips-per-second 250 --memory-gb 16",
            "frames of 224 x 224; clips 240,258 + 19,881 train; batch 64 clips processes x parts x "
            "clips at once: 8 x 1 x 8; steps 3,754 an epoch; 187,700 in all; time 13.8 h; 419 GB "
            "for the videos",
        ),
        (  # what is given counts, not what is found
            f"{MANIFEST} --batch-size 100 --epochs 2 --clips-per-second 50 --keep-every 1 "
            "--bytes-per-clip 5e6",
            "steps 10 an epoch 0 clips, no whole batch, left out 20 in all 2 epochs; of 10 classes,"
            " in ; one every 1 epochs; 7.5 GB for the videos, 5 MB each",
        ),
        (
            "--num-clips 90 --num-val-clips 11 --num-classes 3 --preset recipe.json "
            "--clips-per-second 2",
            "clips 90 + 11 train + val, of 3 classes, given; 28 in all 7 epochs",
        ),
    ],
)
def test_command(words, texts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = {"epochs": 7, "batch_size": 20, "num_frames": 4}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    type_command(monkeypatch, "plan", *shlex.split(words))
    printed = " ".join(capsys.readouterr().out.split())
    assert [text for text in texts.split("; ") if text not in printed] == []


@pytest.mark.parametrize(
    "words, message",
    [
        ("--num-clips 3", "all three of them, got only some"),
        (f"{MANIFEST} --num-clips 3", "all three of them, got both"),
        ("nowhere.csv", "manifest .manifest.csv., but there is no file .*nowhere.csv"),
        ("", "expected a manifest, or a preset for ssv2 or kinetics400, got the preset classroom"),
        ("--preset ssv2-50-f8x2 --bytes-per-clip 0", "expected bytes_per_clip to be a positive"),
        ("--preset ssv2-50-f8x2 --clips-per-second nan", "expected clips_per_second to be"),
        ("--preset ssv2-50-f9x2", "expected the name of a preset"),
        (f"{MANIFEST} --processes 3", "that 3 processes .* got 16: take a multiple of 3"),
        ("--num-clips 8 --num-val-clips 1 --num-classes 2 --processes 2", "training clips, got 8"),
    ],
)
def test_mistakes_at_the_command(words, message, monkeypatch):
    with pytest.raises(SystemExit, match=f"^blvnet_lab: .*{message}"):
        type_command(monkeypatch, "plan", *shlex.split(words))
