"""Which clips of a data set to take, and which of its classes are each other's mirror image."""

import csv
import difflib
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from blvnet_lab.data.dataset_files import mirror_labels
from blvnet_lab.datasets.published import read_lines

# Whole words, in names as `_in_words` writes them, that are exchanged in a mirror.
OPPOSITES = {"left": "right", "right": "left"}
OPPOSITES |= {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}
SIDES = re.compile(
    r"(?<![^\W\d_])((?:top|bottom|upper|lower|front|rear|back)?)"
    rf"({'|'.join(OPPOSITES)})((?:wards?|most|side|hand(?:ed)?)?)(?![^\W\d_])"
)
# What words may become when a motion is played backwards; some may also stay as they are.
PAIRS = """up down, upwards downwards, forward backward, forwards backwards, push pull,
pushing pulling, open close, opening closing, folding unfolding"""
TURNED = dict(pair.split() for pair in PAIRS.split(","))
TURNED |= {other: word for word, other in TURNED.items()} | OPPOSITES
TURNED |= {"in": "out away in", "out": "in out", "away": "in closer", "closer": "away"}
TURNED |= {"from": "to from", "to": "from to"}
# But neither a thumb that is held up nor a side of the body.
MOTIONS = re.compile(
    rf"(?<!thumb )(?<!thumbs )\b({'|'.join(TURNED)})\b"
    r"(?!(?:(?<=left)|(?<=right)) (?:hand(?:ed)?|arm|leg|foot|side)\b)"
)


@dataclass(frozen=True)
class Selection:
    """Choose clips of a data set by split and class.

    Args:
        split: only these splits (train, val, test); by default all, for `subset` val.
        classes: only these classes, as separate words or separated by commas.
        class_list: only the classes in this file, one on each line.
        num_classes: only this many classes, drawn with the seed.
        clips_per_class: at most this many readable clips of each class and split.
        val_share: the share of clips that becomes val if the data set has no splits; clips of
            one source stay on one side.
        seed: for everything that is drawn at random.
    """

    split: Sequence[str] = ()
    classes: Sequence[str] = ()
    class_list: Path | None = None
    num_classes: int | None = None
    clips_per_class: int | None = None
    val_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.val_share < 1:
            raise ValueError(f"expected a val_share between 0 and 1, got {self.val_share}")
        if self.clips_per_class is not None and self.clips_per_class < 1:
            raise ValueError(f"expected at least one clip a class, got {self.clips_per_class}")

    def choose_classes(self, available: Sequence[str]) -> list[str]:
        """Choose classes by name, from a file or by the seed; without a choice, take all.

        Raises ValueError for more than one way to choose, and for unknown classes.
        """
        if bool(self.classes) + (self.class_list is not None) + (self.num_classes is not None) > 1:
            raise ValueError("expected one way to choose classes: names, a file, or how many")
        texts, chosen = self.classes or available, []
        if self.num_classes is not None:
            if not 1 <= self.num_classes <= len(available):
                raise ValueError(f"expected 1 to {len(available)} classes, got {self.num_classes}")
            texts = random.Random(self.seed).sample(sorted(available), self.num_classes)
        elif self.class_list is not None:
            lines = read_lines(self.class_list)
            texts = [line.strip("\"'") for line in lines if line[0] != "#"]
        for text in texts:  # or several names with commas between; one with a comma is quoted
            lines = csv.reader(text.splitlines(), skipinitialspace=True)
            several = (name.strip() for line in lines for name in line)
            chosen += [text] if text in available else filter(None, several)
        unknown = [name for name in chosen if name not in available]
        if unknown or not chosen:
            wrong = unknown[0] if unknown else "none"
            near = difflib.get_close_matches(wrong, available, n=3) or sorted(available)[:3]
            got = f"got {wrong!r}; near it are {', '.join(near)}"
            raise ValueError(f"expected names of classes, {got}")
        return [name for name in available if name in set(chosen)]


ALL_CLIPS = Selection()


def mirrored_names(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Find, by their names, classes that are each other's mirror image, however they are written.

    "wave left" and "wave right", "SwipeLeft" and "SwipeRight", "TURN CCW" and "Turn cw"; but only
    if a name has exactly one partner.
    """
    by_words = defaultdict(list)
    for name in classes:
        by_words[_in_words(name)].append(name)
    pairs = []
    for words, names in by_words.items():
        others = by_words.get(SIDES.sub(lambda m: m[1] + OPPOSITES[m[2]] + m[3], words), [])
        if others != names and len(names) == len(others) == 1 and names < others:
            pairs.append((names[0], others[0]))
    return pairs


def reversal_table(classes: Sequence[str]) -> list[int | None]:
    """Find, by their names, the class that each class becomes when it is played backwards.

    "Swiping Up" and "swiping down", "PushHandAway" and "pull hand in"; None if a name has no
    partner or several, for a dive played backwards is no dive. Names with "then" are left out:
    "right then left" stays the same backwards.
    """
    labels = defaultdict(list)
    for label, name in enumerate(classes):
        labels[_in_words(name)].append(label)
    turned = {}
    for words in labels:
        parts = enumerate(MOTIONS.split(words))  # every second part is a word of motion
        choices = [TURNED[part].split() if k % 2 else [part] for k, part in parts]
        found = {"".join(chosen) for chosen in product(*choices)} & labels.keys() - {words}
        found = set() if " then " in words else found
        turned[words] = found.pop() if len(found) == 1 and len(labels[words]) == 1 else None
    found = {words: other for words, other in turned.items() if turned.get(other) == words}
    return [labels.get(found.get(_in_words(name)), [None])[0] for name in classes]


def _in_words(name: str) -> str:
    """Write a name in lower case, with spaces between words: "swipe left" for "Swipe-Left"."""
    bounds = r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|[\s_-]+"
    words = re.sub(bounds, " ", name).casefold()
    words = re.sub(r"\b(?:(?:counter|anti) ?clockwise|ccw)\b", "counterclockwise", words)
    return re.sub(r"\bcw\b", "clockwise", words)


def mirror_table(
    classes: Sequence[str], mirrored: Sequence[tuple[str, str]] | None = None
) -> list[int | None]:
    """Make the mirror table of classes, given the mirrored pairs (None: found by name).

    A class without a partner is its own mirror image, unless its name tells left from right: then
    its mirror image belongs to no class.
    """
    mirrored = mirrored_names(classes) if mirrored is None else mirrored
    return [
        None if classes[other] == name and SIDES.search(_in_words(name)) else other
        for name, other in zip(classes, mirror_labels(classes, mirrored), strict=True)
    ]
