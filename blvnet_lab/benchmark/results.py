"""The results of a benchmark: tables that print themselves and can be saved."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from blvnet_lab.paths import atomic_write

HEADINGS = {
    "forms": "one clip through bLVNet-TAM of depth 50, computed in several ways",
    "training": "forward and backward pass of one clip, and what is kept in between",
    "models": "forward pass of one clip, each model at the input it was published for",
    "accuracies": "accuracies as published, beside the times measured here",
    "claims": "against TSN on the same frames, counted",
    "scaling": "with more frames, and with more clips at once",
    "streaming": "a causal model, pair by pair; ms per pair",
    "steps": "CPU milliseconds per clip, median, one core",
    "loaders": "data loaders, by the wall clock",
    "memory": "resident memory after reading a number of clips",
}


@dataclass(frozen=True)
class Benchmark:
    """Tables of measurements; times in ms, memory in GB (1e9 bytes) unless stated otherwise."""

    machine: dict[str, str | int | float]  # machine, software and input
    tables: dict[str, pd.DataFrame]  # by their names in `HEADINGS`
    figure: Path | None = None  # where the command line draws accuracy against cost

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items())]
        for name, table in self.tables.items():
            lines.append(f"\n{HEADINGS[name]}\n{table.to_string(float_format='{:.4g}'.format)}")
        return "\n".join(lines)

    def save(self, file: Path) -> None:
        """Write everything to a file, which `from_json` reads."""
        contents = {"machine": self.machine}
        for name, table in self.tables.items():
            contents[name] = json.loads(table.to_json(orient="split", double_precision=12))
        with atomic_write(file, keep=True) as partial:
            partial.write_text(json.dumps(contents, indent=1), "utf-8")


def from_json(text: str) -> Benchmark:
    """Read what `Benchmark.save` wrote; raise ValueError for anything else."""
    try:
        contents = json.loads(text)
        machine = contents.pop("machine")
        return Benchmark(machine, {name: pd.DataFrame(**part) for name, part in contents.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a file written by `python -m blvnet_lab benchmark --json`, got: {error}"
        ) from error
