"""The result of commands for teachers: the files they wrote, and what to do next."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """The files that a command wrote."""

    out: Path
    files: list[Path]
    advice: str  # what to do next

    def __str__(self) -> str:
        return "\n".join([*map(str, self.files), self.advice])


def internet_advice(out: Path, packages: str, *, offline: bool) -> str:
    """Say whether the pages in `out` need the internet, and how to do without."""
    if offline:
        return f"the pages in {out} need the folder node_modules there, but no internet"
    return (
        f"the pages in {out} need the internet; to do without, run there:  npm install {packages}\n"
        "and then this command again, with --replace"
    )
