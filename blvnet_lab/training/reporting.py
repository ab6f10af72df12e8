"""How a run goes: a line of figures for every epoch, a progress bar, TensorBoard."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
from torch.utils.data import Dataset

from blvnet_lab.progress import tqdm
from blvnet_lab.training.distributed import current_ranks
from blvnet_lab.training.recipe import Output, Recipe
from blvnet_lab.training.state import State, Step


def epoch_line(
    state: State, scores: dict[str, Any], evaluation_seconds: float, steps: int, unreadable: int
) -> dict[str, Any]:
    """Sum up an epoch over all ranks, once its `steps` are done.

    Returns:
        epoch, train_loss, the scores (with an average of weights those of the average, and
        raw_top_1 of the weights themselves), learning_rate, seconds (of training),
        evaluation_seconds, clips_per_second, wait_share (of the time, for clips), memory_gb (peak
        of the GPU, or resident), unreadable (videos passed over); in float16 skipped_steps (whose
        gradients overflowed).
    """
    ranks = current_ranks()
    shares = [share for share in ranks.gather(state.so_far) if share]
    loss, clips = (sum(share[name] for share in shares) for name in ("loss", "clips"))
    seconds = max(share["seconds"] for share in shares)
    skipped = int(max(share.get("skipped", 0) for share in shares))
    if 2 * skipped > steps and ranks.is_first:
        logging.getLogger(__name__).warning(
            f"gradients overflowed in {skipped} of the {steps} steps of epoch {state.epoch}, which "
            "so changed no weights: usual in the first steps of a run in float16; if it goes on, "
            "train in bfloat16 or lower the learning rate"
        )
    memory = memory_in_use(next(state.model.parameters()).device)
    return {
        "epoch": state.epoch,
        "train_loss": round(loss / clips, 6),
        **scores,
        "learning_rate": state.scheduler.get_last_lr()[-1],
        "seconds": round(seconds, 2),
        "evaluation_seconds": round(evaluation_seconds, 2),
        "clips_per_second": round(clips / seconds, 2),
        "wait_share": round(max(share["waited"] / share["seconds"] for share in shares), 4),
        "memory_gb": round(max(ranks.gather(memory)) / 1e9, 3),
        "unreadable": unreadable,
        **({"skipped_steps": skipped} if state.scaler.is_enabled() else {}),
    }


def memory_in_use(device: torch.device) -> int:
    """Return bytes: the peak of the GPU, or what this process and its workers hold now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    process, held = psutil.Process(), 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            held += one.memory_info().rss
    return held


def unreadable_videos(dataset: Dataset) -> pd.DataFrame:
    """List the videos that any rank has passed over, by path: path, reason."""
    nothing = pd.DataFrame({"path": [], "reason": []}, dtype="str")
    found = getattr(dataset, "unreadable", lambda: nothing)()
    tables = pd.concat(current_ranks().gather(found))
    return tables.drop_duplicates("path").sort_values("path", ignore_index=True)


class Report:
    """A progress bar and, where the output says so, events for TensorBoard; on the first rank."""

    def __init__(self, state: State, recipe: Recipe, steps: int, output: Output | None):
        self.state, self.steps, self.writer = state, steps, None
        is_first = current_ranks().is_first
        if is_first and output is not None and output.tensorboard:
            self.writer = _event_writer(Path(output.folder) / "tensorboard", self.steps_done + 1)
        self.bar = tqdm(
            total=recipe.epochs * steps,
            initial=self.steps_done,
            desc=f"training {recipe.network.architecture}, seed {recipe.seed}",
            unit="step",
            disable=not is_first,
        )

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    @property
    def steps_done(self) -> int:
        return (self.state.epoch - 1) * self.steps + self.state.step

    def step(self, step: Step) -> None:
        """Show a step that the state has counted."""
        if self.writer is not None:
            self.writer.add_scalar("step/loss", step.loss, self.steps_done)
        self._show(self.state.epoch, step.loss)
        self.bar.update()

    def epoch(self, line: dict[str, Any]) -> None:
        """Show the line of an epoch, the last of the history."""
        if self.writer is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "epoch":
                    self.writer.add_scalar(f"epoch/{name}", value, line["epoch"])
        self._show(line["epoch"], line["train_loss"])
        self.bar.refresh()

    def _show(self, epoch: int, loss: float) -> None:
        last = self.state.history[-1] if self.state.history else {}
        scores = {"top_1": f"{last['top_1']:.1%}"} if "top_1" in last else {}
        self.bar.set_postfix(epoch=epoch, loss=f"{loss:.2f}", **scores, refresh=False)


def _event_writer(folder: Path, first_step: int) -> Any:
    """A writer of TensorBoard's; events of the run from that step on are taken back."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "expected TensorBoard to be installed, but it is not: pip install tensorboard, or "
            "leave tensorboard out (log.jsonl has the same figures)"
        ) from error
    return SummaryWriter(folder, purge_step=first_step)
