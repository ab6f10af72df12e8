"""Memory shared by all processes that read clips, and how much of it there is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

# A list of strings is copied, page by page, into every process that a data loader forks: to read
# an object, Python writes its reference count. An array of this type holds no objects.
STRING = np.dtypes.StringDType()


class KeptFrames(Sequence[Tensor | None]):
    """Make room for the frames of videos, the smallest first, as far as `limit` bytes go.

    kept[i] is a view (T, 3, H, W) uint8 to write to and read from; None if video i has no room.

    shapes: (N, 3) int64: for each video, how many frames to keep, their height and their width.
    """

    def __init__(self, shapes: np.ndarray, limit: int):
        sizes = 3 * shapes.prod(1)
        order = np.argsort(sizes, kind="stable")
        ends = np.empty_like(sizes)
        ends[order] = sizes[order].cumsum()
        fits = (ends <= limit) & (sizes > 0)
        self._shapes, self._begins = shapes, np.where(fits, ends - sizes, -1)
        self.limit, self.num_bytes = limit, int(sizes[fits].sum())
        self.num_left_out = int((~fits & (sizes > 0)).sum())
        # One block: each of many tensors would need a file of its own to reach a spawned process.
        self._block = torch.empty(self.num_bytes, dtype=torch.uint8, device="cpu")

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: int) -> Tensor | None:
        begin, shape = self._begins[index], (*self._shapes[index].tolist(), 3)
        if begin < 0:
            return None
        return self._block[begin : begin + np.prod(shape)].view(shape).permute(0, 3, 1, 2)


def free_memory(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Count the bytes that this process may still take, on the machine and in its container.

    groups, membership: where Linux shows the limits of control groups, and this process's groups.
    """
    free = psutil.virtual_memory().available
    for line in _lines(membership):
        _, controllers, name = line.split(":", 2)
        if "memory" in controllers.split(","):  # version 1 of control groups
            root, cache = groups / "memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            root, limit, used, cache = groups, "memory.max", "memory.current", "inactive_file"
        own = root / name.strip("/")
        for folder in (own, *own.parents):  # the limits of all groups around this one count too
            text = "".join(_lines(folder / limit))
            if text.isdigit():  # or "max", or there is none
                stat = dict(map(str.split, _lines(folder / "memory.stat")))
                held = int((folder / used).read_text("utf-8")) - int(stat.get(cache, 0))
                free = min(free, max(0, int(text) - held))
    return free


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.is_file() else []
