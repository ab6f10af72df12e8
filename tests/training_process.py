"""A training run in a process of its own, with a fault at a place of choice: for test_faults.py.

Most tests fork such processes from a server that has imported PyTorch already (`started`): they
are there in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import json
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lab import LIMIT_S, free_port
from nets import FEW_BLOCKS
from torch import Tensor, nn
from torch.utils.data import Dataset

from blvnet_lab import cli
from blvnet_lab.models.networks import SIZES
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.recipe import Output, Recipe, recipe_from_json

# 24 clips in batches of 8: three steps an epoch.
RECIPE = {"epochs": 2, "batch_size": 8, "learning_rate": 0.02, "rate_batch": 8, "num_frames": 4}
RECIPE |= {"size": [32, 32], "network": {"dropout": 0.3}}


def short_recipe(**changes: Any) -> Recipe:
    return recipe_from_json(json.dumps(RECIPE | changes))


class Clips(Dataset):
    """Clips of 4 frames, label 0 dark and label 1 bright; `augmented` ones with noise and flips."""

    def __init__(self, count: int, *, seed: int = 0, augmented: bool = False, seconds: float = 0.0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 2
        noise = 0.5 * torch.randn(count, 4, 3, 32, 32, generator=generator)
        self.clips = noise + (self.labels - 0.5)[:, None, None, None, None]
        self.augmented, self.seconds = augmented, seconds
        self.paths = [f"clip_{i}.mp4" for i in range(count)]
        self.classes = ("dark", "bright")
        self.read = 0  # by this process

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read += 1
        time.sleep(self.seconds)
        clip = self.clips[index]
        if self.augmented:
            clip = clip + 0.3 * torch.randn(clip.shape, dtype=clip.dtype)
            clip = clip.flip(-1) if torch.rand(()) < 0.5 else clip
        return clip, self.labels[index].item()


@dataclass(frozen=True)
class Task:
    """What a process does."""

    out: str
    recipe: dict[str, Any] = field(default_factory=dict)  # differences from RECIPE
    resume: bool = False
    save_minutes: float = 10.0
    clips: int = 24
    augmented: bool = False  # in the training clips
    seconds: float = 0.0  # that each of them takes
    double: bool = False  # in float64: what is left of differences is no rounding
    frozen: bool = False  # batch norm is
    gpu: bool = False  # on a GPU for each process; else on the CPU, wherever it runs
    # Where something happens: "step" or "evaluation" (as the network is asked), "score" (before an
    # epoch's line is written), "epoch" (after it), "write" (of a checkpoint, when half is there),
    # "join" (before training); count says which one of this process, from 1.
    place: str = ""
    count: int = 1
    # What happens: a signal's name, perhaps "to all" (its workers, too) or "to parent" (torchrun's
    # agent); "exit", "error", "nan".
    act: str = ""
    rank: int = 0  # on which
    words: tuple[str, ...] = ()  # of a command that is to be run instead


def done_by(task: Task) -> None:
    """Runs the task; what its process has in the end is in `RANK.pt` beside the run's folder."""
    torch.set_num_threads(1)
    if not task.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything has asked for it
    if task.words:
        sys.argv = ["blvnet_lab", *task.words]
        return cli.main()
    SIZES["tiny"] = FEW_BLOCKS
    out = Path(task.out)
    written = []
    sys.addaudithook(
        lambda event, values: (
            written.append(str(values[0]))
            if event == "open" and str(values[0]).startswith(task.out) and values[2] & 3
            else None
        )
    )
    with process_group() as (ranks, device):
        happens = _Fault(task if ranks.rank == task.rank else dataclasses.replace(task, place=""))
        happens.at("join")
        recipe = short_recipe(**task.recipe)
        train_set = Clips(task.clips, augmented=task.augmented, seconds=task.seconds)
        val_set = Clips(10, seed=1)
        model = build(recipe, 2)
        if task.double:
            model.double()
            for clips in (train_set, val_set):
                clips.clips = clips.clips.double()
        if task.frozen:
            freeze(model)
        model.register_forward_pre_hook(happens.in_step)
        pictures = []

        def score(network: nn.Module, predictions: Any) -> dict[str, Any]:
            happens.at("score")
            right = predictions.logits.argmax(1) == predictions.labels
            return {"top_1": right.float().mean().item()}

        options = {
            "device": device if task.gpu else torch.device("cpu"),
            "output": Output(out, task.resume, task.save_minutes),
            "after_epoch": lambda history: pictures.append(len(history)) or happens.at("epoch"),
        }
        fitted = fit(model, train_set, val_set, recipe, score=score, **options)
        logits = None if fitted.predictions is None else fitted.predictions.logits
        found = {"model": model.state_dict(), "logits": logits, "written": written}
        found |= {"history": fitted.history, "stopped": fitted.stopped}
        found |= {"read": train_set.read, "pictures": pictures}
        torch.save(found, out.with_name(f"{out.name}.{ranks.rank}.pt"))


class _Fault:
    def __init__(self, task: Task):
        self.task, self.seen = task, 0
        if task.place == "write":
            Path.write_bytes = lambda path, content: self._write(path, content)

    def at(self, place: str) -> bool:
        """Whether it has happened here; some faults leave nobody to ask."""
        self.seen += place == self.task.place
        if place != self.task.place or self.seen != self.task.count:
            return False
        name, _, whom = self.task.act.partition(" ")
        if whom == "to parent":
            os.kill(os.getppid(), getattr(signal, name))
        elif whom:  # sent by another process, as in earnest
            command = ["kill", "-s", name.removeprefix("SIG"), "--", f"-{os.getpgrp()}"]
            subprocess.run(command, check=True, start_new_session=True)
        elif name.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, name))
        elif name == "exit":
            os._exit(3)
        elif name == "error":
            raise ArithmeticError("something else is wrong")
        return True

    def in_step(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if self.at("step" if module.training else "evaluation") and self.task.act == "nan":
            return (inputs[0] * float("nan"),)
        return None

    def _write(self, path: Path, content: Any) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            if ".pt." in path.name:
                self.at("write")
            return file.write(content[len(content) // 2 :])


def freeze(model: nn.Module) -> nn.Module:
    """Batch norm keeps its statistics, also in train mode; gives the model back."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def loopback() -> dict[str, str]:
    """So that processes find each other on a machine whose own name is unknown to it."""
    names = {name for _, name in socket.if_nameindex()}
    return {"GLOO_SOCKET_IFNAME": next((n for n in ("lo", "lo0") if n in names), "")}


def places(world: int) -> list[dict[str, str]]:
    """What torchrun tells the processes that it starts, in their environment."""
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(free_port()), **loopback()}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Path(__file__).stem])
    there = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    before = os.environ.copy()
    os.environ |= {"PYTHONPATH": os.pathsep.join(there), "OMP_NUM_THREADS": "1"}
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def forked(function: Callable, *arguments: object) -> multiprocessing.Process:
    """A process that calls the function, and there at once."""
    process = _server().Process(target=function, args=arguments)
    process.start()
    return process


def _main(task: Task, environment: dict[str, str], output: str) -> None:
    os.setpgid(0, 0)  # a group of its own, with the workers that it starts
    if sys.platform == "linux":  # its server ends with the tests: then it is killed, too
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # for its workers: the platform's own
    with open(output, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    done_by(task)


@dataclass
class Started:
    """A process and what it writes to the terminal."""

    process: multiprocessing.Process
    output: Path

    def text(self) -> str:
        return self.output.read_text()

    def wait(self) -> int:
        """The exit code; of a signal that ended it, the negative number."""
        self.process.join(LIMIT_S)  # less than `process_group` waits for an answer
        assert self.process.exitcode is not None, f"still running:\n{self.text()}"
        return self.process.exitcode


@contextlib.contextmanager
def started(*tasks: Task, environments: list[dict[str, str]] | None = None) -> Iterator[list]:
    """The processes of one run, or several runs; what is left of them in the end is killed."""
    found = []
    try:
        for number, task in enumerate(tasks):
            output = Path(task.out).with_name(f"{Path(task.out).name}.{number}.txt")
            environment = environments[number] if environments else {}
            found.append(Started(forked(_main, task, environment, str(output)), output))
        yield found
    finally:
        for one in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.join(10)


if __name__ == "__main__":
    done_by(Task(**json.loads(sys.argv[1])))
