"""Networks compiled for the processor: the same logits, one package, and no silent surprise."""

import contextlib
import copy
from pathlib import Path

import pytest
import torch
from lab import type_command
from nets import network, randomized, tam_resnet, tiny

from blvnet_lab import data, introspect, paths, threads, viz
from blvnet_lab.deploy import Stream, compile_for_inference, inference, keep_memory
from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.models import blvnet_tam, tsn
from blvnet_lab.models.networks import SIZES
from blvnet_lab.runs import evaluate

pytestmark = pytest.mark.usefixtures("few_blocks")
SIZE, TINY = (40, 48), SIZES["tiny"]


def clips_for(model, count: int) -> torch.Tensor:
    """Clips whose numbers do not lie as they are counted, as those of pictures."""
    rng = torch.Generator().manual_seed(3)
    shape = (count, model.num_frames, *SIZE, model.in_channels)
    return torch.randn(shape, generator=rng).permute(0, 1, 4, 2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packages")


def deviation(found, wanted) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize(
    "builder, precision, most", [(tam_resnet, "float32", 1e-5), (blvnet_tam, "bfloat16", 0.05)]
)
def test_logits_are_the_networks_whatever_the_number_of_clips(builder, precision, most, folder):
    model = network(builder, num_frames=4, num_taps=5).float()
    fast = compile_for_inference(model, SIZE, precision, batch=2, folder=folder)
    for count in (1, 3):
        clips = clips_for(model, count)
        with torch.no_grad():
            wanted = model(clips)
        found = fast(clips)
        assert found.dtype == torch.float32 and deviation(found, wanted) < most
    assert fast.deviation < most and not model.folded


@pytest.mark.parametrize("builder, num_taps", [(blvnet_tam, 4), (tam_resnet, 3)])
def test_stream_keeps_the_past(builder, num_taps, folder):
    model = network(builder, causal=True, num_frames=4, num_taps=num_taps)
    stream, width = Stream(model), 1 + model.pairs
    fast = compile_for_inference(Stream(copy.deepcopy(model).float()), SIZE, batch=2, folder=folder)
    for _ in range(2):  # with nothing left of the time before
        for part in clips_for(model, 2).repeat(1, 2, 1, 1, 1).split(width, 1):
            assert deviation(fast(part), stream(part.double())) < 1e-5
        stream.reset(), fast.reset()
    with pytest.raises(ValueError, match="2 pairs at once, as compiled, got 1"):
        fast(part[:1])


def quick() -> torch.nn.Module:
    """Compiled once for all the tests below."""
    return randomized(tiny(tsn, num_frames=2)).float()


@contextlib.contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_package_is_found_again_by_the_same_network_only(folder, monkeypatch):
    model = quick()
    model.dropout.p = 0.5
    first = compile_for_inference(model, SIZE, folder=folder)
    written = first.file.read_bytes()

    def never(*_, **__):
        raise RuntimeError("no such compiler\nat all")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", never)
    again = compile_for_inference(copy.deepcopy(model), SIZE, folder=folder)
    assert again.file == first.file and first.file.read_bytes() == written
    clip = clips_for(model, 1)
    assert torch.equal(first(clip), again(clip))
    folded = optimize_for_inference(model).train()
    for around in (torch.autocast("cpu", torch.bfloat16), torch.device("meta"), float64()):
        with around:
            assert compile_for_inference(folded, SIZE, folder=folder).file == first.file
    other = copy.deepcopy(model)
    other.stage1[0].conv1.weight.data[0, 0] += 1e-3
    files = sorted(folder.iterdir())
    for changed, size in ((other, SIZE), (model, (48, 40))):
        with pytest.raises(ValueError, match=r"C\+\+ compiler .*no such compiler: install"):
            compile_for_inference(changed, size, folder=folder)
    monkeypatch.setattr(torch, "__version__", "0.0")
    with pytest.raises(ValueError, match="optimize_for_inference, which needs none"):
        compile_for_inference(model, SIZE, folder=folder)
    assert sorted(folder.iterdir()) == files, "nothing half done is left"
    monkeypatch.undo()
    first.file.write_bytes(written[:1000])
    with pytest.raises(ValueError, match=rf"expected {first.file} to be a whole .*: delete it, "):
        compile_for_inference(model, SIZE, folder=folder)
    first.file.write_bytes(written)


def test_what_computes_something_else_is_refused(folder, monkeypatch):
    model = quick()
    file = compile_for_inference(model, SIZE, folder=folder).file
    right = torch._inductor.aoti_load_package
    monkeypatch.setattr(
        torch._inductor, "aoti_load_package", lambda name: lambda clip: right(name)(clip) + 0.01
    )
    with pytest.raises(ValueError, match=r"to 0\.0001 of the largest, got a deviation of"):
        compile_for_inference(model, SIZE, folder=folder)
    assert file.is_file()
    silent = quick()
    silent.classifier.requires_grad_(False).weight[:] = 0
    written = lambda *_, package_path, **__: Path(package_path).touch()  # noqa: E731
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", written)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda name: silent)
    assert compile_for_inference(silent, SIZE, folder=folder).deviation == 0


class Shifted(torch.nn.Module):
    def __init__(self, shift: float):
        super().__init__()
        self.shift = torch.tensor(shift)  # no parameter, as what `edit` puts in

    def forward(self, clips):
        return clips + self.shift


def test_mark_knows_all_numbers():
    programs = [torch.export.export(Shifted(x), (torch.zeros(2),)) for x in (1, 2, 2)]
    one, two, again = map(inference._digest, programs)
    assert one != two == again


def test_it_says_what_it_cannot_do(folder):
    model = quick()
    fast = compile_for_inference(model, SIZE, folder=folder)
    clip = clips_for(model, 1)
    for wrong in (clip[..., 1:], clip[:, 1:], clip[0], clip.byte()):
        with pytest.raises(ValueError, match=r"\(B, 2, 3, 40, 48\) float on the CPU, .*normalize"):
            fast(wrong)
    with pytest.raises(ValueError, match="expected a precision of float32, bfloat16, got float16"):
        compile_for_inference(model, SIZE, "float16", folder=folder)
    for look in (introspect.capture(fast), introspect.edit(fast, {"*": introspect.zero})):
        with pytest.raises(TypeError, match="got CompiledNet: give the network itself"), look:
            fast(clip)
    with pytest.raises(TypeError, match=r"expected a model from tsn, .*, got Linear"):
        compile_for_inference(torch.nn.Linear(1, 1), SIZE, folder=folder)


def test_it_says_how_to_keep_packages_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()  # a file, in which nobody can write another
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"keep compiled .*cache/blvnet_lab.*: name one .*XDG_CACHE"):
        compile_for_inference(tiny(tsn), SIZE)


def test_memory_is_kept_unless_the_environment_says_otherwise(monkeypatch):
    asked = []

    class Library:
        def __init__(self, name):
            self.mallopt = lambda *what: asked.append(what) or what[0] != threads.M_MMAP_THRESHOLD

    monkeypatch.setattr(threads.ctypes, "CDLL", Library)
    monkeypatch.setattr(threads.platform, "libc_ver", lambda: ("glibc", "2.31"))
    assert keep_memory()
    assert asked == [(-3, 1 << 30), (-4, 0), (-1, 1 << 30)], "an old one, which maps nothing now"
    with monkeypatch.context() as patch:
        patch.setenv("MALLOC_MMAP_MAX_", "131072")
        assert not keep_memory() and len(asked) == 3
    monkeypatch.setattr(threads.platform, "libc_ver", lambda: ("", ""))
    assert not keep_memory() and len(asked) == 3


SAMPLES = paths.data_samples()
CAUSAL = SAMPLES / "checkpoints" / "blvnet_tam_causal.safetensors"
VIDEO = SAMPLES / "motion" / "val" / "right_then_left" / "val_3_0000.mp4"


def test_commands_compute_with_the_compiled_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SIZES, "tiny", TINY)  # as trained
    asked, own = [], {}

    def as_compiled(model, size, precision, *, batch=1):
        asked.append((type(model).__name__, size, precision, batch))
        own[len(asked)] = copy.deepcopy(model)
        return own[len(asked)]

    monkeypatch.setattr(evaluate, "compile_for_inference", as_compiled)
    monkeypatch.setattr(viz.explorers.live, "compile_for_inference", as_compiled)
    words = "--timeline", 1, "--window", 2, "--fast", "bfloat16"
    type_command(monkeypatch, "predict", CAUSAL, VIDEO, *words)
    assert asked == [("Stream", (64, 64), "bfloat16", 1), ("BigLittleNet", (64, 64), "bfloat16", 1)]
    motion = data.DataSet.read(SAMPLES / "motion" / "manifest.csv")
    manifest = motion.with_rows(motion.rows[::20]).save(tmp_path / "few" / "manifest.csv")
    words = "--fast", "float32", "--playing", "reversed", "--out", tmp_path, "--batch-size", 100
    type_command(monkeypatch, "evaluate", CAUSAL, manifest, *words)
    assert asked[2:] == [("BigLittleNet", (64, 64), "float32", 100)]
    assert '"compiled": true' in (tmp_path / "scores.json").read_text()
    assert "reversed" in capsys.readouterr().out
    view = viz.LiveView(own[2], str(VIDEO), stride=3, fast="float32")
    assert asked[3:] == [("Stream", (64, 64), "float32", 1)]
    view.position.value = 20
    assert len(view.scores) == 10
    with pytest.raises(SystemExit, match='clips of split "test", got none'):
        words = "--fast", "float32", "--split", "test"
        type_command(monkeypatch, "evaluate", CAUSAL, manifest, *words)
    assert not asked[4:], "mistakes are found before the minute that compiling takes"
    with pytest.raises(SystemExit, match="precision or fast, got bfloat16 and float32"):
        words = "--fast", "float32", "--precision", "bfloat16"
        type_command(monkeypatch, "evaluate", CAUSAL, manifest, *words)
    monkeypatch.setattr(evaluate, "pick_device", lambda: torch.device("cuda"))
    with pytest.raises(SystemExit, match=r"no GPU with fast, .* got cuda: leave fast out"):
        type_command(monkeypatch, "predict", CAUSAL, VIDEO, "--fast", "float32")
