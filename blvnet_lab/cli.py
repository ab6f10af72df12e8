"""Commands; each imports what it runs only when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from blvnet_lab.training.recipe import Staircase


def motion(out: Path, train_per_class: int = 100, val_per_class: int = 50, seed: int = 0) -> None:
    """Write the motion samples: short H.264 clips of classes that only time tells apart.

    Args:
        out: folder for the clips and manifest.csv.
        train_per_class: training clips of each class.
        val_per_class: validation clips of each class.
        seed: of all the scenes.
    """
    from blvnet_lab.data.motion import write_dataset

    print(f"wrote {write_dataset(out, train_per_class, val_per_class, seed)}")


def staircase(options: Annotated[Staircase, tyro.conf.arg(name="")]) -> None:
    """Train TSN, TSN-bLNet, bLVNet and bLVNet-TAM on the same clips and compare them."""
    from blvnet_lab.training.staircase import as_table, run_staircase
    from blvnet_lab.viz.figures import staircase_figure

    summary = run_staircase(options)
    print(as_table(summary).to_string(index=False))
    print("direction, order: accuracy between partners; 50 % is the toss of a coin")
    picture = options.out / "staircase.png"
    staircase_figure(as_table(summary)).savefig(picture, dpi=150)
    print(f"checkpoints, logs, staircase.json and {picture.name} are in {options.out}")


def main() -> None:
    """Run the command that was typed; expected mistakes end with one clear line."""
    commands = {"motion": motion, "staircase": staircase}
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, description="blvnet_lab", prog="python -m blvnet_lab"
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"blvnet_lab: {error}")
