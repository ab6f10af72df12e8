"""Find sample clips, notebooks and the user's data sets; write files whole or not at all."""

import errno
import filecmp
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
Files = Mapping[Path, str | bytes | memoryview]  # with their contents
LONGEST_NAME = 200  # bytes; file systems allow 255, and digests, suffixes and ".part" are added


def _shipped(name: str) -> Path:
    """Find a shipped folder: beside the package in a clone, inside it in an installed wheel."""
    for folder in (PACKAGE.parent / name, PACKAGE / "_shipped" / name):
        if folder.is_dir():
            return folder
    wanted = f"expected the folder {name}/ beside or inside {PACKAGE}, found neither"
    raise FileNotFoundError(f"{wanted}: install blvnet_lab again, or work in a complete clone")


def data_samples() -> Path:
    """Find the folder of sample clips, with `manifest.csv` and `checkpoints/`."""
    return _shipped("data_samples")


def notebooks() -> Path:
    """Find the folder of the course's notebooks."""
    return _shipped("notebooks")


def data_root() -> Path:
    """Find the folder that holds the user's data sets, one folder each, as BLVNET_DATA says.

    Raises FileNotFoundError if that is not set, or is not a folder.
    """
    name = os.environ.get("BLVNET_DATA", "")
    if not os.path.isdir(name):
        wanted = "expected the environment variable BLVNET_DATA to name the folder of data sets"
        raise FileNotFoundError(f'{wanted}, got "{name}": set it, or say where the data set is')
    return Path(name)


def plain_name(text: str) -> str:
    """Turn `text` (a label, say) into the name of a single file or folder."""
    name = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", text)
    if not name.strip("."):  # "." and ".." are other folders, "" is no name
        name = "_" * max(1, len(name))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    mark = hashlib.sha1(text.encode()).hexdigest()[:8]  # two long names may begin alike
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{mark}"


@contextmanager
def atomic_write(path: str | os.PathLike, *, keep: bool = False) -> Iterator[Path]:
    """Yield a name to write to, which becomes `path` if the block ends without an error.

    Readers of `path` find the old file or the new one, never half a file, even after a power cut.
    Its folder is made. keep: if the old file differs, rename it, with a warning: it may matter.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if keep and path.is_file() and not filecmp.cmp(path, partial, shallow=False):
            kept = path.rename(free_name(path))
            said = "another file was %s before: it is now %s"
            logging.getLogger("blvnet_lab").warning(said, path, kept)
        partial.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # these name no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def free_name(path: Path, mark: str = "") -> Path:
    """Return `manifest.1.csv` for `manifest.csv`, or the next number that is free."""
    names = (path.with_name(f"{path.stem}.{mark}{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def check_target(out: Path, *endings: str, read: Iterable[Path | str] = ()) -> None:
    """Check that a file with one of these endings can be written, before the work that fills it.

    Raises ValueError for another ending, a folder, or one of the files that the work reads, OSError
    if its folder may not be written to.
    """
    if out.suffix not in endings or out.is_dir():
        wanted = " or ".join(endings)
        raise ValueError(f"expected a file, not a folder, that ends in {wanted}, got {out}")
    if out.resolve() in [Path(source).resolve() for source in read]:
        raise ValueError(f"expected another file to write to than {out}, which is read")
    out.parent.mkdir(parents=True, exist_ok=True)
    (partial := out.with_name(f".{out.name}.{os.getpid()}.part")).touch()
    partial.unlink()


def check_empty(folder: Path, what: str = "folder", remedy: str = "choose another") -> None:
    """Raise FileExistsError unless a folder is empty or does not exist yet."""
    if folder.exists() and any(folder.iterdir()):
        wanted = f"expected a new or an empty {what}"
        raise FileExistsError(f"{wanted}, got {folder}, which holds files: {remedy}")


def check_absent(files: Iterable[Path], *, replace: bool) -> None:
    """Raise FileExistsError if one of the files exists and may not be replaced."""
    there = sorted(path for path in files if os.path.lexists(path))
    if there and not replace:
        wanted = f"expected a folder without the files to write, got {there[0]}"
        raise FileExistsError(f"{wanted}: choose another folder, or add --replace")


def write_files(files: Files, *, replace: bool = True, keep: bool = False) -> None:
    """Write texts or bytes into files (as `atomic_write`), or none (as `check_absent`)."""
    check_absent(files, replace=replace)
    for path, content in files.items():
        with atomic_write(path, keep=keep) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
