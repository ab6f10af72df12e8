"""The widths and numbers of blocks of the networks, by depth."""

from collections.abc import Collection
from typing import Literal, NamedTuple

from blvnet_lab.models.bottleneck import EXPANSION

Depth = Literal["tiny", 50, 101, 152]
ResNetDepth = Literal["tiny", 18, 34, 50, 101, 152]


class Size(NamedTuple):
    width: int  # channels after the stem
    resnet_blocks: tuple[int, ...]  # of each stage
    big_little_blocks: tuple[int, ...] = ()  # n of each stage (the 101 and 152 are not ResNet's)
    expansion: int = EXPANSION  # 1: of basic blocks

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after each of the four stages."""
        return tuple(self.expansion * self.width * 2**stage for stage in range(4))


SIZES: dict[ResNetDepth, Size] = {
    "tiny": Size(8, (2, 2, 2, 2), (2, 2, 2, 2)),  # ours, for classrooms without a GPU
    18: Size(64, (2, 2, 2, 2), expansion=1),
    34: Size(64, (3, 4, 6, 3), expansion=1),
    50: Size(64, (3, 4, 6, 3), (3, 4, 6, 3)),
    101: Size(64, (3, 4, 23, 3), (4, 8, 18, 3)),
    152: Size(64, (3, 8, 36, 3), (5, 12, 30, 3)),
}


def size_of(depth: ResNetDepth, depths: Collection[ResNetDepth]) -> Size:
    """Look up the size of a depth; raise ValueError if it is none of these depths."""
    if depth not in depths:
        raise ValueError(f"expected depth to be one of {list(depths)}, got {depth!r}")
    return SIZES[depth]
