"""Runs that are killed, interrupted and divided among processes: nothing is lost, nobody hangs."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lab import LIMIT_S, ROOT, free_port
from torch import nn
from training_process import Clips, Task, loopback, places, short_recipe, started

from blvnet_lab.training.checkpoint import read_checkpoint
from blvnet_lab.training.distributed import Ranks
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.loading import Batches
from blvnet_lab.training.recipe import Output

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="ends processes by signals of POSIX"),
    pytest.mark.usefixtures("few_blocks"),
]

CPU = torch.device("cpu")
TIMES = ("seconds", "evaluation_seconds", "clips_per_second", "wait_share", "memory_gb")
# All that draws random numbers or has a memory of its own.
EVERYTHING = {"augmentation": {"mixup": 0.4, "cutmix": 0.4}, "ema": 0.7, "label_smoothing": 0.1}
EVERYTHING |= {"clip_norm": 1.0, "hardware": {"workers": 2, "accumulate": 2}}


def run(*tasks: Task, world: int = 1) -> list:
    """Each task to its end, one after the other, on `world` processes; those of the last."""
    for task in tasks:
        with started(*[task] * world, environments=places(world) if world > 1 else None) as found:
            for process in found:
                assert process.wait() == 0, process.text()
    return found


def end_of(out: Path, rank: int = 0) -> dict:
    """What a process of the run had in the end."""
    return torch.load(out.with_name(f"{out.name}.{rank}.pt"), weights_only=False)


def without_times(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in history]


def assert_same(one, other, place: str) -> None:
    """Two nests of containers hold the same, to the last bit."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_same(one[key], other[key], f"{place}, {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}, {number}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), place
    else:
        assert one == other, place


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, average, optimizer, schedule, generators and figures of two runs are the same."""
    for name in ("last.pt", "best.pt"):
        contents = [read_checkpoint(out / name) for out in (one, other)]
        for found in contents:
            found["history"] = without_times(found["history"])
            found["so_far"] = [{k: v for k, v in s.items() if k not in ("seconds", "waited")}
                               for s in found["so_far"]]  # fmt: skip
            found["rng"] = [states["torch"] for states in found["rng"]]  # the others nobody asks
        assert_same(*contents, name)
    logs = [(out / "log.jsonl").read_text().splitlines() for out in (one, other)]
    assert_same(*(without_times([json.loads(line) for line in log]) for log in logs), "log")
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run to which nothing happened, and which learned."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    run(Task(str(out), EVERYTHING, augmented=True))
    first, second = read_checkpoint(out / "last.pt")["history"]
    assert first["train_loss"] > second["train_loss"]
    return out


@pytest.mark.parametrize(
    "place, count, save_minutes",
    [
        # With accumulation, a network is asked twice a step: six times an epoch.
        ("step", 4, 10),  # before there is any checkpoint
        ("step", 10, 0),  # in the middle of an epoch, just after a checkpoint of it
        ("step", 11, 10),  # with none since the epoch before
        ("score", 2, 10),  # in an evaluation
        ("epoch", 1, 10),  # between two epochs
        ("write", 3, 0),  # when half of last.pt is there
        ("write", 1, 10),  # at the end of an epoch: when half of its first file is there
        ("write", 2, 10),  # and of its second
    ],
)
def test_killed_and_run_again(place, count, save_minutes, undisturbed, tmp_path):
    more = {"resume": True, "save_minutes": save_minutes, "augmented": True}
    task = Task(str(tmp_path / "run"), EVERYTHING, **more)
    with started(replace(task, place=place, count=count, act="SIGKILL")) as (process,):
        assert process.wait() == -signal.SIGKILL, process.text()
    log = tmp_path / "run" / "log.jsonl"
    for line in log.read_text().splitlines():
        json.loads(line)  # whole
    assert not (tmp_path / "run.0.pt").exists(), "it did not come to its end"
    assert len(list((tmp_path / "run").glob(".*"))) == (place == "write")
    run(task)
    assert_same_run(tmp_path / "run", undisturbed)


def test_an_error_ends_the_process_though_there_are_workers(tmp_path):
    task = Task(str(tmp_path / "run"), EVERYTHING, place="step", count=8, act="error")
    with started(task) as (process,):
        assert process.wait() == 1
    assert "ArithmeticError: something else is wrong" in process.text()


@pytest.mark.parametrize(
    "act, place, count",
    [
        ("SIGUSR1", "step", 1),
        ("SIGTERM", "evaluation", 4),
        # Ctrl-C and SLURM tell every process of a job, those that read clips too.
        ("SIGTERM to all", "step", 4),
        ("SIGTERM to all", "evaluation", 1),
        ("SIGUSR1 to all", "step", 6),
        ("SIGINT to all", "step", 8),
    ],
)
def test_asked_to_stop(act, place, count, undisturbed, tmp_path):
    task = Task(str(tmp_path / "run"), EVERYTHING, resume=True, augmented=True)
    run(replace(task, place=place, count=count, act=act))
    assert end_of(tmp_path / "run")["stopped"] == act.split()[0]
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    # Accumulation: a network is asked twice a step; and 10 clips are evaluated 4 at once.
    steps = (count + 1) // 2 if place == "step" else 3 * ((count + 2) // 3)
    assert (found["epoch"], found["step"]) == ((steps - 1) // 3 + 1, (steps - 1) % 3 + 1)
    run(task)
    assert end_of(tmp_path / "run")["stopped"] == ""
    assert_same_run(tmp_path / "run", undisturbed)


def interrupted_model(*steps: int) -> nn.Module:
    """One that hears SIGINT, as of Jupyter's stop button, when it is asked at these times."""
    model, asked = build(short_recipe(), 2), []

    def hook(module: nn.Module, inputs: tuple) -> None:
        asked.append(1)
        for _ in range(steps.count(len(asked))):
            signal.raise_signal(signal.SIGINT)

    model.register_forward_pre_hook(hook)
    return model


def test_the_stop_button_leaves_everything_usable(tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    model, val_set = interrupted_model(2), Clips(10, seed=1)
    output = Output(tmp_path / "run")
    fitted = fit(model, Clips(24), val_set, short_recipe(), device=CPU, output=output)
    assert fitted.stopped == "SIGINT" and fitted.history == [] and fitted.predictions is None
    assert {number: signal.getsignal(number) for number in before} == before
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (found["epoch"], found["step"]) == (1, 2), "the step was finished"
    assert_same(dict(model.state_dict()), dict(found["model"]), "model")
    assert not model.training, "dropout and statistics are off"
    assert model(val_set[0][0][None]).isfinite().all()


def test_the_stop_button_pressed_twice():
    before = signal.getsignal(signal.SIGINT)
    model = interrupted_model(2, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, Clips(24), Clips(10), short_recipe(), device=CPU)
    assert signal.getsignal(signal.SIGINT) is before


def torchrun(task: Task) -> str:
    """What is said where the agent runs the task on two processes."""
    script = str(Path(__file__).with_name("training_process.py"))
    words = json.dumps({"out": task.out, **{k: v for k, v in vars(task).items() if v}})
    environment = os.environ | loopback() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), script, words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
    try:
        return process.communicate(timeout=LIMIT_S)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


ELSEWHERE = "a signal to another process"
ONE_STEP = {"epochs": 1, "batch_size": 24, "weight_decay": 0.0, "network": {"dropout": 0.0}}
ONE_STEP |= {"hardware": {"channels_last": False}}


def assert_gradients_close(one: Path, other: Path) -> None:
    """Of two runs of ONE_STEP: without weight decay, momentum is then the gradient."""
    ours, theirs = (
        [state["momentum_buffer"] for state in found["optimizer"]["state"].values()]
        for found in (read_checkpoint(out / "last.pt") for out in (one, other))
    )
    assert len(ours) == len(list(build(short_recipe(), 2).parameters()))
    assert any(gradient.abs().max() > 1e-3 for gradient in ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-15)


def test_two_processes_are_one(tmp_path):
    """Half of the batch each: the gradients, weights and answers of one process on the whole."""
    task = Task(str(tmp_path / "alone"), ONE_STEP, double=True, frozen=True)
    run(task)
    run(replace(task, out=str(tmp_path / "two")), world=2)
    runs = ("alone", 0), ("two", 0), ("two", 1)
    alone, first, second = (end_of(tmp_path / name, rank) for name, rank in runs)
    assert_gradients_close(tmp_path / "two", tmp_path / "alone")
    for name, tensor in first["model"].items():
        torch.testing.assert_close(tensor, alone["model"][name], rtol=1e-9, atol=1e-15)
    assert_same(dict(first["model"]), dict(second["model"]), "weights of both ranks")
    assert torch.equal(first["logits"], second["logits"])
    torch.testing.assert_close(first["logits"], alone["logits"], rtol=1e-6, atol=1e-9)
    assert (alone["read"], first["read"], second["read"]) == (24, 12, 12)

    assert without_times(first["history"]) == without_times(second["history"])
    (line,), (expected,) = first["history"], alone["history"]
    assert (line["train_loss"], line["top_1"]) == (expected["train_loss"], expected["top_1"])
    assert [json.loads(text) for text in (tmp_path / "two" / "log.jsonl").open()] == [line]
    files = {"last.pt", "best.pt", "log.jsonl", "recipe.json"}
    assert {path.name for path in (tmp_path / "two").iterdir()} == files
    assert len(first["written"]) >= 4 and second["written"] == []
    assert (first["pictures"], second["pictures"]) == ([1], [])


def test_batch_norm_and_averages_are_the_same_on_both(tmp_path):
    """Statistics of a rank's own clips differ; what is evaluated and kept is the first one's."""
    task = Task(str(tmp_path / "run"), {"epochs": 2, "ema": 0.5}, augmented=True)
    run(task, world=2)
    first, second = (end_of(tmp_path / "run", rank) for rank in (0, 1))
    assert torch.equal(first["logits"], second["logits"])
    assert without_times(first["history"]) == without_times(second["history"])
    assert first["read"] == second["read"] == 24
    weights = dict(build(short_recipe(), 2).named_parameters())
    for name in weights:
        assert torch.equal(first["model"][name], second["model"][name]), name
    # Judged as it is in the checkpoint.
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert not torch.equal(*(states["torch"] for states in found["rng"])), "dropout of its own"
    average = build(short_recipe(), 2)
    ema = {n.removeprefix("module."): t for n, t in found["ema"].items()}
    average.load_state_dict({n: t for n, t in ema.items() if n != "n_averaged"})
    answers = evaluate(average, Clips(10, seed=1), device=CPU).logits
    torch.testing.assert_close(answers, first["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "act, place, count, rank",
    [
        ("SIGKILL", "step", 2, 1),
        ("exit", "step", 5, 0),  # the first, which brought them together
        ("exit", "evaluation", 1, 1),
        ("exit", "join", 1, 1),
        ("error", "step", 4, 0),
    ],
)
def test_a_rank_that_dies_does_not_keep_the_others_waiting(act, place, count, rank, tmp_path):
    task = Task(str(tmp_path / "run"), place=place, count=count, act=act, rank=rank)
    with started(task, task, environments=places(2)) as found:
        lost, other = found[rank], found[1 - rank]
        assert lost.wait() != 0
        assert other.wait() == 1, "it ends by itself"
    last = other.text().strip().splitlines()[-1]
    assert "DeadRankError: expected an answer from all processes of this run" in last
    assert "--resume auto" in last
    if act == "error":
        assert "something else is wrong" in lost.text() and "DeadRank" not in lost.text()
    if count == 5:
        assert read_checkpoint(tmp_path / "run" / "last.pt")["epoch"] == 2


def test_torchrun_passes_on_that_it_was_asked_to_stop(tmp_path):
    task = Task(str(tmp_path / "run"), place="step", count=2, act="SIGTERM to parent", seconds=0.2)
    output = torchrun(task)
    assert "DeadRank" not in output and "got signal: 15" in output
    for rank in (0, 1):
        assert end_of(tmp_path / "run", rank)["stopped"] in ("SIGTERM", ELSEWHERE)
    found = read_checkpoint(tmp_path / "run" / "last.pt")
    assert found["epoch"] < 3 and found["step"] > 0


def test_a_loss_that_is_not_finite_on_one_rank(tmp_path):
    task = Task(str(tmp_path / "run"), place="step", count=5, act="nan", rank=1)
    with started(task, task, environments=places(2)) as found:
        for process in found:
            assert process.wait() == 1
    # The second batch of the second epoch, and of that the second half.
    batches = Batches(24, 8, seed=0, ranks=Ranks(1, 2))
    batches.epoch, batches.first_step = 2, 1
    clips = ", ".join(f"clip_{index}.mp4" for _, index, _ in next(iter(batches)))
    known = f"expected a finite loss, got nan at step 2 of the epoch with {clips} on rank 1: look"
    for process in found:
        last = process.text().strip().splitlines()[-1]
        assert last.startswith("FloatingPointError") and known in last
    kept = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (kept["epoch"], kept["step"]) == (2, 0)
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())


@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(before, after, tmp_path):
    """Without learning, all sums over the clips of an epoch can be known in advance."""
    still = {**ONE_STEP, "batch_size": 8, "learning_rate": 1e-30}
    task = Task(str(tmp_path / "run"), still, double=True, frozen=True, resume=True)
    run(replace(task, place="step", count=2, act="SIGTERM", rank=before - 1), world=before)
    for rank in range(before):
        stopped = end_of(tmp_path / "run", rank)["stopped"]
        assert stopped == ("SIGTERM" if rank == before - 1 else ELSEWHERE)
    run(task, world=after)
    ends = [end_of(tmp_path / "run", rank) for rank in range(after)]
    assert [end["read"] for end in ends] == [8 // after] * after, "only the last step was left"
    model, data = build(short_recipe(**still), 2).double().eval(), Clips(24)
    expected = nn.functional.cross_entropy(model(data.clips.double()), data.labels).item()
    (line,) = ends[0]["history"]
    assert line["train_loss"] == pytest.approx(expected, abs=1e-6)
    assert abs(24 / line["clips_per_second"] - line["seconds"]) < 0.02


def test_a_signal_to_one_rank_stops_all_and_they_go_on(tmp_path):
    task = Task(str(tmp_path / "whole"), {"ema": 0.7}, augmented=True, resume=True)
    run(task, world=2)
    task = replace(task, out=str(tmp_path / "run"))
    run(replace(task, place="step", count=5, act="SIGUSR1", rank=1), task, world=2)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.gpu
def test_two_gpus_are_one(tmp_path):
    """Over nccl, with batch statistics that are taken over both."""
    hardware = {**ONE_STEP["hardware"], "sync_batch_norm": True}
    task = Task(str(tmp_path / "alone"), ONE_STEP, double=True, gpu=True)
    run(task)
    task = replace(task, out=str(tmp_path / "two"), recipe={**ONE_STEP, "hardware": hardware})
    run(task, world=2)
    runs = ("alone", 0), ("two", 0), ("two", 1)
    alone, first, second = (end_of(tmp_path / name, rank) for name, rank in runs)
    assert_gradients_close(tmp_path / "two", tmp_path / "alone")
    for name, tensor in first["model"].items():
        assert tensor.is_cuda and torch.equal(tensor.cpu(), second["model"][name].cpu()), name
        torch.testing.assert_close(tensor, alone["model"][name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(first["logits"], alone["logits"], rtol=1e-5, atol=1e-7)


KILLED = """
import multiprocessing, time, torch
from torch.utils.data import TensorDataset
from blvnet_lab.training.loading import make_loader
multiprocessing.set_start_method("forkserver")  # as Python 3.14 does
batches = iter(make_loader(TensorDataset(torch.arange(100)), 1, torch.device("cpu")))
next(batches)
print(batches._workers[0].pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's fork server and /proc")
def test_a_killed_training_leaves_no_reader_behind():
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        worker = int(process.stdout.readline())
        process.kill()
        deadline = time.monotonic() + LIMIT_S
        while is_running(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(worker)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
