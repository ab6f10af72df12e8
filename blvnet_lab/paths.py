"""Where the sample clips, the trained checkpoints and the notebooks are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    """A clone has the folder beside the package, an installed wheel has it inside."""
    for folder in (PACKAGE.parent / name, PACKAGE / "_shipped" / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"expected the folder {name}/ beside or inside {PACKAGE}, found neither; "
        "install blvnet_lab again, or work in a complete clone"
    )


def data_samples() -> Path:
    """The folder of sample clips, with `manifest.csv` and `checkpoints/`."""
    return _shipped("data_samples")


def notebooks() -> Path:
    """The folder of the course's notebooks."""
    return _shipped("notebooks")
