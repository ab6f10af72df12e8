"""Models in files for other programs: the same logits, whatever the batch and the size."""

import functools
import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from lab import type_command
from nets import assert_state, network, state_of, tam_resnet, tsm
from torch import nn

from blvnet_lab import data, paths
from blvnet_lab.data import normalize
from blvnet_lab.deploy import command, export, int8
from blvnet_lab.deploy.export import export_model
from blvnet_lab.deploy.fold import optimize_for_inference
from blvnet_lab.models import blvnet, blvnet_tam, load_model, save_model, tsn, tsn_blnet
from blvnet_lab.models.sizes import SIZES, Size

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


@pytest.fixture(scope="module", autouse=True)
def few_blocks():
    """Exporting takes its time for every layer: no more of them than show every kind of block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", Size(8, (1, 2, 1, 1), (2, 2, 2, 1)))
        yield


MODELS = {
    "tsn": (tsn, {}),
    "tsm": (tsm, {"num_frames": 3}),
    "tam_resnet": (tam_resnet, {"num_frames": 3}),
    "tsn_blnet": (tsn_blnet, {"num_frames": 5}),
    "blvnet": (blvnet, {"in_channels": 10}),
    "blvnet_tam": (blvnet_tam, {"num_taps": 5}),
    "causal": (blvnet_tam, {"causal": True}),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network for any size, and the file of it, which is written once."""

    @functools.cache
    def write(name: str, ending: str) -> tuple[nn.Module, Path]:
        builder, arguments = MODELS[name]
        model = new(builder, **arguments)
        before, rng = state_of(model), torch.get_rng_state()
        path = tmp_path_factory.mktemp("exported") / "new" / f"model{ending}"
        found = export_model(model, path)
        assert torch.equal(torch.get_rng_state(), rng)
        assert 0 <= found.deviation < 1e-5
        frames, channels = model.num_frames, model.in_channels
        assert found.clips == [(3, frames, channels, 96, 64), (1, frames, channels, 75, 131)]
        assert model.training and not model.folded
        assert_state(model, before)
        return model, path

    return write


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", MODELS)
def test_same_logits_for_any_batch_and_size(name, ending, exported):
    model, path = exported(name, ending)
    sizes = ((1, (224, 224)), (3, (33, 112)), (2, (63, 47)))
    clip = model.num_frames, model.in_channels
    assert_same(path, model, *((batch, *clip, *size) for batch, size in sizes))
    assert list(path.parent.iterdir()) == [path]
    assert str(Path(export.__file__).parents[2]).encode() not in path.read_bytes()


@pytest.mark.parametrize("size", [None, (64, 64)])
def test_files_hold_operators_that_are_fast_and_known_everywhere(size, exported, tmp_path):
    files = {}
    for ending in (".onnx", ".pt2"):
        files[ending] = tmp_path / f"model{ending}" if size else exported("blvnet_tam", ending)[1]
        if size:
            export_model(new(blvnet_tam), files[ending], size)
    nodes = onnx.load(files[".onnx"]).graph.node
    found = Counter(node.op_type for node in nodes)
    slow = {"ScatterND", "Transpose", "Range", "Slice", "Pad", "Split", "Mul", "Expand"}
    assert not slow & set(found)
    # A frame is cut out of the clip once, and pairs are put together once they are pooled.
    assert found["Gather"] == FRAMES and found["Conv"] > FRAMES // 2 * 30
    enlarged = [node for node in nodes if node.op_type == "Resize"]
    assert len(enlarged) == 3 * FRAMES // 2  # by a factor (the third input) where sides are known
    assert all(bool(node.input[2]) == (size is not None) for node in enlarged)
    program = torch.export.load(files[".pt2"])
    (example,), _ = program.example_inputs
    assert example.shape[1:3] == (FRAMES, 3) and example.untyped_storage().nbytes() == 4
    targets = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in targets if re.search("index|scatter|addcmul|copy", name)]


def test_onnx_file_names_its_axes(exported, tmp_path):
    fixed = tmp_path / "model.onnx"
    export_model(new(tsn), fixed, (40, 56))
    files = (exported("tsn", ".onnx")[1], ["height", "width"]), (fixed, [40, 56])
    for path, sides in files:
        graph = onnx.load(path).graph
        onnx.checker.check_model(path, full_check=True)
        (clip,), (logits,) = graph.input, graph.output
        axes = [
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (clip, logits)
        ]
        assert (clip.name, logits.name) == ("clip", "logits")
        assert axes == [["batch", FRAMES, 3, *sides], ["batch", CLASSES]]


def test_fixed_size_may_be_small_and_refuses_others(tmp_path):
    model, path = new(blvnet_tam), tmp_path / "model.pt2"
    found = export_model(model, path, (24, 32))
    assert found.clips == [(3, FRAMES, 3, 24, 32), (1, FRAMES, 3, 24, 32)]
    assert_same(path, model, (2, FRAMES, 3, 24, 32))
    with pytest.raises(AssertionError, match="Guard failed"):
        runner(path)(torch.zeros(2, FRAMES, 3, 64, 64))
    export_model(new(tsn), path)
    with pytest.raises(AssertionError, match="Guard failed"):
        runner(path)(torch.zeros(2, FRAMES, 3, 16, 16))  # as the docstring says
    with pytest.raises(ValueError, match=r"at least 1, got \(0, 64\)"):
        export_model(model, path, (0, 64))


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_notes_stand_in_the_file(ending, tmp_path):
    path = tmp_path / f"model{ending}"
    for notes in ({"classes": ["a, b", "ö"], "mean": [0.5, 0.25]}, {}):
        export_model(new(tsn), path, (40, 48), notes)
        assert notes_of(path) == notes


def test_folded_and_compiled_and_double_models(tmp_path):
    path, size = tmp_path / "model.pt2", (40, 48)
    model, compiled, double = new(blvnet_tam), new(blvnet_tam), new(blvnet_tam).double()
    folded = optimize_for_inference(model)
    compiled.compile(backend="eager")
    for other in (folded, torch.compile(model), torch.compile(folded), compiled, double):
        assert export_model(other, path, size).deviation < 1e-5
        assert_same(path, model, (2, FRAMES, 3, *size))
    assert folded.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert double.stem.conv.weight.dtype == torch.double


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_file_that_computes_something_else_never_appears(ending, tmp_path, monkeypatch):
    path = tmp_path / f"model{ending}"
    path.write_text("what was there before")

    def mistaken(model):
        folded = optimize_for_inference(model)
        with torch.no_grad():
            folded.classifier.bias[0] += 0.01
        return folded

    with monkeypatch.context() as patch:
        patch.setattr(export, "optimize_for_inference", mistaken)
        with pytest.raises(ValueError, match=r"to 0\.0001 .* got a deviation of .*nothing was"):
            export_model(new(tsn), path)
    infinite = new(tsn)
    infinite.classifier.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="deviation of nan"):
        export_model(infinite, path)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "what was there before"


def test_what_is_no_model_of_ours(tmp_path):
    with pytest.raises(TypeError, match="blvnet_tam, got Linear"):
        export_model(nn.Linear(1, 1), tmp_path / "model.pt2")
    for name in ("model.pth", "model", "onnx"):
        with pytest.raises(ValueError, match=rf"\.onnx or \.pt2, got .*{name}"):
            export_model(new(tsn), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.safetensors"
    save_model(new(blvnet_tam), path, {"classes": [f"class {n}" for n in range(CLASSES)]})
    return path


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_command_says_how_exact_and_nothing_else(ending, checkpoint, tmp_path, monkeypatch, capfd):
    out = tmp_path / f"model{ending}"
    type_command(monkeypatch, "export", checkpoint, out, "--size", 48, 64)
    said, chatter = capfd.readouterr()
    checked, largest, took, wrote = said.splitlines()
    assert checked == "checked on random clips, 3 x 4 x 3 x 48 x 64, 1 x 4 x 3 x 48 x 64"
    assert largest.startswith("largest deviation ") and float(largest.split()[2]) < 1e-5
    assert re.fullmatch(r"the last took \S+ s, in PyTorch \S+ s", took)
    assert (wrote, chatter) == (f"wrote {out}", "")
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
    with pytest.raises(
        SystemExit, match=f"there is no {lacking}: pip install {lacking} .*`export`"
    ):
        type_command(monkeypatch, "export", checkpoint, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    type_command(monkeypatch, "export", checkpoint, tmp_path / "model.pt2", "--size", 48, 64)
    assert (tmp_path / "model.pt2").is_file()


# ---------------------------------------------------------------- eight bits


def test_int8_file_is_near_its_model_on_clips_of_its_own(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setitem(SIZES, "tiny", TINY)  # as trained
    samples = paths.data_samples()
    trained, manifest = (
        samples / "checkpoints/blvnet_tam.safetensors",
        samples / "motion/manifest.csv",
    )
    out = tmp_path / "int8.onnx"
    for words, why in ((["--int8"], "with --calibrate"), (["--calibrate", manifest], "int8=False")):
        with pytest.raises(SystemExit, match=why):
            type_command(monkeypatch, "export", trained, out, *words)
    words = "--int8", "--calibrate", tmp_path  # never read
    with pytest.raises(SystemExit, match=r"ends in \.onnx, got .*int8\.pt2"):
        type_command(monkeypatch, "export", trained, out.with_suffix(".pt2"), *words)
    monkeypatch.setattr(command, "CALIBRATION_CLIPS", 40)
    type_command(monkeypatch, "export", trained, out, "--int8", "--calibrate", manifest)
    assert "checked on 20 of the clips, which calibration has not seen" in capsys.readouterr().out
    assert "pre-processing" not in caplog.text
    graph = onnx.load(out).graph
    kinds = Counter(tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4)
    assert set(kinds) == {onnx.TensorProto.INT8}
    scales = [t for t in graph.initializer if t.name.endswith("stem.conv.weight_scale")]
    assert [list(scale.dims) for scale in scales] == [[8]], "one for each channel"
    notes = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(notes["classes"])[0] == "moves_right"
    motion = data.DataSet.read(manifest)
    clips, labels = data.load_clips(
        motion, "val", 8, data.evaluation_transform((64, 64)), per_class=5
    )
    found = torch.cat([runner(out)(clip) for clip in clips.split(1)])
    assert (found.argmax(1) == labels).float().mean() > 0.95
    monkeypatch.setattr(int8, "INT8_TOLERANCE", 1e-6)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"in int8 within 1e-06 .*nothing was written"):
        int8.export_int8(load_model(trained), out, clips[:4].double())
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]
    with pytest.raises(ValueError, match="at least 2 clips to calibrate with, got 1"):
        int8.export_int8(load_model(trained), out, clips[:1])
    with pytest.raises(ValueError, match=r"expected a clip \(B, T=8, C=3, H, W\) float, got"):
        int8.export_int8(load_model(trained), out, clips[:4, :4])
