"""Graphs for other programs: taps as inputs and maps as outputs, and one step of a live network.

The oracles: the model itself with other taps in its parameters and `capture`, and the logits of
each pair or frame in the whole clip.
"""

import functools

import onnx
import onnxruntime
import pytest
import torch
from lab import type_command
from nets import assert_state, network, state_of, tam_resnet, tsm
from torch import nn

from blvnet_lab.deploy import export, export_stream, export_with_taps
from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.introspect import capture, tam_weights
from blvnet_lab.models import TAM, blvnet, blvnet_tam, capture_points, save_model, tsn

SIZE = (40, 48)
pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning"),
    pytest.mark.usefixtures("few_blocks"),
]


def new(builder, **arguments) -> nn.Module:
    return network(builder, **({"num_frames": 4} | arguments)).float()


@functools.cache
def opened(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What another program gets of the file, by name."""
    session = opened(path)
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: x.numpy() for name, x in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


def assert_near(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "builder, arguments, size",
    [
        (blvnet_tam, {"num_taps": 5}, None),
        (blvnet_tam, {"causal": True}, SIZE),
        (tsm, {"num_frames": 5}, SIZE),
        (blvnet, {}, SIZE),
    ],
)
def test_taps_go_in_and_maps_come_out(builder, arguments, size, tmp_path):
    model = new(builder, **arguments).train()
    before, path = state_of(model), tmp_path / "open.onnx"
    found = export_with_taps(model, path, size, {"classes": ["a"]})
    assert 0 <= found.deviation < 1e-5 and model.training
    assert found.inputs.startswith("random clips and taps, 2 x ")
    assert_state(model, before)
    notes = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert notes == {"classes": '["a"]'}
    rng = torch.Generator().manual_seed(3)
    clip = torch.randn(2, model.num_frames, 3, *(size or (75, 33)), generator=rng)
    tams = {name: m for name, m in model.eval().named_modules() if isinstance(m, TAM)}
    taps = {f"{name}.taps": torch.randn(m.taps.shape, generator=rng) for name, m in tams.items()}
    assert len(taps) == tam_weights(model).module.nunique() or not taps
    for name, tam in tams.items():
        tam.taps.data = taps[f"{name}.taps"]
    with torch.no_grad(), capture(model) as cache:
        expected = {"logits": model(clip), **cache}
    ours = run(path, clip=clip, **taps)
    assert list(ours) == ["logits", *capture_points(model)]
    for name, maps in expected.items():
        assert_near(ours[name], maps)


@pytest.mark.parametrize("builder, r", [(blvnet_tam, 4), (tam_resnet, 1), (tam_resnet, 3)])
def test_steps_are_those_of_the_whole_clip(builder, r, tmp_path):
    num_frames, path = 12, tmp_path / "live.onnx"
    model = new(builder, num_taps=r, causal=True, num_frames=num_frames)
    folded = optimize_for_inference(model) if model.pairs else model
    found = export_stream(folded, path, SIZE)
    each = 2 if model.pairs else 1
    assert 0 <= found.deviation < 1e-5 and found.agreement == 1
    assert found.inputs == f"20 steps of random frames, 2 x {each} x 3 x 40 x 48"
    clip = torch.randn(3, num_frames, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), capture(model, "classifier") as cache:
        model(clip)
    graph = onnx.load(path).graph
    assert not {"ScatterND", "ScatterElements"} & {node.op_type for node in graph.node}
    dims = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    inputs = {name: [axis.dim_value for axis in axes] for name, axes in dims.items()}
    assert inputs.pop("frames") == [0, each, 3, *SIZE] and bool(inputs) == (r > 1)
    state = {name: torch.zeros(3, *shape[1:]) for name, shape in inputs.items()}
    for frames, expected in zip(clip.split(each, 1), cache["classifier"].unbind(1), strict=True):
        outputs = run(path, frames=frames, **state)
        assert_near(outputs.pop("logits"), expected)
        state = {name.replace(".after", ".before"): maps for name, maps in outputs.items()}
        assert set(state) == set(inputs)


@pytest.mark.parametrize("write", [export_stream, export_with_taps])
def test_graph_that_computes_something_else_never_appears(write, tmp_path, monkeypatch):
    def mistaken(model):
        folded = optimize_for_inference(model)
        with torch.no_grad():
            folded.stem.conv.bias += 0.01
        return folded

    monkeypatch.setattr(export, "optimize_for_inference", mistaken)
    with pytest.raises(ValueError, match=r"got a deviation of .*nothing was written"):
        write(new(tam_resnet, causal=True, num_frames=2), tmp_path / "graph.onnx", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected a causal model, got a tsn that is not"):
        export_stream(new(tsn), tmp_path / "live.onnx")
    for write in (export_stream, export_with_taps):
        with pytest.raises(ValueError, match=r"that ends in \.onnx, got .*live\.pt2"):
            write(new(blvnet_tam, causal=True), tmp_path / "live.pt2")
    checkpoint = tmp_path / "model.safetensors"
    save_model(new(tam_resnet, causal=True), checkpoint)
    words = "export", checkpoint, tmp_path / "live.onnx", "--stream"
    with pytest.raises(SystemExit, match="expected --with-taps, --stream or --int8, got several"):
        type_command(monkeypatch, *words, "--with-taps")
    assert list(tmp_path.iterdir()) == [checkpoint]
    type_command(monkeypatch, *words, "--size", 40, 48)
    graph = onnx.load(tmp_path / "live.onnx").graph
    assert graph.input[0].name == "frames" and graph.output[0].name == "logits"
