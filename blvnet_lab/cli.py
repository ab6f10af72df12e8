"""The command line: every command is a function of the library, and its result prints itself."""

import argparse
import ast
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import tyro

import blvnet_lab
from blvnet_lab.paths import PACKAGE, atomic_write, data_samples
from blvnet_lab.training.recipe import Output, preset

ABOUT = "Efficient video models you can open up: bLVNet-TAM. See COMMAND --help for its options."

# The function behind each command. Parameters before "/" are positional, the others are options;
# the docstring is the help, and the result is printed.
COMMANDS = {
    "course": "course.copies:update_course",
    "samples": "datasets.motion:write_dataset",
    "cost": "models.cost:compare_costs",
    "benchmark": "benchmark.run:run_benchmark",
    "staircase": "runs.staircase:run_staircase",
    "manifest": "datasets.inventory:build_manifest",
    "subset": "datasets.kinetics_subset:subset",
    "shared": "datasets.sources:count_shared",
    "partners": "datasets.partners:cut_partners",
    "prepare": "datasets.reencoding:reencode",
    "loader-benchmark": "benchmark.reading:measure_loading",
    "train": "runs.train:train",
    "plan": "runs.plan:plan_training",
    "evaluate": "runs.evaluate:evaluate_file",
    "predict": "runs.predict:predict_video",
    "features": "runs.features:extract_features",
    "probe": "runs.features:probe_features",
    "import": "weights.official:import_official",
    "import-official": "weights.official:import_official",  # its former name
    "taps": "weights.taps:save_taps",
    "export": "deploy.variants:export_file",
    "card": "weights.hub:model_card",
    "push": "weights.hub:push",
    "instructor": "course.instructor:write_instructor",
    "slides": "course.slides:write_slides",
    "site": "course.site:write_site",
    "page": "course.site:write_page",
}


# A run's folder has the option that all commands have for what they write.
Output.__annotations__["folder"] = Annotated[Path, tyro.conf.arg(name="out")]


def find(name: str) -> Callable[..., Any]:
    """Import the function of a command."""
    module, function = COMMANDS[name].split(":")
    return getattr(importlib.import_module(f"blvnet_lab.{module}"), function)


def first_line(name: str) -> str:
    """Read the first line of a command's docstring, without importing anything."""
    module, function = COMMANDS[name].split(":")
    source = PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text("utf-8")
    (found,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == function)
    return ast.get_docstring(found).splitlines()[0]


def as_command(name: str, words: Sequence[str] = ()) -> Callable[..., Any]:
    """Import the function of a command, and prepare it for tyro.

    The fields of a record become options of their own; a recipe's defaults are those of the preset
    in `words`.
    """
    function, given = find(name), {}
    for option, hint in get_type_hints(function).items():
        for kind in (hint, *get_args(hint)):
            if is_dataclass(kind) and option != "return":
                function.__annotations__[option] = Annotated[kind, tyro.conf.arg(name="")]
    if "recipe" in function.__annotations__:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--preset", default="classroom")
        given["recipe"] = preset(parser.parse_known_args(words)[0].preset)
    marked = tyro.conf.configure(tyro.conf.PositionalMetavarFromFieldName, tyro.conf.SuppressFixed)
    return marked(partial(function, **given))


def run_typed(words: Sequence[str]) -> None:
    """Run the command that the first word names, and print its result."""
    words, program = in_reach(words), "python -m blvnet_lab"
    name = "".join(words[:1])
    if name not in COMMANDS:  # --help, or an unknown command
        overview = {name: lambda: None for name in COMMANDS}
        for known, line in overview.items():
            line.__doc__ = first_line(known)
        tyro.extras.subcommand_cli_from_dict(overview, args=words, description=ABOUT, prog=program)
    # Only this command: a misspelled option is then answered with this command's options.
    command = as_command(name, words)
    try:
        result = tyro.cli(command, prog=f"{program} {name}", args=words[1:])
    except SystemExit as ended:  # it has called further files, such as *.mp4, unknown options
        if ended.code and sum(b[:2] != "--" and os.path.exists(w) for b, w in pairwise(words)) > 2:
            raise ValueError(f"got more files than expected: run {name} once for each") from ended
        raise
    if is_first():
        print(result)
        if name in DRAWN and getattr(result, DRAWN[name]) is not None:
            draw(name, result)
        if name == "course" and result.open:
            open_lab(result.start)
    if stopped := getattr(getattr(result, "fitted", None), "stopped", ""):
        sys.exit(128 + getattr(signal, stopped, signal.SIGTERM))  # or `train && evaluate` goes on


def is_first() -> bool:
    """Tell whether this process may print: among those of torchrun only the first."""
    if not os.environ.get("RANK"):  # a single process; no need to import PyTorch to know that
        return True
    from blvnet_lab.training.distributed import rank_in_group

    return not rank_in_group()


# The field of a result that says where its picture goes; None draws no picture.
DRAWN = {"benchmark": "figure", "staircase": "out", "evaluate": "out", "predict": "out"}
MAX_CLASSES_DRAWN = 50


def draw(name: str, found: Any) -> None:
    """Draw a command's result, and write the picture, whole or not at all."""
    from blvnet_lab import viz
    from blvnet_lab.runs.staircase import as_table

    if name == "benchmark":
        figure = viz.cost_figure(found.tables["accuracies"], f"times on {found.machine['device']}")
        path = found.figure
    elif name == "staircase":
        figure, path = viz.staircase_figure(as_table(found.summary)), found.out / "staircase.png"
    elif name == "predict":
        figure = viz.timeline_figure(found.timeline, title=f"answers {found.basis}")
        path = found.out.with_suffix(".png")
    elif found.confusion is None:
        return
    elif len(found.classes) > MAX_CLASSES_DRAWN:
        print(f"no confusion.png: more than {MAX_CLASSES_DRAWN} classes")
        return
    else:
        title, path = Path(found.about["checkpoint"]).stem, found.out / "confusion.png"
        figure = viz.confusion_figure({title: found.confusion}, found.classes)
    with atomic_write(path, keep=True) as partial_file:
        figure.savefig(partial_file, dpi=150, format=path.suffix[1:])
    print(f"{path} is a picture of it")


def open_lab(start: Path) -> None:
    """Start JupyterLab in this process, so that it shuts down properly, with its kernels."""
    from jupyterlab.labapp import LabApp

    if blvnet_lab.BUSY:  # kernels choose for themselves when they start
        os.environ.pop("OMP_NUM_THREADS", None)
    # It refuses to run as root (usual in containers) unless asked to.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    LabApp.launch_instance([str(start), *root])


WRITES = {"--out", "--json", "--figure", "--annotate"}


def in_reach(words: Sequence[str]) -> list[str]:
    """Resolve samples, networks on the hub and the home folder in a command line's words.

    If the package is installed, `data_samples/` means the shipped one, unless the current folder
    has one. And shells do not expand "~/x" in quotes, or in --out=~/x.
    """
    found = []
    for before, word in pairwise(["", *words]):
        if (before, word) == ("--resume", "auto"):  # which is what --resume does anyway
            continue
        option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value == "~" or value.startswith(("~/", "~" + os.sep)):
            value = os.path.expanduser(value)
        written = (option or before) in WRITES or words[0].startswith(("course", "import"))
        if value.startswith("data_samples/") and not os.path.lexists(value) and not written:
            shipped = data_samples() / value.removeprefix("data_samples/")
            if shipped.exists():
                print(f"{value} is not here: taken from the package, {shipped}", file=sys.stderr)
                value = str(shipped)
        is_target = written or (words[0] == "push" and before != "push")
        if value.startswith("hub:") and not is_target:
            from blvnet_lab.weights.hub import load_from_hub

            trained = load_from_hub(value)
            print(f"{value} is {trained.notes['source']}: {trained.file}", file=sys.stderr)
            value = str(trained.file)
        found.append(f"{option}{sign}{value}")
    return found


def error_line(error: Exception) -> str:
    """Describe an error in one line; rephrase the system's, which only name a file."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return str(error)
    # Files are written under a temporary name first (`paths.atomic_write`).
    name = re.sub(r"\.([^/\\]+)\.\d+\.part$", r"\1", str(error.filename))
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"expected a folder, got {name}, which is a file or below one: choose another name"
    return f"expected to read or write {name}, got {error.strerror}: check it, or choose another"


def main() -> None:
    """Run the command that was typed; expected mistakes end with one clear line."""
    let_printing_never_fail()
    try:
        try:
            run_typed(sys.argv[1:])
        finally:
            sys.stdout.flush()  # here, where an error can be caught
    except BrokenPipeError:  # the reader has closed the pipe (`| head`)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(1)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"blvnet_lab: {error_line(error)}")
    except KeyboardInterrupt:
        written = "files that are complete stay; subset, prepare and partners go on from there"
        print(f"blvnet_lab: interrupted; {written}, and train with --resume auto", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def let_printing_never_fail() -> None:
    """Escape characters that a terminal cannot show (\\u4e2d); ignore outputs that are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`, or a program without a terminal
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):  # those of notebooks take everything
            stream.reconfigure(errors="backslashreplace")
