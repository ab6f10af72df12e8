"""Models in files for other programs: the same logits, whatever the batch and the size."""

import functools
import importlib.util
import json
import logging
import re
import sys
import time
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from lab import type_command
from nets import assert_state, network, state_of, tam_resnet
from torch import nn

from blvnet_lab import data, paths
from blvnet_lab.data import normalize
from blvnet_lab.deploy import export, variants
from blvnet_lab.deploy.export import export_model
from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.models import blvnet, blvnet_tam, load_model, save_model, tsn, tsn_blnet
from blvnet_lab.models.networks import SIZES

pytestmark = pytest.mark.usefixtures("few_blocks")
FRAMES, CLASSES = 4, 5
TINY = SIZES["tiny"]


def new(builder, **arguments) -> nn.Module:
    """A tiny network with random values, in float32 and training mode, as built."""
    return network(builder, **({"num_frames": FRAMES} | arguments)).float().train()


def runner(path: Path):
    """What another program does with the file."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda clip: torch.from_numpy(session.run(["logits"], {"clip": clip.numpy()})[0])


def notes_of(path: Path) -> dict:
    """What the file says of itself, as the docstring of `export` reads it."""
    if path.suffix == ".pt2":
        files = {"notes.json": ""}
        torch.export.load(path, extra_files=files)
        return json.loads(files["notes.json"])
    entries = onnx.load(path).metadata_props
    own = [entry for entry in entries if not entry.key.startswith("onnx.")]  # not the quantizer's
    return {entry.key: json.loads(entry.value) for entry in own}


def assert_same(path: Path, model: nn.Module, *shapes: tuple[int, ...]) -> None:
    run = runner(path)
    for shape in shapes:
        clip = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            logits, found = model.eval()(clip), run(clip)
        assert found.shape == logits.shape == (shape[0], CLASSES)
        assert (found - logits).abs().max() < 1e-5 * logits.abs().max()


MODELS = {  # test_graphs.py has a shift and a causal network
    "tsn": (tsn, {}),
    "tam_resnet": (tam_resnet, {"num_frames": 3}),
    "tsn_blnet": (tsn_blnet, {"num_frames": 5}),
    "blvnet": (blvnet, {"in_channels": 10}),
    "blvnet_tam": (blvnet_tam, {"num_taps": 5}),
}
PROGRAMS = ("tsn", "tam_resnet", "tsn_blnet", "blvnet_tam")  # the other one is recorded like these
FILES = [(name, ".onnx") for name in MODELS] + [(name, ".pt2") for name in PROGRAMS]
FIXED = (64, 96)
NOTES = {"classes": ["a, b", "ö"], "mean": [0.5, 0.25]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, and the file of it, which is written once."""

    @functools.cache
    def write(name: str, ending: str, size: tuple | None) -> tuple[nn.Module, Path]:
        builder, arguments = MODELS[name]
        model = new(builder, **arguments)
        before, rng = state_of(model), torch.get_rng_state()
        path = tmp_path_factory.mktemp("exported") / "new" / f"model{ending}"
        with pytest.MonkeyPatch.context() as patch:
            # Of this one it is seen that no path of this machine is left in the file.
            patch.setattr(torch.fx.config, "do_not_emit_stack_traces", name != "tsn", False)
            found = export_model(model, path, size, NOTES)
        assert torch.equal(torch.get_rng_state(), rng)
        assert 0 <= found.deviation < 1e-5 and found.agreement == 1
        clips = f"{model.num_frames} x {model.in_channels}"
        if size is None:
            assert found.inputs == f"random clips, 3 x {clips} x 96 x 64, 1 x {clips} x 75 x 131"
        assert model.training and not model.folded
        assert_state(model, before)
        return model, path

    return write


@pytest.mark.parametrize("name, ending", FILES)
def test_same_logits_for_any_batch_and_size(name, ending, exported):
    model, path = exported(name, ending, None)
    sizes = ((1, (224, 224)), (3, (33, 112)), (2, (63, 47)))
    clip = model.num_frames, model.in_channels
    assert_same(path, model, *((batch, *clip, *size) for batch, size in sizes))
    assert list(path.parent.iterdir()) == [path]
    assert str(Path(export.__file__).parents[2]).encode() not in path.read_bytes()
    assert notes_of(path) == NOTES


@pytest.mark.parametrize("size", [None, FIXED])
def test_onnx_holds_operators_that_are_fast_and_known_everywhere(size, exported):
    nodes = onnx.load(exported("blvnet_tam", ".onnx", size)[1]).graph.node
    found = Counter(node.op_type for node in nodes)
    slow = {"ScatterND", "Transpose", "Range", "Slice", "Pad", "Split", "Mul", "Expand"}
    assert not slow & set(found)
    # A frame is cut out of the clip once, and pairs are put together once they are pooled.
    assert found["Gather"] == FRAMES and found["Conv"] > FRAMES // 2 * 30
    enlarged = [node for node in nodes if node.op_type == "Resize"]
    assert len(enlarged) == 3 * FRAMES // 2  # by a factor (the third input) where sides are known
    assert all(bool(node.input[2]) == (size is not None) for node in enlarged)


def test_program_holds_no_operators_that_are_slow_and_no_clip(exported):
    program = torch.export.load(exported("blvnet_tam", ".pt2", None)[1])
    (example,), _ = program.example_inputs
    assert example.shape[1:3] == (FRAMES, 3) and example.untyped_storage().nbytes() == 4
    targets = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in targets if re.search("index|scatter|addcmul|copy", name)]


@pytest.mark.parametrize("size, sides", [(None, ["height", "width"]), (FIXED, [*FIXED])])
def test_onnx_file_names_its_axes(size, sides, exported):
    path = exported("blvnet_tam", ".onnx", size)[1]
    graph = onnx.load(path).graph
    onnx.checker.check_model(path, full_check=True)
    (clip,), (logits,) = graph.input, graph.output
    shapes = (value.type.tensor_type.shape.dim for value in (clip, logits))
    axes = [[axis.dim_param or axis.dim_value for axis in dims] for dims in shapes]
    assert (clip.name, logits.name) == ("clip", "logits")
    assert axes == [["batch", FRAMES, 3, *sides], ["batch", CLASSES]]


def test_fixed_size_may_be_small_and_refuses_others(exported):
    small = (24, 32)
    model, path = exported("tsn_blnet", ".pt2", small)
    assert_same(path, model, (2, model.num_frames, 3, *small))
    for file, size in ((path, (64, 64)), (exported("tsn_blnet", ".pt2", None)[1], (16, 16))):
        with pytest.raises(AssertionError, match="Guard failed"):
            runner(file)(torch.zeros(2, model.num_frames, 3, *size))  # as the docstring says


def test_folded_and_compiled_and_double_models(tmp_path):
    path, size = tmp_path / "model.pt2", (40, 48)
    model, double = new(tsn), new(tsn).double()
    folded = optimize_for_inference(model)
    double.compile(backend="eager")
    for other in (folded, torch.compile(folded), double):
        assert export_model(other, path, size).deviation < 1e-5
        assert_same(path, model, (2, FRAMES, 3, *size))
    assert folded.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert double.stem.conv.weight.dtype == torch.double


@pytest.mark.parametrize("ending, mistake", [(".onnx", 0.01), (".pt2", torch.nan)])
def test_file_that_computes_something_else_never_appears(ending, mistake, tmp_path, monkeypatch):
    path = tmp_path / f"model{ending}"
    path.write_text("what was there before")

    def mistaken(model):
        folded = optimize_for_inference(model)
        folded.classifier.bias[0] += mistake
        return folded

    monkeypatch.setattr(export, "optimize_for_inference", mistaken)
    with pytest.raises(ValueError, match=r"to 0\.0001 .* got a deviation of .*nothing was"):
        export_model(new(tsn), path, (40, 48))
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "what was there before"


@pytest.mark.parametrize("wrong", [0.1, torch.nan])
@pytest.mark.parametrize("where", [0, 1])
def test_one_wrong_number_is_a_deviation_wherever_it_is(where, wrong):
    wanted = [torch.ones(2), torch.full((3,), -4.0)]
    found = [each.clone() for each in wanted]
    assert export.deviation(found, wanted) == 0
    found[where][1] += wrong
    assert not export.deviation(found, wanted) < 0.02


def test_opened_file_leaves_the_processor_to_what_runs_next(exported, monkeypatch):
    model, path = exported("tsn", ".onnx", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # one of them is ONNX Runtime's
    run, clip = export.runner(path), torch.zeros(1, model.num_frames, 3, 64, 64)
    run(clip)
    spent = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - spent < 0.01  # not a time, but work: a thread that spins has 0.03


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.safetensors"
    save_model(new(tsn), path, {"classes": [f"class {n}" for n in range(CLASSES)]})
    return path


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_command_says_how_exact_and_nothing_else(ending, checkpoint, tmp_path, monkeypatch, capfd):
    out = tmp_path / f"model{ending}"
    type_command(monkeypatch, "export", checkpoint, out, "--size", 48, 64)
    said, chatter = capfd.readouterr()
    checked, largest, took, wrote = said.splitlines()
    words = "checked on random clips, 3 x 4 x 3 x 48 x 64, 1 x 4 x 3 x 48 x 64: the same class for"
    assert checked == f"{words} 100.0 %,"
    assert largest.startswith("largest deviation ") and float(largest.split()[2]) < 1e-5
    assert re.fullmatch(r"the last took \S+ s, in PyTorch \S+ s", took)
    assert wrote.startswith(f"wrote {out}, ") and chatter == ""
    assert_same(out, load_model(checkpoint), (2, FRAMES, 3, 48, 64))
    notes = notes_of(out)
    assert notes.pop("classes") == [f"class {n}" for n in range(CLASSES)]
    # That these are the numbers by which the library makes pictures into input:
    mean, std = (torch.tensor(notes.pop(name))[:, None, None] for name in ("mean", "std"))
    frames = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    torch.testing.assert_close((frames / 255 - mean) / std, normalize(frames))
    assert notes == {}


def test_misspelled_option_is_answered_with_those_of_its_command(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        type_command(monkeypatch, "plan", "--batch-sze", 3)
    said = capsys.readouterr().err
    words = "--batch-sze", "--batch-size", "python -m blvnet_lab plan --help"
    assert all(word in said for word in words) and "train" not in said


def test_command_explains_what_it_cannot_do(checkpoint, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:1000])
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    for given, out, words in (
        (checkpoint, tmp_path / "model.tflite", r"ends in \.onnx or \.pt2, got .*model\.tflite"),
        (checkpoint, folder, "expected a file, not a folder, that ends in"),
        (damaged, tmp_path / "model.onnx", "damaged.safetensors: expected a safetensors file"),
        (tmp_path / "none.safetensors", tmp_path / "model.onnx", "there is no file"),
    ):
        with pytest.raises(SystemExit, match=words) as error:
            type_command(monkeypatch, "export", given, out)
        assert str(error.value).startswith("blvnet_lab: ")
    assert sorted(tmp_path.iterdir()) == [damaged, folder] and not list(folder.iterdir())


@pytest.mark.parametrize("lacking", ["onnxruntime", "onnxscript"])
def test_without_the_packages_for_onnx(lacking, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, lacking, None)  # as if it were not installed
    assert importlib.util.find_spec(lacking) is None
    with pytest.raises(SystemExit, match=f"no {lacking}: pip install {lacking} .*`export`"):
        type_command(monkeypatch, "export", checkpoint, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


SAMPLES = paths.data_samples()
TRAINED, MANIFEST = SAMPLES / "checkpoints/blvnet_tam.safetensors", SAMPLES / "motion/manifest.csv"


def test_int8_file_is_near_its_model_on_clips_of_its_own(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setitem(SIZES, "tiny", TINY)  # as trained
    monkeypatch.setattr(variants, "CALIBRATION_CLIPS", 20)
    out = tmp_path / "int8.onnx"
    type_command(monkeypatch, "export", TRAINED, out, "--int8", "--calibrate", MANIFEST)
    assert "checked on 10 of the clips, which calibration has not seen" in capsys.readouterr().out
    assert "pre-processing" not in caplog.text
    graph = onnx.load(out).graph
    kinds = Counter(tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4)
    assert set(kinds) == {onnx.TensorProto.INT8}
    scales = [t for t in graph.initializer if t.name.endswith("stem.conv.weight_scale")]
    assert [list(scale.dims) for scale in scales] == [[8]], "one for each channel"
    assert notes_of(out)["classes"][0] == "moves_right"
    motion, transform = data.DataSet.read(MANIFEST), data.evaluation_transform((64, 64))
    clips, labels = data.load_clips(motion, "val", 8, transform, per_class=5)
    run = runner(out)
    found = torch.cat([run(clip) for clip in clips.split(1)])
    assert (found.argmax(1) == labels).float().mean() > 0.95


def test_int8_file_that_is_far_from_its_model_never_appears(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(variants, "INT8_TOLERANCE", 1e-6)
    monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)  # the user's own choice
    model, clips = new(tsn), torch.randn(4, FRAMES, 3, 40, 48)
    out = tmp_path / "int8.onnx"
    for given, words in (
        (clips.double(), r"to 1e-06 of the largest, .*without --int8; nothing was written"),
        (clips[:1], "at least 2 clips to calibrate with, got 1"),
        (clips[:, :3], r"expected a clip \(B, T=4, C=3, H, W\) float, got"),
    ):
        with pytest.raises(ValueError, match=words):
            variants.export_int8(model, out, given)
    assert list(tmp_path.iterdir()) == [] and logging.root.manager.disable == logging.INFO
    assert "\r" not in capsys.readouterr().err, "in a log no bar that is drawn over and over"


def test_int8_is_calibrated_with_clips_of_every_class(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", TINY)
    monkeypatch.setattr(variants, "CALIBRATION_CLIPS", 5)  # fewer than there are classes
    given = []
    monkeypatch.setattr(variants, "export_int8", lambda *arguments: given.append(arguments[2]))
    words = "--int8", "--calibrate", MANIFEST
    type_command(monkeypatch, "export", TRAINED, tmp_path / "int8.onnx", *words)
    assert given[0].labels.tolist() == [label for label in range(10) for _ in range(2)]
    out = tmp_path / "int8.pt2"
    for words, why in (
        (["--int8"], "with --calibrate"),
        (["--calibrate", MANIFEST], "int8=False"),
        (["--int8", "--calibrate", tmp_path], r"ends in \.onnx, got .*int8\.pt2"),  # never read
    ):
        with pytest.raises(SystemExit, match=why):
            type_command(monkeypatch, "export", TRAINED, out, *words)
