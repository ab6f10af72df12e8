"""The staircase: train six architectures on the same clips, and see what each step adds.

    python -m blvnet_lab staircase

TSN and TSN-bLNet see single frames, so they toss a coin between partners of either kind. bLVNet
sees pairs of frames and learns direction. Networks that see beyond a pair can learn order, too.
"""

import json
import logging
import multiprocessing
import os
import platform
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torchvision
from torch import Tensor

import blvnet_lab
from blvnet_lab.benchmark.measure import time_alternately, time_on
from blvnet_lab.data import ClipDataset, DataSet
from blvnet_lab.datasets.motion import CLASSES, KINDS
from blvnet_lab.datasets.partners import PARTNER
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models import VideoNet, count_cost
from blvnet_lab.paths import check_empty, check_target, data_samples, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.compare import partner_labels
from blvnet_lab.runs.memory import count_memory
from blvnet_lab.runs.train import clip_datasets, start_from
from blvnet_lab.threads import keep_memory
from blvnet_lab.training.checkpoint import Trained, save_trained
from blvnet_lab.training.distributed import BUSY, leave_signals, noted_signals, pick_device
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.evaluation import Predictions
from blvnet_lab.training.metrics import partner_accuracy, top_k_accuracy
from blvnet_lab.training.recipe import Architecture, Recipe, classroom

log = logging.getLogger("blvnet_lab")

TITLES: dict[Architecture, str] = {"tsn": "TSN", "tsm": "TSM", "tam_resnet": "TAM-ResNet"}
TITLES |= {"tsn_blnet": "TSN-bLNet", "blvnet": "bLVNet", "blvnet_tam": "bLVNet-TAM"}
PAPER: tuple[Architecture, ...] = ("tsn", "tsn_blnet", "blvnet", "blvnet_tam")  # the paper's four
DECIMALS = 4  # for scores and taps in the log
STOPPED = "stopped by {}: the checkpoints of finished networks and all logs are in {}"
DIED = (
    "a process that trains has died, perhaps for lack of memory: OMP_NUM_THREADS=1 trains in one "
    "process. (A program that calls this must be a file, and call it below "
    '`if __name__ == "__main__":`)'
)
SUMMARY = "staircase.json"
POLL_SECONDS = 0.5  # between two looks at processes that train
ROUNDS = 30  # each times every network once


def find_partners(classes: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Find each class's partner by name, and the pair's kind; if unknown, that is both their names.

    Raises ValueError if a class has none.
    """
    partners = partner_labels(classes)
    pairs = [{name, classes[other]} for name, other in zip(classes, partners.tolist(), strict=True)]
    if alone := [name for pair in pairs if len(pair) == 1 for name in pair]:
        got = f"{', '.join(classes)}, where {', '.join(alone)} has none"
        raise ValueError(
            f"expected partner classes, which only time tells apart, got {got}: known are "
            f"{', '.join(PARTNER)}"
        )
    kinds = KINDS.values() if tuple(classes) == CLASSES else map(" / ".join, map(sorted, pairs))
    return partners, tuple(kinds)


def score(logits: Tensor, labels: Tensor, classes: Sequence[str] = CLASSES) -> dict[str, float]:
    """Compute top-1 and, for each kind of partner classes present, their accuracy; in 0..1."""
    scores, (partners, kinds) = {"top_1": top_k_accuracy(logits, labels)}, find_partners(classes)
    for kind in dict.fromkeys(kinds):
        chosen = torch.tensor([kinds[label] == kind for label in labels], device="cpu")
        if chosen.any():
            scores[kind] = partner_accuracy(logits[chosen], labels[chosen], partners)
    return scores


def with_architecture(recipe: Recipe, architecture: Architecture) -> Recipe:
    """Return the same recipe for another architecture."""
    return replace(recipe, network=replace(recipe.network, architecture=architecture))


def run_one(
    recipe: Recipe, clips: Sequence[ClipDataset], out: Path, init: Path | None = None, kept: int = 0
) -> dict[str, Any]:
    """Train the recipe's network on the first clips, evaluate it on the second; return its scores.

    Writes a line of JSON per epoch, with the taps (r, C), to a log; with the seed `kept` also a
    checkpoint. Raises InterruptedError if it is stopped, so that no further network is trained.
    """
    model, classes = _network(recipe, clips[0].classes, init), clips[0].classes
    name, first = model.architecture, {"epoch": 0, "taps": _taps(model)}
    lines = out / "logs" / f"{name}_seed{recipe.seed}.jsonl"

    def write(history: list[dict], path: Path = lines) -> None:
        write_files({path: "".join(json.dumps(line) + "\n" for line in [first, *history])})

    def scores_and_taps(model: VideoNet, found: Predictions) -> dict[str, Any]:
        scores = score(found.logits, found.labels, classes).items()
        return {name: round(share, DECIMALS) for name, share in scores} | {"taps": _taps(model)}

    fitted = fit(model, *clips, recipe, score=scores_and_taps, after_epoch=write)
    if fitted.stopped:
        raise InterruptedError(STOPPED.format(fitted.stopped, out))
    if recipe.seed == kept:
        save_trained(Trained(model, recipe, classes), out / f"{name}.safetensors")
        write(fitted.history, out / f"{name}.jsonl")
    seconds = sum(line["seconds"] + line["evaluation_seconds"] for line in fitted.history)
    run = {"architecture": name, "seed": recipe.seed, "seconds": round(seconds, 1)}
    # The validation clips may lack a kind.
    last, names = fitted.history[-1], ("top_1", *find_partners(classes)[1])
    return run | {name: last[name] for name in names if name in last}


def _train_all(
    train_one: Callable[[Recipe], dict], recipes: Sequence[Recipe], out: Path
) -> list[dict[str, Any]]:
    """Train all networks; on a CPU several at once, in processes that share this one's threads.

    A second thread gains so small a network little.
    """
    threads = torch.get_num_threads() if pick_device().type == "cpu" else 1
    if (processes := min(threads, len(recipes))) < 2:
        return [train_one(recipe) for recipe in recipes]
    # As for re-encoding: forked from a process that has PyTorch, but no threads of OpenMP yet.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload([__name__])
    how = (BUSY, threads // processes, train_one)
    pool = ProcessPoolExecutor(processes, context, _begin, how)
    others, failed = set(multiprocessing.active_children()), []
    waiting = ()
    bar = tqdm(desc="training", total=sum(recipe.epochs for recipe in recipes), unit="epoch")
    with noted_signals() as asked, pool, bar:
        try:
            waiting = futures = [pool.submit(_train_here, recipe) for recipe in recipes]
            while waiting and not failed and not asked:
                done, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                failed = [future.exception() for future in done if future.exception()]
                # The pool may miss one that dies early: it watches those it knew when last woken.
                if not failed and len(set(multiprocessing.active_children()) - others) < processes:
                    failed = [BrokenExecutor()]
                logs = [log.read_text("utf-8") for log in out.glob("logs/*.jsonl")]
                bar.update(sum(log.count("\n") - 1 for log in logs) - bar.n)
        except RuntimeError as error:
            failed = [error]
        finally:
            for child in set(multiprocessing.active_children()) - others:
                if waiting or failed:
                    child.kill()  # at any time: what it writes is whole
    for error in failed if not asked else ():
        if "allocate shared memory" in str(error):  # containers have little by default
            log.warning("/dev/shm is too small for several processes: training one by one")
            return [train_one(recipe) for recipe in recipes]
        raise ChildProcessError(DIED) if isinstance(error, BrokenExecutor) else error
    if failed or waiting:
        raise InterruptedError(STOPPED.format(asked[0], out))
    return [future.result() for future in futures]


_here: list[Callable[[Recipe], dict]] = []  # in one of several processes: how it trains a network


def _begin(busy: Any, threads: int, train_one: Callable[[Recipe], dict]) -> None:
    """Leave signals and progress to the process that started this one."""
    leave_signals(busy, 0)
    torch.set_num_threads(threads)
    tqdm.shown = False
    tqdm.set_lock(threading.RLock())  # Python would complain about one for processes that is left
    _here.append(train_one)


def _train_here(recipe: Recipe) -> dict[str, Any]:
    return _here[0](recipe)


def _network(recipe: Recipe, classes: tuple[str, ...], init: Path | None) -> VideoNet:
    model = build(recipe, len(classes))
    if init is not None:
        start_from(model, str(init / f"{model.architecture}.safetensors"), classes)
    return model


def _taps(model: VideoNet) -> dict[str, list[list[float]]]:
    learned = {n: tam.taps.tolist() for n, tam in tams(model).items() if tam.taps.requires_grad}
    return {n: [[round(w, DECIMALS) for w in tap] for tap in taps] for n, taps in learned.items()}


def measure_costs(
    architectures: Sequence[Architecture], recipe: Recipe, num_classes: int
) -> dict[Architecture, dict[str, float]]:
    """Measure what one clip costs each architecture, on this machine.

    mmacs: millions of multiply-accumulates; ms: a forward pass (median of rounds in which they take
    turns); mb: MB kept for the backward pass (counted).
    """
    keep_memory()
    device, costs, runs = pick_device(), {}, {}
    clip = torch.randn(1, recipe.num_frames, 3, *recipe.size, device=device)
    for architecture in architectures:
        chosen = with_architecture(recipe, architecture)
        model = build(chosen, num_classes).eval().to(device)
        runs[architecture] = partial(model, clip)
        costs[architecture] = {"mmacs": round(count_cost(model, recipe.size).macs / 1e6, 1)}
        costs[architecture]["mb"] = round(count_memory(chosen, num_classes).clip / 1e6, 2)
    with torch.inference_mode():
        seconds = time_alternately(runs, ROUNDS, partial(time_on, device)).median()
    return {name: costs[name] | {"ms": round(1e3 * float(seconds[name]), 2)} for name in costs}


@dataclass(frozen=True)
class StaircaseResult:
    """The results of a staircase."""

    summary: dict[str, Any]  # as in staircase.json
    out: Path

    def __str__(self) -> str:
        table, share = as_table(self.summary), 100 * self.summary["largest_class"]
        passed = "".join(f"passed over: {reason}\n" for reason in self.summary["unreadable"])
        return (
            f"{table.to_string(index=False)}\n{passed}between partners 50 % is the toss of a coin; "
            f"always naming the largest class gives a top-1 of {share:.1f} %\nof one clip: million "
            "multiply-accumulates, ms a forward pass, MB kept for the backward pass\ncheckpoints, "
            f"logs and {SUMMARY} are in {self.out}"
        )


def run_staircase(
    *,
    out: Path = Path("runs/staircase"),
    manifest: Path | None = None,
    architectures: tuple[Architecture, ...] = tuple(TITLES),
    seeds: tuple[int, ...] = (0, 1, 2),
    init: Path | None = None,
    recipe: Recipe | None = None,
) -> StaircaseResult:
    """Train TSN, TSM, TAM-ResNet, TSN-bLNet, bLVNet and bLVNet-TAM on the same clips.

    On a CPU as many networks train at once as PyTorch has threads (OMP_NUM_THREADS).

    Args:
        out: folder for a checkpoint and a log of each architecture (first seed), the logs of all
            seeds, staircase.json and staircase.png.
        manifest: of clips in partner classes; without it, the shipped samples.
        architectures: which to train.
        seeds: one run per architecture and seed; checkpoints are kept for the first seed.
        init: folder with a checkpoint per architecture to start from, such as
            data_samples/checkpoints; without it, random weights.
        recipe: how to train, except for seed and architecture; the default is the classroom's.

    Raises FileExistsError if `out` holds files, perhaps of an earlier run, ValueError if a class
    has no partner, or a checkpoint is missing or does not fit.
    """
    check_empty(out, "folder for the run", "choose another out, or delete it first")
    recipe = recipe or classroom()
    data_set = DataSet.read(manifest or data_samples() / "motion" / "manifest.csv")
    classes = data_set.one_label("a staircase").classes
    find_partners(classes)
    for architecture in architectures:  # fail now, not after hours of training
        _network(with_architecture(recipe, architecture), classes, init)
    check_target(out / SUMMARY, ".json")
    train, val = clip_datasets(data_set, recipe)
    each = [with_architecture(replace(recipe, seed=s), a) for a, s in product(architectures, seeds)]
    how = {"clips": (train, val), "out": out, "init": init, "kept": seeds[0]}
    runs = _train_all(partial(run_one, **how), each, out)
    typed = shlex.join(["python", "-m", "blvnet_lab", *sys.argv[1:]])
    versions = {m.__name__: m.__version__ for m in (blvnet_lab, torch, torchvision)}
    summary = {
        "command": typed if "staircase" in sys.argv[1:2] else "run_staircase(...)",
        "recipe": asdict(recipe),
        "seeds": seeds,
        "made": date.today().isoformat(),
        "versions": versions | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {pick_device().type}",
        "unreadable": [*train.unreadable()["reason"], *val.unreadable()["reason"]],
        "largest_class": max(Counter(val.labels).values()) / len(val),  # top-1 of always naming it
        "costs": measure_costs(architectures, recipe, len(classes)),
        "runs": runs,
    }
    (out / SUMMARY).write_text(text := json.dumps(summary, indent=1) + "\n")
    return StaircaseResult(json.loads(text), out)


def as_table(summary: dict) -> pd.DataFrame:
    """Tabulate mean and range over the seeds, in percent, and costs: a row per architecture."""
    rows = []
    for architecture, runs in pd.DataFrame(summary["runs"]).groupby("architecture", sort=False):
        row, cost = {"model": TITLES[architecture]}, summary["costs"][architecture]
        scores = runs.drop(columns=["architecture", "seed", "seconds", "top_1"])
        for name, percent in (100 * scores.assign(top_1=runs["top_1"])).items():
            row[f"{name} %"] = round(percent.mean(), 1)
            row[f"{name} range"] = f"{percent.min():.1f}-{percent.max():.1f}"
        row["seconds"] = f"{runs['seconds'].min():.0f}-{runs['seconds'].max():.0f}"
        rows.append(row | {"MMACs": cost["mmacs"], "ms": cost["ms"], "MB": cost["mb"]})
    return pd.DataFrame(rows)
