"""What all processes that read clips share: paths and frames, each in one block of memory.

A list of strings is copied page by page into every process that a data loader forks: to read an
object, Python writes its reference count. A tensor is not, and a process that is not forked gets it
as shared memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor


class Texts(Sequence[str]):
    """Strings that are made when they are asked for."""

    def __init__(self, texts: Iterable[str]):
        # File names may hold bytes that are no text, which Python keeps as lone surrogates.
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._bytes = torch.from_numpy(np.frombuffer(bytearray(b"".join(parts)), np.uint8))
        self._ends = torch.from_numpy(np.cumsum([0, *map(len, parts)]))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int | slice) -> str | list[str]:
        place = range(len(self))[index]
        if isinstance(place, range):
            return [self[i] for i in place]
        begin, end = self._ends[place : place + 2].tolist()
        return self._bytes[begin:end].numpy().tobytes().decode("utf-8", "surrogatepass")


class KeptFrames(Sequence[Tensor | None]):
    """Room for the frames of videos, the smallest first, as far as `limit` bytes go.

    kept[i] is a view (T, 3, H, W) uint8 to write to and read from; None if video i has no room.
    In memory the colours of a pixel lie side by side.

    Args:
        shapes: (N, 3) int64, of each video the frames to keep, their height and width.
    """

    def __init__(self, shapes: np.ndarray, limit: int):
        sizes = 3 * shapes.prod(1)
        order = np.argsort(sizes, kind="stable")
        ends = np.empty_like(sizes)
        ends[order] = sizes[order].cumsum()
        fits = (ends <= limit) & (sizes > 0)
        self._shapes = torch.from_numpy(shapes)
        self._begins = torch.from_numpy(np.where(fits, ends - sizes, -1))
        self.limit, self.bytes_of_all, self.num_bytes = limit, sizes.sum(), sizes[fits].sum()
        self.num_left_out = (~fits & (sizes > 0)).sum()
        self._block = torch.empty(int(self.num_bytes), dtype=torch.uint8, device="cpu")

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: int) -> Tensor | None:
        begin = int(self._begins[index])
        if begin < 0:
            return None
        shape = (*self._shapes[index].tolist(), 3)
        end = begin + int(np.prod(shape))
        return self._block[begin:end].view(shape).permute(0, 3, 1, 2)

    def __str__(self) -> str:
        held, limit, whole = (n / 1e9 for n in (self.num_bytes, self.limit, self.bytes_of_all))
        return (
            f"{len(self) - self.num_left_out} of {len(self)} videos are kept in memory "
            f"({held:.3g} GB), the others are read from their files each time: all would take "
            f"{whole:.3g} GB, and {limit:.3g} GB may be taken now"
        )


def free_memory(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Count the bytes that this process may still take, of the machine and of its container.

    Args:
        groups: where Linux shows the limits of groups of processes (a container is one).
        membership: the file that lists the groups of this process.
    """
    free = psutil.virtual_memory().available
    for line in _lines(membership):
        _, controllers, name = line.split(":", 2)
        if not controllers:  # version 2 of these groups, or a part of version 1 without limits
            root, limit, used, cache = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, cache = groups / "memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # A limit of any group around this one counts. From inside a container some are not seen.
        own = root / name.strip("/")
        for folder in {own, *own.parents, root}:
            text = "".join(_lines(folder / limit)) if folder.is_relative_to(root) else ""
            if text.isdigit():  # or "max", or there is none
                stat = dict(map(str.split, _lines(folder / "memory.stat")))
                held = int((folder / used).read_text("utf-8")) - int(stat.get(cache, 0))
                free = min(free, max(0, int(text) - held))
    return free


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.is_file() else []
