"""Efficient video models you can open up: bLVNet-TAM. Add --help to a command for its options."""

from __future__ import annotations

import argparse
import csv
import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import blvnet_lab
from blvnet_lab.training.presets import Recipe, Staircase, preset


def course(
    # Not a Path: that of "" is the folder one is in.
    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    reset: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME ...")
    ] = (),
    open: bool = False,
) -> None:
    """Copy the course into a folder of your own; what you edited there is never overwritten.

    Run again after an update, it adds what is new and replaces what you did not edit.

    Args:
        folder: for the notebooks; your answers stay in it.
        reset: put these notebooks back as shipped, their numbers are enough (--reset 02 03); yours
            are kept beside them.
        open: start JupyterLab on it.
    """
    from blvnet_lab.course import copies as lib

    names = [lib.find_notebook(name).name for given in reset for name in given or [""]]
    for name in dict.fromkeys(names):
        notebook, kept = lib.reset(name, folder)
        print(f"{notebook} is as shipped" + (f", yours is {kept.name}" if kept else ""))
    copied = None if names else lib.copy_course(folder)
    if copied:
        say_copied(folder, copied)
    if names or copied.updated:
        print("open in JupyterLab? then choose File > Reload Notebook from Disk there")
    start = Path(folder) / (names[0] if names else lib.FIRST)
    if open:
        open_lab(start)
    else:
        print(f"open it:  {shlex.join(['jupyter', 'lab', str(start)])}")


def say_copied(folder: str, copied: Any) -> None:
    """What `copy_course` did, and how to have as shipped what it kept."""
    print(
        f"{folder}: {len(copied.new)} new, {len(copied.same)} unchanged, "
        f"{len(copied.updated)} updated, {len(copied.edited + copied.unknown)} kept"
    )
    for name in copied.updated:
        print(f"  updated, you had not edited it: {name}")
    for name in copied.edited:
        print(f"  kept, you have edited it: {name}")
    for name in copied.unknown:
        print(f"  kept, it differs from the one shipped, and you may have edited it: {name}")
    if copied.edited or copied.unknown:
        stems = [Path(name).stem for name in sorted(copied.edited + copied.unknown)]
        short = [stem[:2] if stem[:2].isdecimal() else stem for stem in stems]
        again = ["python", "-m", "blvnet_lab", "course", folder, "--reset", *short]
        print(f"as shipped, with yours beside it:  {shlex.join(again)}")


def open_lab(notebook: Path) -> None:
    """JupyterLab in this process, so that it ends as it always does, with its kernels."""
    from jupyterlab.labapp import LabApp

    if blvnet_lab.BUSY:  # now; the kernels choose for themselves when they start
        os.environ.pop("OMP_NUM_THREADS", None)
    # It refuses to run as root (usual in containers) unless told.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    LabApp.launch_instance([str(notebook), *root])


def instructor(out: Path, replace: bool = False) -> None:
    """Write the solved notebooks, as the source of an nbgrader course, and a marking sheet.

    Args:
        out: folder for source/, marking_sheet.csv and .md, and nbgrader_config.py.
        replace: write over files that are there already; those you edited are kept in OUT/kept,
            and an edited nbgrader_config.py stays in its place.
    """
    from blvnet_lab.course.instructor import write_instructor

    written = write_instructor(out, replace=replace)
    for path in written.files:
        if path.suffix != ".md" or path.parent == out:
            print(path)
    for path, place in written.kept.items():
        print(f"kept as you edited it: {path}" + (f" is now {place}" if place != path else ""))
    assignment = next(path.parent.name for path in written.files if path.suffix == ".ipynb")
    print(f"next, with nbgrader installed, for each assignment:  cd {shlex.quote(str(out))}")
    print(f"  nbgrader generate_assignment {assignment}" + (" --force" if replace else ""))


def slides(out: Path, replace: bool = False) -> None:
    """Write the notebooks as slides for a browser.

    Args:
        out: folder for a page for each notebook.
        replace: write over files that are there already.
    """
    from blvnet_lab.course.slides import NEEDED, is_offline, write_slides

    for path in write_slides(out, replace=replace):
        print(path)
    if is_offline(out):
        print("they need no internet, but the folder node_modules beside them")
    else:
        print(f"they need the internet; to do without, run in {out}:  npm install {NEEDED}")
        print("and then this command again, with --replace")


def cost(
    depth: Literal["tiny", "50", "101", "152"] = "50",
    num_frames: int = 16,
    num_classes: int = 174,
    size: tuple[int, int] = (224, 224),
) -> None:
    """Count what one clip costs each of the four architectures.

    Args:
        depth: of all four networks.
        num_frames: T, frames of the clip; even.
        num_classes: of the classifier.
        size: height and width of the frames in pixels.
    """
    import pandas as pd

    from blvnet_lab.models import count_cost
    from blvnet_lab.models.files import BUILDERS

    rows = []
    for name, builder in BUILDERS.items():
        model = builder(
            depth=depth if depth == "tiny" else int(depth),
            num_frames=num_frames,
            num_classes=num_classes,
        )
        macs, tam_macs, parameters = count_cost(model, size)
        rows.append((name, macs / 1e9, tam_macs / 1e9, parameters / 1e6))
    table = pd.DataFrame(rows, columns=["model", "GMACs", "of which TAM", "M parameters"])
    table["TSN / it"] = table["GMACs"][0] / table["GMACs"]
    print(f"depth {depth}, a clip of {num_frames} frames of {size[0]} x {size[1]} pixels")
    print(table.to_string(index=False, float_format="{:.3f}".format))


def benchmark(
    parts: str = "",
    models: str = "",
    device: str = "",
    frames: int = 16,
    size: int = 224,
    repeats: int | None = None,
    quick: bool = False,
    json: Path | None = None,
    figure: Path | None = None,
) -> None:
    """Measure what the models cost here, next to the published formulation and to other models.

    All that is compared runs by turns; times are medians, ratios the medians of those within a
    turn. Published accuracies stand beside what was measured.

    Args:
        parts: which, with commas: forms, training, models, claims, scaling, streaming; all.
        models: rows of the part models, with commas, such as blvnet_tam,r3d_18; all.
        device: cpu, cuda, cuda:1 or mps; the GPU if there is one.
        frames: T of the four architectures, even.
        size: of their frames, in pixels.
        repeats: of each measurement; 9, or 3 if it must be quick.
        quick: few repeats, and nothing compiled: some minutes on two cores.
        json: file for all the numbers.
        figure: file (.png, .svg, .pdf) for the picture of accuracy against cost.
    """
    import torch

    from blvnet_lab.benchmark import as_json, run_benchmark
    from blvnet_lab.benchmark.peers import all_peers, choose_peers
    from blvnet_lab.benchmark.run import PARTS
    from blvnet_lab.paths import written_whole
    from blvnet_lab.viz.cost import cost_figure

    wanted = names_of(parts) or list(PARTS)
    if figure is not None and "models" not in wanted:
        raise ValueError(f"expected models among the parts for a figure, got {parts}")
    if json is not None:
        check_target(json, ".json")
    if figure is not None:
        check_target(figure, ".png", ".svg", ".pdf")
        peers = all_peers(frames, size)
        chosen = choose_peers(names_of(models) or [peer.name for peer in peers], peers)
        if not any(peer.accuracies for peer in chosen):
            raise ValueError(
                f"expected models with published accuracies for a figure, got {models} with "
                f"{frames} frames of {size} pixels: choose others too, such as blvnet_tam_256"
            )
    found = run_benchmark(
        parts=wanted,
        models=names_of(models) or [],
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        num_frames=frames,
        size=size,
        repeats=repeats or (3 if quick else 9),
        compiled=not quick,
    )
    print(", ".join(f"{name} {value}" for name, value in found.machine.items()))
    for name, heading in BENCHMARK_HEADINGS.items():
        table = getattr(found, name)
        if not table.empty:
            print(f"\n{heading}\n{table.to_string(float_format='{:.4g}'.format)}")
    if json is not None:
        with written_whole(json) as unfinished:
            unfinished.write_text(as_json(found), "utf-8")
    if figure is not None:
        with written_whole(figure) as unfinished:
            picture = cost_figure(found.accuracies, f"times on {found.machine['device']}")
            picture.savefig(unfinished, dpi=150, format=figure.suffix[1:])


BENCHMARK_HEADINGS = {
    "forms": "one clip through bLVNet-TAM of depth 50, computed in several ways",
    "training": "forward and backward pass of one clip, and what is kept in between",
    "models": "forward pass of one clip, each model at the input it was published for",
    "accuracies": "accuracies as published, beside the times measured here",
    "claims": "against TSN on the same frames, counted",
    "scaling": "with more frames, and with more clips at once",
    "streaming": "a causal model, pair by pair; ms a pair",
}


def staircase(options: Annotated[Staircase, tyro.conf.arg(name="")]) -> None:
    """Train TSN, TSN-bLNet, bLVNet and bLVNet-TAM on the same clips and compare them."""
    from blvnet_lab.runs.staircase import as_table, run_staircase
    from blvnet_lab.viz.figures import staircase_figure

    command = shlex.join(["python", "-m", "blvnet_lab", *sys.argv[1:]])
    summary = run_staircase(options, command)
    print(as_table(summary).to_string(index=False))
    print("direction, order: accuracy between partners; 50 % is the toss of a coin")
    picture = options.out / "staircase.png"
    staircase_figure(as_table(summary)).savefig(picture, dpi=150)
    print(f"checkpoints, logs, staircase.json and {picture.name} are in {options.out}")


def loader_benchmark(
    manifest: Path | None = None,
    num_frames: int = 16,
    size: int = 224,
    workers: tuple[int, ...] = (0, 1, 2),
    clips: int = 96,
    repeats: int = 9,
    memory_clips: int = 0,
    quick: bool = False,
    json: Path | None = None,
) -> None:
    """Measure how quickly clips come from files, against what decoding alone takes.

    Args:
        manifest: of a data set; without it, videos are made: 720p, the same prepared, and VP9.
        num_frames: T, frames of a clip.
        size: of the crops, in pixels.
        workers: numbers of workers of the data loaders.
        clips: read by each data loader.
        repeats: of each step, by turns; the median counts.
        memory_clips: so many clips are read to see whether memory grows; 0 leaves it out.
        quick: three repeats and 16 clips.
        json: file for all the numbers.
    """
    from blvnet_lab.benchmark.reading import TARGETS, as_json, measure_loading
    from blvnet_lab.paths import written_whole

    found = measure_loading(
        manifest=manifest,
        num_frames=num_frames,
        size=size,
        workers=workers,
        clips=16 if quick else clips,
        repeats=3 if quick else repeats,
        memory_clips=memory_clips,
    )
    print(f"CPU milliseconds for a clip of {num_frames} frames, median, one core")
    print(found.steps.to_string(index=False, float_format="{:.2f}".format))
    print("\ndata loaders, by the wall clock")
    print(found.loaders.to_string(index=False, float_format="{:.2f}".format))
    for name, ratio in found.ratios.items():
        target, side = TARGETS[name]
        print(f"{name}: {ratio:.2f} ({side} {target})")
    if memory_clips:
        print(f"\nmemory\n{found.memory.to_string(index=False, float_format='{:.0f}'.format)}")
    if json is not None:
        with written_whole(json) as unfinished:
            unfinished.write_text(as_json(found), "utf-8")


def train_command(default: Recipe) -> Callable[..., None]:
    """The command `train`, whose options have the values of a recipe unless they are given."""

    def train(
        manifest: Annotated[Path, tyro.conf.Positional],
        out: Path,
        preset: str = "classroom",
        init: str = "",
        resume: Literal["never", "auto"] = "never",
        save_minutes: float = 10.0,
        keep_every: int | None = None,
        tensorboard: bool = False,
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = default,
    ) -> None:
        """Train a network on a manifest's clips; alone, or started by torchrun on several GPUs.

        A run that is asked to stop (Ctrl-C, SIGTERM, SIGUSR1) ends with a checkpoint, and goes on
        with --resume auto as if it had not been interrupted. To fine-tune on clips of your own:
        --init runs/other/model.safetensors --body-rate 0.1.

        Args:
            manifest: of the clips; training needs the splits train and val.
            out: folder for recipe.json, log.jsonl, checkpoints and model.safetensors.
            preset: whose values the options below have unless they are given: classroom,
                kinetics-subset, a row of the paper such as ssv2-50-f8x2 or kinetics400-50-f16x2,
                or a recipe.json.
            init: start from these weights: a model.safetensors or best.pt (for fewer frames or
                other classes, too), a published bLResNet or video checkpoint, a ResNet of
                torchvision; or "torchvision", which downloads that. Empty for chance.
            resume: auto goes on with the run in out, if there is one.
            save_minutes: from checkpoint to checkpoint within an epoch.
            keep_every: keep the checkpoint of every so manieth epoch; else the last and the best.
            tensorboard: write events for TensorBoard too.
            recipe: how to train.
        """
        from blvnet_lab.runs.train import train as run
        from blvnet_lab.training.distributed import rank_in_group

        done = run(
            manifest,
            out,
            recipe,
            init=init,
            resume=resume == "auto",
            save_minutes=save_minutes,
            keep_every=keep_every,
            tensorboard=tensorboard,
        )
        if rank_in_group():  # another process speaks
            return
        print(f"started from {done.start}")
        if recipe.starts_from and not init:
            print(f"the published run started from {recipe.starts_from}: expect less from chance")
        if not done.fitted.unreadable.empty:
            print(
                f"{len(done.fitted.unreadable)} videos were passed over: unreadable.csv names them"
            )
        if done.fitted.stopped:
            print(f"stopped by {done.fitted.stopped}: run the same again with --resume auto")
        else:
            print(f"{done.file} is the best network, log.jsonl beside it has every epoch")

    return train


def plan_command(default: Recipe) -> Callable[..., None]:
    """The command `plan`, which takes a recipe as `train` does."""

    def plan(
        manifest: Annotated[
            Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MANIFEST]")
        ] = None,
        preset: str = "classroom",
        clips: int | None = None,
        val_clips: int | None = None,
        classes: int | None = None,
        processes: int = 1,
        clips_per_second: float | None = None,
        memory_gb: float | None = None,
        bytes_per_clip: float | None = None,
        keep_every: int | None = None,
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = default,
    ) -> None:
        """Say what a training run will take: steps, hours, memory, disk, and the largest batch.

        Without --clips-per-second it trains for some steps first, on noise: that is this machine's
        rate, and takes a minute or more for a large network on a CPU.

        Args:
            manifest: of the clips; without it, --clips, --val-clips and --classes, or the published
                counts for the presets of ssv2 and kinetics400.
            preset: whose values the options below have unless they are given (train --help).
            clips: for training.
            val_clips: for evaluation after every epoch.
            classes: how many.
            processes: that train together, each on a device of its own.
            clips_per_second: in training, of all processes together: log.jsonl of a run has it.
            memory_gb: of each device, in 10^9 bytes; without it, what this machine has.
            bytes_per_clip: size of a video file, on average; without it, that of the manifest's.
            keep_every: epochs from one checkpoint that is kept to the next; else last and best.
            recipe: how to train.
        """
        from blvnet_lab.runs.plan import DataSize, manifest_size, published_size
        from blvnet_lab.runs.plan import plan as run

        given = (clips, val_clips, classes)
        if None not in given and manifest is None:
            size = DataSize(*given, None, "given")
        elif given != (None, None, None):
            sys.exit(
                "blvnet_lab: expected a manifest, or --clips, --val-clips and --classes, all three "
                f"of them, got {'both' if manifest else 'only some'}"
            )
        else:
            size = manifest_size(manifest, recipe) if manifest else published_size(preset)
        found = run(
            recipe,
            num_clips=size.num_clips,
            num_val_clips=size.num_val_clips,
            num_classes=size.num_classes,
            clips_per_second=clips_per_second,
            processes=processes,
            memory_gb=memory_gb,
            bytes_per_clip=size.bytes_per_clip if bytes_per_clip is None else bytes_per_clip,
            keep_every=keep_every,
            source=size.source,
            frame_bytes=size.frame_bytes,
        )
        print(found)

    return plan


def evaluate(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    manifest: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    split: str = "val",
    views: str = "",
    size: tuple[int, int] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Judge a trained network on all clips of a split; alone, or started by torchrun.

    No clip is judged twice or left out, so any number of processes gives the same figures.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        manifest: of the clips, whose labels mean the same classes as the network's.
        out: folder for scores.json, predictions.csv, per_class.csv, confusion.csv and .png.
        split: whose clips are judged.
        views: clips of each video x crops of each clip, such as 3x10, whose logits are averaged;
            1, 3, 5 or 10 crops. Without it, as the network's recipe says.
        size: height and width of a view in pixels; without it, as the recipe says.
        batch_size: views at once, in each process.
        workers: processes that read clips, for each process that judges; 0 reads in between.
        precision: in which the network computes.
    """
    from blvnet_lab.runs.evaluate import judge
    from blvnet_lab.training.distributed import rank_in_group
    from blvnet_lab.training.recipe import Hardware

    judged = judge(
        checkpoint,
        manifest,
        split=split,
        views=views or None,
        size=size,
        out=out,
        batch_size=batch_size,
        hardware=Hardware(precision=precision, workers=workers),
    )
    if rank_in_group():  # another process speaks
        return
    print(judged)
    for why in list(judged.unreadable.values())[:10]:
        print(f"  {why}")
    worst = judged.per_class.sort_values("top_1", kind="stable").head(10)
    print(f"\nclasses with the lowest top-1, of {len(judged.per_class)}")
    print(worst.to_string(index=False, float_format="{:.3f}".format))
    if out is not None:
        drawn = draw_confusion(judged.confusion, judged.classes, checkpoint.stem, out)
        print(f"\nscores.json, predictions.csv, per_class.csv, confusion.csv{drawn} are in {out}")


MOST_CLASSES_DRAWN = 50


def draw_confusion(confusion: Any, classes: Sequence[str], title: str, out: Path) -> str:
    """Draws confusion.png, if a picture can show so many classes; what to say of it."""
    from blvnet_lab.paths import written_whole
    from blvnet_lab.viz import confusion_figure

    if len(classes) > MOST_CLASSES_DRAWN:
        return f" (no picture: more than {MOST_CLASSES_DRAWN} classes)"
    figure = confusion_figure({title: confusion}, classes)
    figure.set_size_inches(figure.get_size_inches() * max(1, len(classes) / 16))
    with written_whole(out / "confusion.png") as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)
    return ", confusion.png"


def predict(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    video: Annotated[Path, tyro.conf.Positional],
    top: int = 5,
    views: str = "",
    size: tuple[int, int] | None = None,
    annotate: Path | None = None,
) -> None:
    """Say what a trained network sees in a video: one answer for the whole of it.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        video: file, or a folder of pictures 00001.jpg, 00002.jpg, ...
        top: how many classes to name.
        views: clips of the video x crops of each clip, such as 3x3, whose logits are averaged; 1, 3
            or 5 crops. Without it, as the network's recipe says.
        size: height and width of a view in pixels; without it, as the recipe says.
        annotate: an .mp4 to write: the video with the answer below it.
    """
    from blvnet_lab.runs.predict import annotate as write
    from blvnet_lab.runs.predict import predict as run

    found = run(checkpoint, video, top=top, views=views or None, size=size)
    for line in found.table.itertuples():
        print(f"{100 * line.probability:6.1f} %  {line.class_name}")
    if not found.is_named:
        print(f"{checkpoint} does not name its classes: they are numbered, from 0")
    clips = "; ".join(" ".join(map(str, clip)) for clip in found.frames.tolist())
    print(f"seen: of {found.num_frames} frames, numbered from 0, {clips}")
    if annotate is not None:
        print(f"wrote {write(found, video, annotate)}")


def import_official(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional],
    num_frames: int = 16,
    num_classes: int | None = None,
    in_channels: int | None = None,
    tap_init: Literal["identity", "kaiming"] = "identity",
    depth: Literal["50", "101", "152"] | None = None,
    seed: int = 0,
) -> None:
    """Turn a published checkpoint into a model.safetensors, which says how to build its network.

    The file says depth, alpha, taps, classes and channels itself. It is a bLVNet-TAM, or a bLResNet
    trained on ImageNet, which lacks taps and a classifier of videos: such a network is a start for
    training, and knows no actions yet.

    Args:
        checkpoint: the published file (.pth, .pth.tar).
        out: the file to write, which ends in .safetensors.
        num_frames: T, even; no weight depends on it.
        num_classes: where the file's classifier is not used (bLResNet); without it, 174.
        in_channels: other than the file's 3, such as 10, turns RGB weights into those of optical
            flow.
        tap_init: how the taps of a bLResNet begin.
        depth: what the file should hold, where that is known; another is an error.
        seed: of the taps and the classifier that are not in the file.
    """
    from blvnet_lab.models import save_model
    from blvnet_lab.weights.official import import_official as run

    check_target(out, ".safetensors")
    model, report = run(
        checkpoint,
        num_frames=num_frames,
        num_classes=num_classes,
        in_channels=in_channels,
        tap_init=tap_init,
        depth=None if depth is None else int(depth),
        seed=seed,
    )
    # The name alone: folders are of this machine.
    save_model(model, out, {"source": {"file": checkpoint.name, "layout": report.layout}})
    print(report)
    built = ", ".join(f"{name}={value!r}" for name, value in model.arguments.items())
    print(f"{model.architecture}({built})\nwrote {out}")


def export(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    size: tuple[int, int] | None = None,
) -> None:
    """Write a trained network for programs without this library: ONNX, or PyTorch's own .pt2.

    Its input "clip" is (B, T, C, H, W), normalised as in training; its output "logits" is
    (B, classes). The file says the mean and standard deviation of that, for RGB from 0 to 1, and
    the names of the classes (none where the network has none). Before it appears it is run, on
    other clips than the exporter saw, and compared with the network.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        out: the file to write: .onnx needs onnx, onnxscript and onnxruntime, .pt2 nothing more.
        size: height and width that the file is for; without it, any above 32 pixels.
    """
    from blvnet_lab.data.transforms import MEAN, STD
    from blvnet_lab.deploy.export import export_model
    from blvnet_lab.training.checkpoint import load_trained

    check_target(out, ".onnx", ".pt2")
    trained = load_trained(checkpoint)
    notes = {"classes": trained.classes, "mean": MEAN, "std": STD}  # of RGB from 0 to 1
    found = export_model(trained.model, out, size, notes)
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in found.clips)
    print(f"checked on random clips, {shapes}")
    print(f"largest deviation {found.deviation:.1e} of the largest logit")
    print(f"the last took {found.seconds:.3g} s, in PyTorch {found.network_seconds:.3g} s")
    print(f"wrote {out}")


def check_target(out: Path, *endings: str) -> None:
    """Before the work: raises ValueError unless `out` can become a file with such an ending."""
    if out.suffix not in endings:
        raise ValueError(
            f"expected a file name that ends in {' or '.join(endings)}, got {out}: give it one"
        )
    if out.is_dir():
        raise ValueError(f"expected a file to write, got the folder {out}: give a name inside it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(out.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ValueError(
            f"expected a folder that files can be written to, got {out.parent}: choose another"
        )


def typed_preset(arguments: Sequence[str]) -> Recipe:
    """The recipe that was asked for, whose values are then the defaults of all other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="classroom")
    return preset(parser.parse_known_args(arguments)[0].preset)


def names_of(text: str) -> list[str] | None:
    """Names with commas between them, quoted if they have one; None if there are none."""
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return [name.strip() for line in lines for name in line] or None


# What follows one of these is written, and so is a network by `import-official`.
WRITES = {"--out", "--json", "--figure", "--annotate"}


def in_reach(words: Sequence[str]) -> list[str]:
    """The words of a command line, with files of the samples and one's home where they are.

    From an installed package there is no `data_samples/` where one works: the one shipped is meant.
    And no shell puts the home folder in the place of a quoted "~/x", or of the end of --out=~/x.
    """
    from blvnet_lab.paths import data_samples

    found = []
    for before, word in pairwise(["", *words]):
        option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value == "~" or value.startswith(("~/", "~" + os.sep)):
            value = os.path.expanduser(value)
        written = (option or before) in WRITES or words[0] == "import-official"
        if value.startswith("data_samples/") and not os.path.lexists(value) and not written:
            shipped = data_samples() / value.removeprefix("data_samples/")
            if shipped.is_file():
                print(f"{value} is not here: taken from the package, {shipped}", file=sys.stderr)
                value = str(shipped)
        found.append(f"{option}{sign}{value}")
    return found


def told(error: Exception) -> str:
    """An error in one line; those of the system, which only name a file, in our form."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return str(error)
    # A file is written under another name first (`paths.written_whole`).
    name = re.sub(r"\.([^/\\]+)\.\d+\.part$", r"\1", str(error.filename))
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"expected a folder, got {name}, which is a file or below one: choose another name"
    if isinstance(error, IsADirectoryError):
        return f"expected a file, got the folder {name}: give the name of a file"
    if isinstance(error, FileNotFoundError):
        return f"expected a file or folder, got {name}, which is not there: is it spelled right?"
    remedy = "choose another folder"
    if isinstance(error, PermissionError):
        remedy += ", or ask who owns it"
    return f"expected to read or write {name}, got {error.strerror}: {remedy}"


def main() -> None:
    """Run the command that was typed; expected mistakes end with one clear line."""
    let_printing_never_fail()
    try:
        try:
            run_typed(sys.argv[1:])
        finally:
            sys.stdout.flush()  # here, where an error can be caught
    except BrokenPipeError:  # whoever read it has seen enough (`| head`)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(1)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"blvnet_lab: {told(error)}")
    except KeyboardInterrupt:
        sys.exit("blvnet_lab: interrupted; what is finished stays, and is not done again")


def let_printing_never_fail() -> None:
    """Write what a terminal's alphabet lacks as \\u4e2d, and nothing where an output was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`, or a program without a terminal
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):  # those of notebooks take everything
            stream.reconfigure(errors="backslashreplace")


def printed(function: Callable) -> Callable[..., None]:
    """Print what a function of the library returns; its parameters are the options."""

    @tyro.conf.configure(tyro.conf.OmitArgPrefixes)
    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> None:
        print(function(*arguments, **options))

    return command


def commands(words: Sequence[str]) -> dict[str, Callable[..., None]]:
    """All commands by name; those that take a recipe have the preset's values as defaults."""
    from blvnet_lab.datasets.inventory import build_manifest
    from blvnet_lab.datasets.kinetics_subset import subset
    from blvnet_lab.datasets.motion import write_dataset
    from blvnet_lab.datasets.reencoding import reencode

    recipe = typed_preset(words)
    return {
        "course": course,
        "samples": printed(write_dataset),
        "cost": cost,
        "benchmark": benchmark,
        "staircase": staircase,
        "manifest": printed(build_manifest),
        "subset": printed(subset),
        "prepare": printed(reencode),
        "loader-benchmark": loader_benchmark,
        "train": train_command(recipe),
        "plan": plan_command(recipe),
        "evaluate": evaluate,
        "predict": predict,
        "import-official": import_official,
        "export": export,
        "instructor": instructor,
        "slides": slides,
    }


def run_typed(words: Sequence[str]) -> None:
    """Run the command that `words` begin with."""
    words = in_reach(words)
    known = commands(words)
    program, typed = "python -m blvnet_lab", "".join(words[:1])
    if typed in known:
        # Alone: a misspelled option is then answered with those of this command only.
        tyro.cli(known[typed], prog=f"{program} {typed}", args=words[1:])
    else:
        tyro.extras.subcommand_cli_from_dict(known, args=words, description=__doc__, prog=program)
