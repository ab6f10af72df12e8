"""Read and edit what was learned in time: the taps of every TAM, and their roles.

    tam_weights(model)                    # one row per module, channel and tap
    effective_pair_taps(model)            # what the TAMs of stages 1 to 3 really do
    tam_roles(model)                      # what each channel does with time

    with edit_taps(model, {"stage1.tam": identity_taps}):
        logits = model(clip)

Taps are (r, C), earliest frame first; for r = 3 they are called prev, curr and next. Functions of
taps assume that the middle one is the frame's own. The taps of a causal TAM, called -2, prev and
curr for r = 3, are padded with zeros for them (`centred_taps`).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from blvnet_lab.introspect.capture import match_names
from blvnet_lab.models import TAM, PairTAM
from blvnet_lab.models.wrapped import check_weights, check_whole, unwrapped

NAMES = {-1: "prev", 0: "curr", 1: "next"}  # of three taps, by offset in frames

# Thresholds of `channel_roles`, as shares of the sum of a channel's absolute taps.
SILENT_BELOW = 0.1  # positive taps
DIFFERENCES_FROM = 0.25  # negative taps
KEEPS_FROM = 0.7  # curr
LOOKS_FROM = 0.3  # one direction minus the other


def tams(model: nn.Module) -> dict[str, TAM]:
    """Find every TAM of the model by name, in order; raise ValueError if taps are sharded."""
    modules = unwrapped(model).named_modules()
    found = {name: module for name, module in modules if isinstance(module, TAM)}
    for name, tam in found.items():
        check_whole(tam.taps, f"{name}.taps")
    return found


def centred_taps(taps: Tensor, first_offset: int) -> Tensor:
    """Pad taps (r, C) with zeros until the middle one is the frame's own: 2r - 1 taps if causal."""
    missing = 1 - 2 * first_offset - len(taps)
    return torch.cat([taps, taps.new_zeros(missing, taps.shape[1])])


def tap_name(offset: int, num_taps: int) -> str:
    """Name a tap: prev, curr, next (causal: -2, prev, curr); offsets unless there are three."""
    name = f"{offset:+d}"
    return NAMES.get(offset, name) if num_taps == 3 else name


def taps_table(taps: Mapping[str, Tensor], *, causal: bool = False) -> pd.DataFrame:
    """List weights: module, channel, tap (`tap_name`), offset (in frames), weight.

    Args:
        taps: module name to taps (r, C).
        causal: the last tap is the frame's own; False: the middle one is.
    """
    rows = []
    for module, weights in taps.items():
        r = len(weights)
        for channel, offset, weight in _entries(weights, first=1 - r if causal else -(r // 2)):
            rows.append((module, channel, tap_name(offset, r), offset, weight))
    return pd.DataFrame(rows, columns=["module", "channel", "tap", "offset", "weight"])


def _entries(taps: Tensor, first: int) -> Iterator[tuple[int, int, float]]:
    """Yield (channel, offset, weight) of taps (r, C) whose first row is at offset `first`."""
    for channel, column in enumerate(taps.detach().t().tolist()):
        for offset, weight in enumerate(column, start=first):
            yield channel, offset, weight


def tam_weights(model: nn.Module) -> pd.DataFrame:
    """List the taps of every TAM as `taps_table` does; empty for a model without TAMs."""
    found = tams(model)
    causal = any(tam.first_offset < -(tam.num_taps // 2) for tam in found.values())
    return taps_table({name: tam.taps for name, tam in found.items()}, causal=causal)


def effective_pair_taps(model: nn.Module) -> pd.DataFrame:
    """List what the TAMs of stages 1 to 3 do to pairs: module, frame, channel, pair_offset, weight.

    There both frames of a pair hold the same map, so taps add up (see `PairTAM`), and single taps
    are misleading. Other TAMs have no rows, since their taps act as they are.
    """
    rows = []
    for name, tam in tams(model).items():
        if isinstance(tam, PairTAM):
            for frame, taps in zip(("little", "big"), tam.pair_taps(), strict=True):
                rows += [(name, frame, *entry) for entry in _entries(*taps)]
    return pd.DataFrame(rows, columns=["module", "frame", "channel", "pair_offset", "weight"])


def tap_history(lines: Iterable[str | Mapping], *, causal: bool = False) -> pd.DataFrame:
    """List `tam_weights` of every epoch in a training log, with `epoch` in front; 0 is the start.

    Args:
        lines: of a log with taps, as `runs/staircase.py` writes them; as text (an open `.jsonl`
            file will do) or parsed: `{"epoch": n, "taps": {module: [[weight] * C] * r}, ...}`.
        causal: whether the model is causal, which the log does not say.
    """
    tables = []
    for line in lines:
        entry = json.loads(line) if isinstance(line, str) else line
        if "taps" not in entry:
            raise ValueError(
                f'expected "taps" in every line, as the staircase logs them, got {", ".join(entry)}'
            )
        # In float32, 0.9461 in the log would come out as 0.9460999965667725.
        taps = {n: torch.tensor(t, dtype=torch.float64) for n, t in entry["taps"].items()}
        tables.append(taps_table(taps, causal=causal).assign(epoch=entry["epoch"]))
    history = pd.concat(tables, ignore_index=True)
    return history[["epoch", *history.columns[:-1]]]


def compare_taps(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Put two tables of the same weights side by side: module, ..., before, after, change.

    Args:
        before, after: from `tam_weights`, `taps_table` or one epoch of `tap_history`: initial and
            learned taps, say, or TSM's and learned ones.

    Raises ValueError if the tables do not hold the same modules, channels and taps.
    """
    keys = ["module", "channel", "tap", "offset"]
    both = before[[*keys, "weight"]].merge(after[[*keys, "weight"]], on=keys)
    both = both.set_axis([*keys, "before", "after"], axis=1)
    if not len(before) == len(after) == len(both):
        raise ValueError(
            f"expected two tables of the same taps, got {len(before)} and {len(after)} weights, "
            f"{len(both)} in both: take one epoch of each, and models of the same size"
        )
    return both.assign(change=both["after"] - both["before"])


def channel_roles(taps: Tensor) -> list[str]:
    """Name what each channel of taps (r, C) does with time: C roles; `taps[r // 2]` is curr.

    The first line that fits counts. A *share* is a tap (or a sum of taps, with signs) divided by
    the sum of absolute taps; *past* are the taps before the frame, *future* those after it:

        silent        the positive taps' share is below 0.1, or all taps are 0. Maps are never
                      negative here, so only positive taps get anything through the ReLU
        differences   the negative taps' share is at least 0.25: contrasts frames
        keeps         the share of curr is at least 0.7
        looks_back    share of past minus share of future is at least 0.3
        looks_ahead   share of future minus share of past is at least 0.3
        averages      past and future both count, about equally
        mixed         the rest (cannot occur with prev, curr and next)

    The thresholds are our choice. The size of the taps does not matter (batch norms follow);
    reversing the taps swaps looks_back and looks_ahead.
    """
    taps = taps.detach().cpu().double()
    half = len(taps) // 2
    shares = taps / taps.abs().sum(0).clamp(min=1e-30)
    positive, negative = shares.clamp(min=0).sum(0), -shares.clamp(max=0).sum(0)
    # Both sums run inwards, so that reversed taps give the same numbers to the last bit.
    past, now, future = shares[:half].sum(0), shares[half], shares[half + 1 :].flip(0).sum(0)
    roles = {
        "silent": positive < SILENT_BELOW,
        "differences": negative >= DIFFERENCES_FROM,
        "keeps": now >= KEEPS_FROM,
        "looks_back": past - future >= LOOKS_FROM,
        "looks_ahead": future - past >= LOOKS_FROM,
        "averages": (past > 0) & (future > 0),
    }
    return np.select([fits.numpy() for fits in roles.values()], list(roles), "mixed").tolist()


def tam_roles(model: nn.Module) -> pd.DataFrame:
    """List the role of every channel of every TAM: module, channel, role (see `channel_roles`)."""
    rows = [
        (name, channel, role)
        for name, tam in tams(model).items()
        for channel, role in enumerate(channel_roles(centred_taps(tam.taps, tam.first_offset)))
    ]
    return pd.DataFrame(rows, columns=["module", "channel", "role"])


def identity_taps(taps: Tensor) -> Tensor:
    """Make taps (r, C) that switch a TAM off: curr 1, the others 0.

    The remaining ReLU changes nothing, since TAMs sit where maps are never negative.
    """
    off = torch.zeros_like(taps)
    off[len(taps) // 2] = 1
    return off


@contextmanager
def edit_taps(model: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Give TAMs other taps inside the `with`; afterwards they have their own again, unchanged.

    The model's parameters are set aside, not overwritten, so do not train inside.

    Args:
        edits: name or pattern ("stage*.tam") of TAMs to a function from taps (r, C) to new ones of
            the same shape: `identity_taps`, `lambda taps: 0.5 * taps`, `lambda taps: taps.flip(0)`
            (looks the other way), `replace_with(tsm_taps(64))`. A causal TAM's are `centred_taps`,
            2r - 1 of them, and those after the middle one must stay 0.

    Raises ValueError if a name or pattern matches no TAM, taps do not fit, or the model's are
    pruned, parametrised or sharded.
    """
    modules = tams(model)
    with ExitStack() as stack:
        for pattern, function in edits.items():
            for name in match_names(pattern, list(modules), "the name of a TAM in this model"):
                check_weights(modules[name], name)
                own, r = modules[name].taps, modules[name].num_taps
                before = centred_taps(own.detach().clone(), modules[name].first_offset)
                taps = function(before)
                if taps.shape != before.shape or taps[r:].any():  # only causal TAMs have taps[r:]
                    ahead = ", and zeros after it, since it is causal" if len(before) > r else ""
                    raise ValueError(
                        f"expected taps {tuple(before.shape)} (taps, channels) for {name}, the "
                        f"middle one the frame's own{ahead}; got {tuple(taps.shape)}"
                    )
                stack.callback(setattr, modules[name], "taps", own)
                modules[name].taps = nn.Parameter(taps[:r].to(own))
        yield
