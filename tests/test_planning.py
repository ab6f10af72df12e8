"""What a run will take: steps, hours, memory, disk; counted against sums by hand and real runs."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from lab import LIMIT_S, ROOT
from torch import nn
from torch.utils.data import TensorDataset

from blvnet_lab import cli
from blvnet_lab.data import DataSet, probe_video
from blvnet_lab.data.probing import pack_info
from blvnet_lab.runs import plan as planning
from blvnet_lab.runs import speed
from blvnet_lab.runs.memory import count_memory, kept_for_backward, most_at_once
from blvnet_lab.runs.plan import USABLE, USABLE_CPU, TrainingPlan, plan_training
from blvnet_lab.runs.sizes import DataSize, manifest_size, published_size
from blvnet_lab.runs.speed import Rate, measure, measure_rate, rate_of_training
from blvnet_lab.training import engine
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.presets import preset
from blvnet_lab.training.recipe import Hardware, Network, Output, Recipe, Views
from blvnet_lab.training.schedule import rate_factor

CPU = torch.device("cpu")
SAMPLES = ROOT / "data_samples" / "motion"

# 4 frames of 32 x 32: 4 * 3 * 4 * 32 * 32 = 49,152 bytes a clip
SMALL = Recipe(num_frames=4, size=(32, 32), ema=0.9, evaluation=Views(size=(48, 64)))
DATA = DataSize(1000, 300, 5)


def on(recipe: Recipe, **hardware) -> Recipe:
    return dataclasses.replace(recipe, hardware=Hardware(**hardware))


def plan(recipe: Recipe, data: DataSize = DATA, **settings) -> TrainingPlan:
    return plan_training(None, recipe, data=data, **settings)


@pytest.fixture(autouse=True)
def on_cpu(request, monkeypatch):
    if "gpu" not in request.keywords:
        monkeypatch.setattr(planning, "pick_device", lambda: CPU)


@pytest.fixture(scope="module")
def small():
    """A plan of 16 clips on each of 4 processes, in 2 parts of 8."""
    recipe = on(dataclasses.replace(SMALL, batch_size=64, epochs=3), accumulate=2)
    settings = {"clips_per_second": 10.0, "memory_gb": 1.0}
    data = dataclasses.replace(DATA, bytes_per_clip=2e6)
    return plan(recipe, data, processes=4, keep_every=2, **settings)


# ---------------------------------------------------------------- steps and hours


def test_steps_by_hand(small):
    assert (small.steps_per_epoch, small.steps) == (15, 45), "1000 = 15 * 64 + 40, which are left"
    assert (small.share, small.at_once) == (16, 8)
    assert small.recipe.peak_rate == pytest.approx(0.03 * 64 / 16)


def test_few_clips_make_one_small_batch():
    found = plan(SMALL, DataSize(10, 1, 2), clips_per_second=5)
    assert (found.batch_size, found.steps_per_epoch, found.share) == (10, 1, 10)


@pytest.mark.parametrize("warmup", [None, 0.0, 1.5, 1.51])
@pytest.mark.parametrize("batch_size", [64, 80])
def test_warmup_is_that_of_the_schedule(small, warmup, batch_size):
    recipe = dataclasses.replace(
        SMALL, schedule="cosine", epochs=9, batch_size=batch_size, warmup_epochs=warmup
    )
    steps = 1000 // batch_size
    found = dataclasses.replace(small, recipe=recipe, steps_per_epoch=steps)
    rates = [rate_factor(step, recipe, steps) for step in range(9 * steps)]
    rising = [step for step in range(9 * steps - 1) if rates[step] < rates[step + 1]]
    assert found.warmup_steps == len(rising)
    one_cycle = dataclasses.replace(recipe, schedule="one-cycle", warmup_epochs=2)
    assert dataclasses.replace(found, recipe=one_cycle).warmup_steps == 0


def test_hours_by_hand(small):
    assert small.training_seconds == 45 * 64 / 10, "only the clips of whole batches"
    # A third of the cost for each pixel, and 3 times as many pixels: as slow as training.
    assert small.rate.evaluation == pytest.approx(10.0)
    assert small.evaluation_seconds == pytest.approx(2 * 3 * 300 / 10), "the average, the weights"
    assert small.device_hours == pytest.approx(4 * (288 + 180) / 3600)
    without = dataclasses.replace(small, recipe=dataclasses.replace(small.recipe, ema=0.0))
    assert without.evaluation_seconds == pytest.approx(3 * 300 / 10)
    same_size = dataclasses.replace(SMALL, evaluation=Views())
    assert rate_of_training(10, same_size).evaluation == pytest.approx(30)


def test_bytes_by_hand(small):
    assert small.input_bytes == 49_152
    memory = small.memory
    assert small.checkpoint_bytes == memory.weights + memory.momentum + memory.average
    # last, best and epoch 2 of the three; the network alone
    assert small.folder_bytes == 3 * small.checkpoint_bytes + memory.weights
    text = str(small)
    assert "2.6 GB" in text, "1,300 videos of 2 MB"
    assert re.search(r"20 MB/s +from disk", text), "10 clips of 2 MB a second"
    assert re.search(r"120 kB/s +to each device", text), "10 / 4 clips of 49,152 bytes a second"


# ---------------------------------------------------------------- counting memory


def test_kept_by_hand():
    model = nn.Sequential(  # of 2 x 3 x 8 x 8 float32: 1,536 bytes
        nn.Conv2d(3, 4, 3, padding=1, bias=False),  # keeps the clips, and a weight
        nn.ReLU(),  # keeps its result, 2,048 bytes
        nn.Conv2d(4, 5, 1),  # keeps the same result
        nn.Flatten(),
        nn.Linear(320, 2),  # keeps its input, the maps of 2,560 bytes
    )
    assert kept_for_backward(model, torch.randn(2, 3, 8, 8)) == 1536 + 2048 + 2560


class Shared(nn.Module):
    """One tensor, which three operations keep, and a view of one of which the rest is kept too."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        y = x * self.scale  # keeps x, 400 bytes
        return (y * y).sum() + y.sin().sum() + y[:10].cos().sum()  # y, y, y and a part of y


def test_what_is_shared_counts_once():
    assert kept_for_backward(Shared(), torch.randn(100)) == 400 + 400


def test_frozen_weights_keep_nothing_but_the_clips():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).requires_grad_(False)
    assert kept_for_backward(model, torch.randn(4, 8)) == 128


def test_a_frozen_body_has_no_gradients_and_keeps_no_maps():
    whole, frozen = (count_memory(Recipe(body_rate=rate, ema=0.9), 10) for rate in (1.0, 0.0))
    classifier = build(Recipe(), 10).classifier
    expected = sum(weight.nbytes for weight in classifier.parameters())
    assert frozen.gradients == frozen.momentum == expected < whole.gradients / 20
    assert (frozen.weights, frozen.average) == (whole.weights, whole.average)
    assert frozen.clip == frozen.evaluation_clip == whole.evaluation_clip < whole.clip / 3


def test_most_at_once_by_hand():
    clips = torch.randn(100)  # 400 bytes
    assert most_at_once(nn.ReLU(), clips) == 2 * 400
    # While a module runs there are the clips, its input and its result; earlier ones are gone.
    assert most_at_once(nn.Sequential(*[nn.ReLU() for _ in range(5)]), clips) == 3 * 400
    assert most_at_once(nn.Linear(100, 50), clips) == 400 + 200, "without the weights"
    wide = nn.Sequential(nn.Linear(100, 1000), nn.Linear(1000, 10), nn.Linear(10, 5))
    assert most_at_once(wide, clips) == 400 + 4000 + 40, "the most, not what there is in the end"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["blvnet_tam", "tsn"])
def test_counting_without_values_is_counting(precision, architecture):
    recipe = dataclasses.replace(on(SMALL, precision=precision), network=Network(architecture))
    memory = count_memory(recipe, 5)
    model = build(recipe, 5)
    clips, views = torch.randn(40, 4, 3, 32, 32), torch.randn(40, 4, 3, 48, 64)
    with autocast(CPU, recipe.hardware):
        kept = kept_for_backward(model, clips)
        most = most_at_once(model.eval(), views)
    assert memory.fixed + 40 * memory.clip == pytest.approx(kept, rel=0.01)
    assert 40 * memory.evaluation_clip == pytest.approx(most, rel=0.05)


def test_weights_by_hand():
    model = build(SMALL, 5)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    memory = count_memory(SMALL, 5)
    found = (memory.weights, memory.gradients, memory.momentum, memory.average)
    assert found == (weights, parameters, parameters, weights)
    plain = count_memory(dataclasses.replace(SMALL, momentum=0.0, ema=0.0), 5)
    assert (plain.momentum, plain.average) == (0, 0)
    assert plain.training(2) == weights + parameters + plain.fixed + 2 * plain.clip
    assert plain.evaluation(2) == weights + plain.fixed + 2 * plain.evaluation_clip


def test_published_size_of_the_network():
    """The published code keeps 0.779 GB for a clip (FACTS.md); pairs that stay pairs need less."""
    memory = count_memory(preset("ssv2-50-f8x2"), 174)
    assert 0.6e9 < memory.clip < 0.779e9
    assert memory.gradients == pytest.approx(4 * 25.020e6, rel=1e-4)
    half = count_memory(on(preset("ssv2-50-f8x2"), precision="bfloat16"), 174)
    assert half.clip == pytest.approx(memory.clip / 2, rel=0.04)
    assert half.fixed == pytest.approx(memory.gradients / 2, rel=0.02), "weights in half precision"


def test_checkpointing_keeps_less():
    plain = count_memory(preset("ssv2-50-f8x2"), 174)
    less = count_memory(on(preset("ssv2-50-f8x2"), checkpointing=True), 174)
    assert 0.3 < less.clip / plain.clip < 0.45 and less.weights == plain.weights


def test_counting_leaves_chance_and_threads_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    count_memory(SMALL, 5)
    assert torch.equal(torch.get_rng_state(), before)


PEAK = """
import re, torch
from blvnet_lab.training.engine import build
from blvnet_lab.runs.memory import count_memory
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.schedule import make_optimizer

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
train(100)
# Not getrusage: its peak may be that of the process which started this one.
grown = memory("VmHWM") - before
counted = count_memory(recipe, 10)
print(grown / (counted.fixed + 100 * counted.clip))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_real_training_takes_what_was_counted():
    # Else the C library keeps memory that PyTorch has given back, and as much again is taken.
    # With one thread: the libraries take memory of their own for each.
    quiet = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    env = os.environ | {"PYTHONPATH": str(ROOT), **quiet}
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=env)
    assert done.returncode == 0, done.stderr
    assert 0.8 < float(done.stdout) < 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_counted_memory_on_a_gpu(precision):
    recipe = on(dataclasses.replace(preset("kinetics-subset"), ema=0.0), precision=precision)
    counted = count_memory(recipe, 10)
    found = plan(recipe, DataSize(100, 10, 10))
    assert found.memory.origin == "measured"
    assert found.memory.clip == pytest.approx(counted.clip, rel=0.25)


# ---------------------------------------------------------------- what fits


@pytest.mark.parametrize("spare", [0, 1, 12_345])
def test_largest_batch_fits_and_one_more_does_not(small, spare):
    m = small.memory
    always = m.weights + m.gradients + m.momentum + m.average + m.fixed
    for clips in (1, 2, 7, 300):
        limit = always + clips * m.clip + spare
        found = dataclasses.replace(small, memory_limit=limit)
        assert found.largest == clips
        assert always + (found.largest + 1) * m.clip > limit
        assert dataclasses.replace(small, memory_limit=limit - spare - 1).largest == clips - 1
    assert dataclasses.replace(small, memory_limit=always - 10**9).largest == 0


def test_a_part_of_the_memory_is_usable(small):
    assert small.memory_limit == USABLE * 1e9
    assert 0 < USABLE_CPU < USABLE < 1


@pytest.mark.parametrize(
    "fits, accumulate", [(16, 1), (12, 2), (8, 2), (7, 4), (3, 8), (1, 16), (0, None)]
)
def test_parts_that_make_the_batch_fit(small, fits, accumulate):
    found = dataclasses.replace(small, memory_limit=small.memory.training(fits))
    assert (found.largest, found.accumulate) == (fits, accumulate)
    text = str(found)
    assert ("with --hardware.accumulate" in text) == (accumulate not in (1, 2, None)), "has 2"
    if accumulate is None:
        assert "smaller or shorter clips" in text
    elif accumulate > 2:
        assert f"{16 // accumulate} of 16 clips" in text
        assert f"with --hardware.accumulate {accumulate}" in text
        # and it does
        settings = {"processes": 4, "clips_per_second": 1, "memory_gb": 1}
        again = plan(on(small.recipe, accumulate=accumulate), **settings)
        assert again.memory.training(again.at_once) <= found.memory_limit


def test_parts_divide_the_share(small):
    odd = dataclasses.replace(small, batch_size=60, memory_limit=small.memory.training(6))
    assert (odd.share, odd.accumulate) == (15, 3), "15 clips: in 3 parts of 5, not 2 of 7.5"


def test_evaluation_takes_as_many_clips_as_the_engine_gives_it(monkeypatch):
    asked = []
    real = engine.evaluate

    def watched(*args, batch_size, **options):
        asked.append(batch_size)
        return real(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(engine, "evaluate", watched)
    recipe = dataclasses.replace(SMALL, epochs=1, batch_size=4, evaluation=Views())
    clips = TensorDataset(torch.randn(8, 4, 3, 32, 32), torch.arange(8) % 2)
    for changed in (recipe, on(recipe, accumulate=2)):
        fit(build(changed, 2), clips, clips, changed, device=CPU)
        found = plan(changed, DataSize(8, 8, 2), clips_per_second=1)
        assert asked.pop() == found.at_once


def test_what_does_not_fit_is_said(small):
    limit = small.memory.training(8)
    text = str(dataclasses.replace(small, memory_limit=limit))
    assert re.search(r"training .* 8 clips at once: fits in", text)
    assert re.search(r"evaluation .* 8 clips at once: fits", text)
    large = dataclasses.replace(small.memory, evaluation_clip=2 * small.memory.clip)
    text = str(dataclasses.replace(small, memory_limit=limit, memory=large))
    assert re.search(r"evaluation .* 8 clips at once: does NOT fit: take a smaller batch", text)
    assert "8 clips at once: does NOT fit in" in str(
        dataclasses.replace(small, memory_limit=limit - 1)
    )


# ---------------------------------------------------------------- measuring


class Clock:
    """In place of the module time; it only goes on when a test says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_first_and_small_steps_do_not_count(monkeypatch):
    monkeypatch.setattr(speed, "time", clock := Clock())
    sizes = []

    def step(clips):
        warm = len(sizes) >= 4
        clock.now += (0.6 if len(sizes) % 3 == 0 else 0.12) if warm else 0.5
        sizes.append(clips)

    rate, number = measure_rate(step, 12, "training")
    assert sizes[:4] == [2, 4, 8, 12], "growing, up to the most"
    assert set(sizes[4:]) == {number} == {12} and len(sizes) == 4 + speed.MEASURED_STEPS
    assert rate == pytest.approx(12 / 0.12), "the median: one in three takes 0.6 s"


def test_slow_steps_are_few_and_small(monkeypatch):
    monkeypatch.setattr(speed, "time", clock := Clock())
    sizes = []

    def step(clips):
        sizes.append(clips)
        clock.now += 20.0

    assert measure_rate(step, 64, "training") == (2 / 20, 2)
    assert sizes == [2, 2], "one to warm up, one that counts"


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(speed, "MEASURED_STEPS", 2)


def test_measured_as_the_recipe_says(brief, monkeypatch):
    seen = []

    def watched(recipe, num_classes):
        model = build(recipe, num_classes)

        def look(module, args, result):
            shape, width = tuple(args[0].shape), module.weight
            is_last = width.is_contiguous(memory_format=torch.channels_last)
            seen.append((module.training, result.dtype, shape[0] // 4, shape[2:], is_last))

        model.stem.conv.register_forward_hook(look)
        return model

    trained = []

    def train(*args):
        trained.append(args[-1].hardware)
        return engine.train_one_epoch(*args)

    monkeypatch.setattr(speed, "build", watched)
    monkeypatch.setattr(speed, "train_one_epoch", train)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for hardware, dtype, is_last in (
        ({"accumulate": 2}, torch.float32, True),
        ({"precision": "bfloat16", "channels_last": False}, torch.bfloat16, False),
    ):
        seen.clear()
        rate, number, peak = measure(on(SMALL, **hardware), 5, CPU, 6)
        training = [line for line in seen if line[0]]
        assert [line[2] for line in training] == [2, 4, 6, 6, 6]
        assert {line[1] for line in seen} == {dtype}
        assert {line[4] for line in seen} == {is_last}
        assert {line[3] for line in training} == {(32, 32)}
        assert {line[3] for line in seen if not line[0]} == {(48, 64)}, "the size of evaluation"
        assert (number, peak) == (6, 0)
        assert rate.training > 0 and rate.evaluation > 0
        assert "measured on the CPU here, 6 clips" in rate.origin
        assert trained.pop().accumulate == 1, "else not every batch is waited for"
    assert torch.equal(torch.get_rng_state(), before)


def test_measuring_teaches_nothing(brief, monkeypatch):
    built = []

    def kept(recipe, num_classes):
        built.append(build(recipe, num_classes))
        return built[-1]

    monkeypatch.setattr(speed, "build", kept)
    recipe = dataclasses.replace(SMALL, learning_rate=1e6, clip_norm=1.0)
    measure(recipe, 5, CPU, 4)
    fresh = build(recipe, 5)
    for measured, at_first in zip(built[0].parameters(), fresh.parameters(), strict=True):
        assert torch.equal(measured, at_first)


def test_several_processes_are_an_upper_bound(monkeypatch):
    asked = []

    def stand_in(recipe, num_classes, device, max_clips):
        asked.append(max_clips)
        return Rate(3.0, 9.0, "measured on the CPU here", "measured alike"), max_clips, 0

    monkeypatch.setattr(planning, "measure", stand_in)
    recipe = on(dataclasses.replace(SMALL, batch_size=48), accumulate=2)
    found = plan(recipe, processes=4)
    assert asked == [6], "the clips at once of one process"
    assert (found.rate.training, found.rate.evaluation) == (12, 36)
    assert "times 4: an upper bound" in found.rate.origin
    single = plan(recipe)
    assert (single.rate.training, asked) == (3, [6, 24])
    assert "bound" not in single.rate.origin


def test_peak_of_a_gpu_takes_the_place_of_what_was_counted(monkeypatch):
    counted = count_memory(SMALL, 5)  # with an average of weights, which `measure` has not
    peak = counted.training(0) - counted.average + 16 * 1_000_000

    def stand_in(recipe, num_classes, device, max_clips):
        return Rate(3.0, 9.0, "", ""), max_clips, peak

    monkeypatch.setattr(planning, "measure", stand_in)
    found = plan(SMALL)
    assert found.memory == dataclasses.replace(counted, clip=1_000_000, origin="measured")


def test_memory_of_this_machine(small):
    found = plan(SMALL, clips_per_second=1)
    shared = plan(SMALL, clips_per_second=1, processes=4)
    assert 0.5 < found.memory_limit / (4 * shared.memory_limit) < 2
    free = psutil.virtual_memory().available
    assert found.memory_limit == pytest.approx(USABLE_CPU * free, rel=0.5)
    assert "free here now, for each of 4 processes" in " ".join(str(shared).split())
    assert "free here now" in " ".join(str(found).split())


# ---------------------------------------------------------------- the size of data sets, disk


def test_published_sizes():
    ssv2, _ = published_size("ssv2-101-f32x2")
    assert (ssv2.num_clips, ssv2.num_val_clips, ssv2.num_classes) == (168_913, 24_777, 174)
    assert ssv2.bytes_per_clip * (168_913 + 24_777 + 27_157) == pytest.approx(19.4e9)
    kinetics, _ = published_size("kinetics400-50-f8x2")
    found = (kinetics.num_clips, kinetics.num_val_clips, kinetics.num_classes)
    assert found == (240_258, 19_881, 400)
    assert kinetics.bytes_per_clip * 298_824 == pytest.approx((242 + 20 + 39) * 1.6e9)
    for name in ("classroom", "ssv1-50-f8x2", "moments-50-f8x2", "kinetics-subset", "x.json"):
        with pytest.raises(ValueError, match=f"expected a manifest, or a preset .* got .*{name}"):
            published_size(name)


def size_of(manifest):
    return manifest_size(DataSet.read(manifest))


def test_size_of_the_sample_clips():
    found = size_of(SAMPLES / "manifest.csv")
    files = [*SAMPLES.glob("train/*/*.mp4"), *SAMPLES.glob("val/*/*.mp4")]
    assert (found.num_clips, found.num_val_clips, found.num_classes) == (1000, 500, 10)
    assert found.bytes_per_clip == sum(map(os.path.getsize, files)) / 1500


def write_list(folder: Path, rows: list[tuple]) -> Path:
    """A manifest of (path, label, split, status, probe)."""
    columns = ["path", "label", "split", "status", "probe"]
    table = pd.DataFrame(rows, columns=columns)
    table["class_name"] = ["ab"[label] for label in table["label"]]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_size_of_a_manifest_with_probes(tmp_path):
    video = next(SAMPLES.glob("train/*/*.mp4"))
    info = probe_video(video)
    noted = pack_info(dataclasses.replace(info, num_bytes=3_000_000))
    folder = pack_info(dataclasses.replace(info, num_bytes=0))  # of JPEGs: not known
    rows = [
        ("gone.mp4", 0, "train", "ok", noted),  # what is noted counts; the file is not looked at
        (str(video), 1, "train", "ok", ""),
        ("frames", 0, "val", "ok", folder),
        ("bad.mp4", 1, "train", "unreadable", noted),
        ("test.mp4", 1, "test", "ok", noted),
    ]
    found = size_of(write_list(tmp_path, rows))
    mean = (3_000_000 + os.path.getsize(video)) / 2
    assert found == DataSize(2, 1, 2, mean)
    unknown = [("a", 0, "train", "ok", ""), ("b", 1, "val", "ok", "")]
    assert size_of(write_list(tmp_path, unknown)).bytes_per_clip is None
    # Classes without a clip count too, if the class list has them, as in training.
    (tmp_path / "classes.csv").write_text("label,class_name\n0,a\n1,b\n2,c\n")
    assert size_of(tmp_path / "manifest.csv").num_classes == 3


def test_manifest_without_validation_clips(tmp_path):
    rows = [("a", 0, "train", "ok", ""), ("b", 1, "val", "unreadable", "")]
    with pytest.raises(ValueError, match=r'split "val" with the status "ok" .* training needs'):
        size_of(write_list(tmp_path, rows))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_takes_the_disk_that_was_planned(tmp_path, ema):
    recipe = dataclasses.replace(SMALL, epochs=2, batch_size=4, ema=ema, evaluation=Views())
    clips = TensorDataset(torch.randn(8, 4, 3, 32, 32), torch.arange(8) % 2)
    fit(build(recipe, 2), clips, clips, recipe, device=CPU, output=Output(tmp_path, keep_every=1))
    found = plan(recipe, DataSize(8, 8, 2), clips_per_second=1, keep_every=1)
    assert os.path.getsize(tmp_path / "last.pt") == pytest.approx(found.checkpoint_bytes, rel=0.1)
    files = sum(path.stat().st_size for path in tmp_path.glob("*.pt"))
    assert len(list(tmp_path.glob("*.pt"))) == 4
    assert files + found.memory.weights == pytest.approx(found.folder_bytes, rel=0.1)


# ---------------------------------------------------------------- mistakes, the table, the command


@pytest.mark.parametrize(
    "data, settings, words",
    [
        ({"num_clips": 0}, {}, "expected num_clips to be a positive number, got 0"),
        ({"num_val_clips": -1}, {}, "expected num_val_clips to be a positive number, got -1"),
        ({"bytes_per_clip": 0}, {}, "expected bytes_per_clip to be"),
        ({}, {"processes": 0}, "expected processes to be"),
        ({}, {"clips_per_second": float("nan")}, "expected clips_per_second to be"),
        ({}, {"memory_gb": float("inf")}, "expected memory_gb to be"),
        ({}, {"keep_every": 0}, "expected keep_every to be"),
        ({}, {"processes": 3}, "batch_size that 3 processes .* can divide, got 16: take 15 or 18"),
        ({"num_clips": 8}, {"processes": 2}, "at least one batch of 16 training clips, got 8"),
    ],
)
def test_mistakes(data, settings, words):
    with pytest.raises(ValueError, match=words):
        plan(SMALL, dataclasses.replace(DATA, **data), **{"clips_per_second": 1.0, **settings})


def test_parts_that_do_not_divide_the_batch():
    with pytest.raises(ValueError, match=r"in 3 parts each can divide, got 16: take 15 or 18"):
        plan(on(SMALL, accumulate=3), clips_per_second=1.0)


def rows_of(text: str) -> list[str]:
    """The table's rows, each on one line."""
    return re.sub(r"\n {37}", " ", text).splitlines()[1:]


def test_every_number_says_where_it_comes_from(small):
    for found in (small, dataclasses.replace(small, memory_limit=1)):
        text = str(found)
        assert max(map(len, text.splitlines())) <= 100
        for row in rows_of(text):
            assert len(row[15:37].strip()) and len(row[37:].strip()) > 3, row
        assert not re.search(r"\d\.\d{3}", text), "no false precision"
    title, *_ = str(small).splitlines()
    assert title == "blvnet_tam, depth tiny, for clips of 4 frames of 32 x 32 pixels, in float32"


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (49_152, "49.2 kB"),
        (657_089_364, "657 MB"),
        (42.3e9, "42.3 GB"),
        (1.234e12, "1.23 TB"),
        (5.6e15, "5,600 TB"),
    ],
)
def test_bytes_as_people_write_them(count, text):
    assert planning._bytes(count) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.5, "0.5 s"),
        (90, "90 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (5e7, "14,000 h"),
    ],
)
def test_durations_as_people_write_them(seconds, text):
    assert planning._duration(seconds) == text


def type_command(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["blvnet_lab", "plan", *map(str, words)])
    cli.main()


def test_command_for_a_published_preset(monkeypatch, capsys):
    options = ["--processes", 8, "--clips-per-second", 250, "--memory-gb", 16]
    type_command(monkeypatch, "--preset", "kinetics400-50-f8x2", *options)
    text = capsys.readouterr().out
    found = dict((row[:15].strip(), row[15:]) for row in rows_of(text) if row[:15].strip())
    assert found["clips"].split()[:3] == ["240,258", "+", "19,881"]
    assert found["batch"].split("clips")[0].strip() == "64"
    assert found["steps"].startswith("3,754 an epoch"), "240,258 // 64"
    assert found["time"].startswith("14 h"), "50 * 3,754 * 64 / 250 s and the evaluations"
    assert found["device hours"].startswith("110 h")
    assert "frames of 224 x 224" in text and "187,700 in all" in text
    assert "419 GB" in text, "of videos"


def test_command_for_a_manifest_takes_options_of_the_recipe(monkeypatch, capsys):
    options = ["--batch-size", 100, "--epochs", 2, "--clips-per-second", 50, "--keep-every", 1]
    type_command(monkeypatch, SAMPLES / "manifest.csv", *options, "--bytes-per-clip", 5e6)
    text = " ".join(capsys.readouterr().out.split())
    assert "steps 10 an epoch 0 clips, no whole batch, left out 20 in all 2 epochs" in text
    assert "classes 10 in " in text and "one every 1 epochs" in text
    assert "7.5 GB for the videos, 5 MB each" in text, "what is given counts, not what is found"


def test_paths_stay_whole(monkeypatch, capsys, tmp_path):
    folder = tmp_path / ("a-folder-with-hyphens-" * 5)
    folder.mkdir()
    path = write_list(folder, [("a.mp4", 0, "train", "ok", ""), ("b.mp4", 0, "val", "ok", "")])
    options = ["--clips-per-second", 50, "--bytes-per-clip", 5e6]
    type_command(monkeypatch, path, *options)
    assert f"in {path}" in " ".join(capsys.readouterr().out.split())


def test_command_for_numbers(monkeypatch, capsys, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"epochs": 7, "batch_size": 20, "num_frames": 4}))
    counts = ["--num-clips", 90, "--num-val-clips", 11, "--num-classes", 3]
    type_command(monkeypatch, *counts, "--preset", recipe, "--clips-per-second", 2)
    text = " ".join(capsys.readouterr().out.split())
    assert "clips 90 + 11 train + val, given classes 3 given" in text
    assert "28 in all 7 epochs" in text, "the preset may be a file"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-clips", 3], "all three of them, got only some"),
        ([SAMPLES / "manifest.csv", "--num-clips", 3], "all three of them, got both"),
        (["nowhere.csv"], "expected a manifest .CSV., but there is no file .*nowhere.csv"),
        ([], "expected a manifest, or a preset for ssv2 or kinetics400"),
        (["--preset", "ssv2-50-f8x2", "--bytes-per-clip", 0], "expected bytes_per_clip to be"),
        (["--preset", "ssv2-50-f9x2"], "expected the name of a preset"),
    ],
)
def test_mistakes_at_the_command(monkeypatch, words, message):
    with pytest.raises(SystemExit, match=f"^blvnet_lab: .*{message}"):
        type_command(monkeypatch, *words)
