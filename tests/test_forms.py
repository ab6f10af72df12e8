"""The other forms of the networks: as published, folded, compiled, checkpointed, causal, streamed.

Each form must compute what the plain model computes, which tests/test_models.py and
tests/test_official.py compare with PyTorch's own operations and with the published logits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from nets import (
    BUILDERS,
    EXACT,
    FEW_BLOCKS,
    assert_state,
    count_hooks,
    network,
    random64,
    state_of,
    tam_resnet,
    tiny,
    tsm,
    watched,
)
from test_official import CASES, assert_published_logits, model_of, official_state
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from blvnet_lab.benchmark.peers import PublishedTAM, published_form
from blvnet_lab.deploy.inference import ConvReLU, optimize_for_inference
from blvnet_lab.deploy.live import PastMaps, Stream
from blvnet_lab.introspect import capture, edit, edit_taps, identity_taps, tam_weights, zero
from blvnet_lab.introspect.capture import edit_clip
from blvnet_lab.models import (
    TAM,
    PairTAM,
    VideoNet,
    blvnet,
    blvnet_tam,
    capture_points,
    fast,
    load_model,
    save_model,
    tsn,
    tsn_blnet,
)
from blvnet_lab.models.networks import SIZES
from blvnet_lab.runs.memory import kept_for_backward
from blvnet_lab.weights.official import load_official

every_network = pytest.mark.parametrize(
    "builder, arguments",
    [*((builder, {}) for builder in BUILDERS), (blvnet_tam, {"causal": True})],
    ids=[*(builder.__name__ for builder in BUILDERS), "causal"],
)


def close_in_float32(ours: torch.Tensor, expected: torch.Tensor) -> bool:
    """To 1e-5 of the largest."""
    return bool((ours - expected).abs().max() <= 1e-5 * expected.abs().max())


def modes(model: nn.Module) -> list[tuple[str, type, bool]]:
    return [(name, type(module), module.training) for name, module in model.named_modules()]


def no_network(model: nn.Module) -> list:
    """What is not one of the networks, though the second looks like `model`."""
    return [nn.Linear(2, 2), torch.compile(model), None]


@pytest.mark.parametrize("form", [published_form, optimize_for_inference])
@pytest.mark.parametrize("case", CASES)
def test_other_forms_give_the_published_logits(case, form):
    model = model_of(case)
    load_official(model, official_state(case))
    assert_published_logits(form(model), case)


def assert_same_function(form: nn.Module, model: nn.Module, clips: torch.Tensor) -> None:
    """Logits and the gradient of the clips (B, T, C, H, W)."""
    clips = clips.requires_grad_()
    ours, plain = form(clips), model(clips)
    torch.testing.assert_close(ours, plain, **EXACT)
    grad_ours, grad_plain = (torch.autograd.grad(x.square().sum(), clips)[0] for x in (ours, plain))
    assert grad_plain.abs().max() > 1e-3
    torch.testing.assert_close(grad_ours, grad_plain, **EXACT)


@pytest.mark.parametrize("r", [1, 3, 5])
def test_published_form_equals_the_model(r):
    model, clips = network(num_taps=r), random64(2, 8, 3, 48, 40)
    published = published_form(model)
    assert_same_function(published, model, clips)
    alone = torch.cat([published(clip[None]) for clip in clips])
    torch.testing.assert_close(alone, published(clips), **EXACT)


def test_published_form_keeps_the_mode():
    """In train mode batch norms see the same maps in both, and have the same statistics."""
    model, clips = network(num_frames=4, dropout=0.0).train(), random64(2, 4, 3, 48, 40)
    published = published_form(model)
    assert all(module.training for module in published.modules())
    torch.testing.assert_close(published(clips), model(clips), rtol=0, atol=1e-10)
    ours, same = published.net.stage4[1].bn3, model.stage4[1].bn3
    torch.testing.assert_close(ours.running_var, same.running_var, **EXACT)
    assert not any(module.training for module in published_form(model.eval()).modules())


def test_published_form_copies_maps_to_both_frames():
    published = published_form(network(num_frames=8))
    seen = watched(published)
    published(random64(3, 8, 3, 32, 32))
    maps, frames, pairs = {name: len(output) for name, output in seen.items()}, 3 * 8, 3 * 4
    for stage in ("net.stage1", "net.stage2", "net.stage3"):
        assert maps[f"{stage}.tam"] == maps[f"{stage}.tam.taps.0"] == frames
        assert maps[f"{stage}.fusion"] == maps[f"{stage}.little"] == pairs
    assert maps["net.stem.tam"] == maps["net.stem.conv"] == frames
    assert {maps[f"net.stage4.{name}"] for name in ("0.conv1", "0.tam", "1.tam")} == {pairs}
    assert len([m for m in published.modules() if isinstance(m, PublishedTAM)]) == 6
    assert not any(isinstance(m, TAM) for m in published.modules())


def test_published_form_has_copies_of_the_weights_where_the_model_is():
    model = network()
    before, published = state_of(model), published_form(model)
    with torch.no_grad():
        for tensor in published.state_dict().values():
            tensor.add_(1)
    assert_state(model, before)
    for model in (tiny(blvnet_tam).bfloat16(), tiny(blvnet_tam).to("meta")):
        (kind,) = {(p.dtype, p.device) for p in model.parameters()}
        assert {(p.dtype, p.device) for p in published_form(model).parameters()} == {kind}


def test_published_form_of_other_networks():
    others = {builder.__name__: tiny(builder) for builder in (tsn, tsn_blnet, blvnet)}
    others |= {type(thing).__name__: thing for thing in no_network(tiny(blvnet_tam))}
    for name, thing in others.items():
        with pytest.raises(TypeError, match=f"blvnet_tam, got {name}: only that"):
            published_form(thing)
    with pytest.raises(ValueError, match="TAMs look ahead too, got a causal one"):
        published_form(tiny(blvnet_tam, causal=True))


@every_network
def test_folded_equals_the_model(builder, arguments):
    """And is near it in half precision."""
    model, clips = network(builder, **arguments), random64(2, 8, 3, 48, 40)
    folded = optimize_for_inference(model)
    assert_same_function(folded, model, clips)
    with torch.no_grad():
        expected, logits = model(clips), folded.to(torch.bfloat16)(clips.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert (logits.double() - expected).abs().max() < 0.1 * expected.abs().max()


@every_network
def test_folded_leaves_the_original_alone(builder, arguments):
    model = network(builder, **arguments).train()
    model.stem.bn.eval()  # some of it trains, some does not
    model.stem.conv.weight.requires_grad_(False)
    model.set_grad_checkpointing()

    def facts():
        layouts = [(p.requires_grad, p.stride(), p.data_ptr()) for p in model.parameters()]
        return modes(model), layouts, model.folded, model.grad_checkpointing

    before, known = state_of(model), facts()
    folded = optimize_for_inference(model)
    folded(random64(2, 8, 3, 32, 32))
    with torch.no_grad():
        for tensor in folded.state_dict().values():
            tensor.zero_()
    assert facts() == known
    assert_state(model, before)


@every_network
def test_nothing_is_left_between_a_convolution_and_its_relu(builder, arguments):
    model = network(builder, **arguments).train()
    folded = optimize_for_inference(model)

    def count(net: nn.Module, kind: type) -> int:
        return sum(isinstance(module, kind) for module in net.modules())

    assert count(model, nn.BatchNorm2d) == count(model, nn.Conv2d) == count(folded, nn.Conv2d)
    assert count(folded, nn.BatchNorm2d) == count(folded, nn.ReLU) == 0
    assert count(folded, ConvReLU) == count(model, nn.ReLU) > 8  # every one is behind a batch norm
    assert folded.folded and not any(module.training for module in folded.modules())
    assert not any(p.requires_grad for p in folded.parameters())
    for name, module in folded.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None, name
            assert module.weight.is_contiguous(memory_format=torch.channels_last), name
    assert not model.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
    out = folded.stem.conv(random64(2, 3, 32, 32))
    assert out.is_contiguous(memory_format=torch.channels_last) and out.min() == 0


@every_network
def test_folded_is_captured_and_edited_as_the_model_is(builder, arguments):
    model, clips = network(builder, num_frames=4, **arguments), random64(2, 4, 3, 64, 64)
    folded = optimize_for_inference(model)
    with torch.no_grad(), capture(model) as expected, capture(folded) as ours:
        plain, _ = model(clips), folded(clips)
    assert list(ours) == list(expected) and set(ours) == set(capture_points(model))
    for name, maps in expected.items():
        assert maps.abs().max() > 1e-2, name
        torch.testing.assert_close(ours[name], maps, rtol=1e-10, atol=1e-12)
        logits = []
        for net in (model, folded):
            with edit(net, {name: lambda maps: 0.5 * maps.flip(-1) + 0.1}), torch.no_grad():
                logits.append(net(clips))
        assert (logits[0] - plain).abs().max() > 1e-6, name
        torch.testing.assert_close(logits[1], logits[0], rtol=1e-10, atol=1e-12)
    assert count_hooks(folded) == 0


def test_what_can_not_be_folded_or_saved(tmp_path):
    model = tiny(blvnet_tam)
    folded = optimize_for_inference(model)
    with pytest.raises(ValueError, match="with batch norms, got one that is folded already"):
        optimize_for_inference(folded)
    for thing in no_network(model):
        name = type(thing).__name__
        with pytest.raises(TypeError, match=rf"got {name}: give .* first, then torch\.compile"):
            optimize_for_inference(thing)
    with pytest.raises(ValueError, match=r"got others: .*of a folded one, what it was made of"):
        save_model(folded, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
    save_model(torch.compile(model), tmp_path / "model.safetensors")  # what is in the wrapper
    assert_state(load_model(tmp_path / "model.safetensors"), state_of(model))


@pytest.fixture
def compiler(monkeypatch) -> Iterator[None]:
    """PyTorch's compiler, of small networks; it forgets afterwards what it has compiled."""
    monkeypatch.setitem(SIZES, "tiny", FEW_BLOCKS)
    yield
    torch._dynamo.reset()


def test_compiled_without_generated_code_is_the_same(compiler):
    """The graph that the compiler takes, with the in-place work in it, run by PyTorch's own."""
    model, clips = network(num_frames=4), random64(2, 4, 3, 32, 32)
    with torch.no_grad():
        expected = model(clips)
        for net in (model, optimize_for_inference(model)):
            logits = torch.compile(net, backend="aot_eager", fullgraph=True)(clips)
            torch.testing.assert_close(logits, expected, **EXACT)


@pytest.mark.parametrize("in_place, ran", [(False, False), (True, True)])
def test_compiled_models_are_captured_and_edited_as_they_are(compiler, in_place, ran):
    """Inside the `with` they are not run compiled, since compiled code knows no later hooks."""
    model, clips = network(num_frames=4), random64(2, 4, 3, 32, 32)
    same = network(num_frames=4)
    if in_place:
        same.compile(backend="eager")
    compiled = same if in_place else torch.compile(same, backend="eager")
    with torch.no_grad():
        plain = model(clips)
        if ran:
            compiled(clips)
        for named in (same, compiled):
            with capture(named) as cache, capture(model) as expected:
                model(clips), compiled(clips)
            assert list(cache) == list(expected)
            for name, maps in expected.items():
                torch.testing.assert_close(cache[name], maps, **EXACT)
            for change in (
                lambda net: edit(net, {"stage2.big": zero}),
                lambda net: edit_clip(net, zero),
                lambda net: edit_taps(net, {"stage*.tam": identity_taps}),
            ):
                with change(named), change(model):
                    ours, wanted = compiled(clips), model(clips)
                assert (wanted - plain).abs().max() > 1e-3
                torch.testing.assert_close(ours, wanted, **EXACT)
        torch.testing.assert_close(compiled(clips), plain, **EXACT)  # compiled again
    assert count_hooks(same) == 0
    assert len(tam_weights(compiled)) == len(tam_weights(model)) > 0


def two_steps(model: nn.Module) -> list[dict[str, torch.Tensor]]:
    """After each step of SGD: all gradients, and the model's parameters and buffers."""
    torch.manual_seed(0)  # of dropout
    optimizer, results = torch.optim.SGD(model.parameters(), lr=0.01), []
    for seed in (0, 1):
        optimizer.zero_grad()
        model(random64(2, 4, 3, 64, 64, seed=seed)).square().sum().backward()
        learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        gradients = {f"gradient of {name}": p.grad.clone() for name, p in learned}
        optimizer.step()
        results.append(state_of(model) | gradients)
    return results


def trained(builder, checkpointing: bool = False, dropout: float = 0.5) -> VideoNet:
    model = network(builder, num_frames=4, dropout=dropout).train()
    model.set_grad_checkpointing(checkpointing)
    return model


def assert_same_steps(model: nn.Module, expected: nn.Module, tolerance: float = 1e-12) -> None:
    buffers = dict(model.named_buffers())
    ours, expected = two_steps(model), two_steps(expected)
    assert int(expected[1]["stem.bn.num_batches_tracked"]) == 2
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())


@pytest.mark.parametrize("builder", BUILDERS)
def test_checkpointed_steps_are_the_same(builder):
    assert_same_steps(trained(builder, checkpointing=True), trained(builder))


def test_checkpointed_and_compiled_steps_are_the_same(compiler):
    model = trained(blvnet_tam, checkpointing=True, dropout=0.0)  # compiled, it draws other numbers
    model.compile(backend="aot_eager_decomp_partition", fullgraph=True)
    assert_same_steps(model, trained(blvnet_tam, dropout=0.0), tolerance=1e-6)


def test_buffers_count_a_batch_once():
    """Two backward passes, none, or one that fails while stage 1 is computed once more."""
    model, expected = trained(blvnet_tam, checkpointing=True), trained(blvnet_tam)
    buffers, clips = dict(model.named_buffers()), random64(2, 4, 3, 64, 64)
    loss = model(clips).sum()
    expected(clips)
    assert_state(model, state_of(expected))
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    with model.stage1.fusion.register_forward_pre_hook(lambda module, args: 1 / 0):
        with pytest.raises(ZeroDivisionError):
            loss.backward()
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert_state(model, state_of(expected))


def test_an_edit_that_is_over_before_the_backward_pass_has_the_same_gradients():
    clips = random64(2, 4, 3, 64, 64).requires_grad_()
    for change in (
        lambda net: edit(net, {"stage1.big": lambda maps: 2 * maps, "stem.little": torch.tanh}),
        lambda net: edit_taps(net, {"*": lambda taps: taps.flip(0) - 0.3}),
    ):
        gradients = []
        for checkpointed in (False, True):
            model = trained(blvnet_tam, checkpointed, dropout=0.0)
            with change(model):
                loss = model(clips).square().sum()
            gradients += torch.autograd.grad(loss, clips)
        assert gradients[0].abs().max() > 1e-3
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("builder", BUILDERS)
def test_lent_weights_are_those_of_the_backward_pass_too(builder, training):
    """`functional_call` is over by then, and the model has its own weights and statistics again."""
    model, clips, gradients = network(builder, num_frames=4), random64(2, 4, 3, 64, 64), []
    lent = {name: 1.5 * tensor for name, tensor in model.state_dict().items()}
    for checkpointed in (False, True):
        model.set_grad_checkpointing(checkpointed)
        learned = {k: lent[k].clone().requires_grad_() for k, _ in model.named_parameters()}
        torch.manual_seed(0)  # of dropout
        logits = functional_call(model.train(training), {**lent, **learned}, clips)
        found = torch.autograd.grad(logits.square().sum(), [*learned.values()])
        gradients.append(dict(zip(learned, found, strict=True)))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("builder", BUILDERS)
def test_checkpointed_keeps_less(builder):
    model, clips = tiny(builder), torch.zeros(2, 8, 3, 64, 64)
    whole = kept_for_backward(model, clips)
    assert builder is not blvnet_tam or whole < kept_for_backward(published_form(model), clips)
    model.set_grad_checkpointing()
    assert kept_for_backward(model, clips) < 0.6 * whole
    model.set_grad_checkpointing(False)
    assert kept_for_backward(model, clips) == whole


def test_kept_for_backward_at_depth_50():
    """Against what was counted in the published implementation, of one clip (FACTS.md)."""
    published = 0.779e9
    with FakeTensorMode():
        model, clip = blvnet_tam(), torch.empty(1, 16, 3, 224, 224)
        assert kept_for_backward(model, clip) <= 0.85 * published
        model.set_grad_checkpointing()
        assert kept_for_backward(model, clip) <= 0.45 * published


def test_stem_and_stage_1_are_checkpointed_for_a_backward_pass(monkeypatch):
    inputs, checkpoint = [], fast.checkpoint

    def noted(run, *args, **options):
        inputs.append(args[0].shape[1:])
        return checkpoint(run, *args, **options)

    monkeypatch.setattr(fast, "checkpoint", noted)
    model, clips = trained(blvnet_tam, checkpointing=True), random64(2, 4, 3, 32, 32)
    with torch.no_grad():
        model(clips)
    with torch.inference_mode():
        model(clips)
    assert inputs == []
    model(clips)
    assert inputs == [clips.shape[1:], (8, 8, 8)]
    assert not optimize_for_inference(model).grad_checkpointing


def pair_logits(model: VideoNet, clips: torch.Tensor) -> torch.Tensor:
    """Logits before they are averaged: (B, P, classes)."""
    with capture(model, "classifier", detach=False) as cache:
        model(clips)
    return cache["classifier"]


@pytest.mark.parametrize("r", [2, 3, 5])
def test_causal_logits_of_a_pair_know_no_later_frame(r):
    model = network(num_taps=r, causal=True)
    clips = random64(2, 8, 3, 32, 32).requires_grad_()
    logits = pair_logits(model, clips)
    for pair in range(4):
        gradient = torch.autograd.grad(logits[:, pair].sum(), clips, retain_graph=True)[0]
        reached = [bool(gradient[:, frame].abs().max() > 0) for frame in range(8)]
        assert reached[2 * pair :] == [True, True] + [False] * (6 - 2 * pair)
        assert pair == 0 or reached[2 * pair - 1], "what came before counts"


def test_files_from_before_there_were_causal_models(tmp_path):
    path, model = tmp_path / "model.safetensors", network()
    del model.arguments["causal"]
    save_model(model, path)
    assert b"causal" not in path.read_bytes()
    loaded = load_model(path)
    assert not loaded.causal and loaded.stage1.tam.first_offset == -1


def causal_net(r: int = 3, num_frames: int = 8, builder=blvnet_tam) -> VideoNet:
    return network(builder, num_frames=num_frames, num_taps=r, causal=True)


def streamed(stream: Stream, clips: torch.Tensor) -> torch.Tensor:
    """(B, positions, classes) of clips (B, T, C, H, W), pair by pair or frame by frame."""
    steps = clips.split(stream.model.num_frames, dim=1)
    return torch.stack([stream(step) for step in steps], dim=1)


@pytest.mark.parametrize(
    "r, builder", [*((r, blvnet_tam) for r in (1, 2, 3, 4, 5)), (2, tsm), (3, tam_resnet)]
)
def test_stream_equals_the_whole_clip(r, builder):
    """Of 40 frames, which is longer than any TAM looks back."""
    model, whole = causal_net(r, builder=builder), causal_net(r, 40, builder)
    clips = random64(2, 40, 3, 32, 32)
    with torch.no_grad():
        expected = pair_logits(whole, clips)
    assert (expected[:, 1:] - expected[:, :-1]).abs().amax((0, 2)).min() > 1e-3
    for net in (model, optimize_for_inference(model)):
        torch.testing.assert_close(streamed(Stream(net), clips), expected, **EXACT)
    ours = streamed(Stream(model.float()), clips.float())
    assert close_in_float32(ours, expected)


def test_stream_starts_again_after_reset_and_only_then_takes_another_shape():
    stream, clips = Stream(causal_net()), random64(2, 8, 3, 32, 32)
    first = streamed(stream, clips)
    assert (streamed(stream, clips) - first).abs().max() > 1e-3, "the past counts"
    stream.reset()
    assert torch.equal(streamed(stream, clips), first)
    for shape in ((1, 2, 3, 32, 32), (2, 2, 3, 40, 32)):
        words = rf"pair \(2, 2, 3, 32, 32\) as before.*got {re.escape(str(shape))}.*call reset\(\)"
        with pytest.raises(ValueError, match=words):
            stream(random64(*shape))
    stream.reset()
    assert stream(random64(1, 2, 3, 40, 48)).shape == (1, 5)


def test_stream_takes_pairs_and_a_causal_network():
    stream = Stream(causal_net())
    for shape, words in (
        ((1, 1, 3, 32, 32), "expected a clip (B, T=2, C=3, H, W) float, got (1, 1, 3, 32, 32)"),
        ((1, 8, 3, 32, 32), "sample 2 frames"),
        ((2, 3, 32, 32), "clip.unsqueeze(0)"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            stream(random64(*shape))
    with pytest.raises(TypeError, match="got ndarray"):
        stream(np.zeros((1, 2, 3, 32, 32)))
    assert stream.shape is None, "nothing has come yet"
    for builder in BUILDERS:
        with pytest.raises(ValueError, match=rf"got a {builder.__name__} .*causal=True"):
            Stream(tiny(builder))
    for thing in no_network(causal_net()):
        with pytest.raises(TypeError, match=f"networks itself, got {type(thing).__name__}"):
            Stream(thing)


def test_stream_shares_the_weights_and_leaves_the_model_alone():
    model, clips = causal_net().train(), random64(2, 8, 3, 64, 64)
    model.stem.bn.eval()
    state, known, stream = state_of(model), modes(model), Stream(model)
    assert not any(module.training for module in stream.modules())
    shared = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    assert all(p.data_ptr() in shared for p in stream.parameters())
    own = [name for name, b in stream.named_buffers() if b.data_ptr() not in shared]
    assert own == [f"model.stage{i}.tam.{of}_taps" for i in (1, 2, 3) for of in ("little", "big")]
    before = streamed(stream, clips)
    assert modes(model) == known and (model.num_frames, model.num_positions) == (8, 4)
    assert_state(model, state)
    tams = {f"{name}.taps" for name, m in model.named_modules() if isinstance(m, PairTAM)}
    for _ in range(2):  # it goes on learning, all but the taps that the stream has added up
        learned = [p for name, p in model.train().named_parameters() if name not in tams]
        optimizer = torch.optim.SGD(learned, lr=1e-4)
        model(clips).square().sum().backward()
        optimizer.step()
    stream.reset()
    after = streamed(stream, clips)
    assert (after - before).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(after, pair_logits(model.eval(), clips), **EXACT)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5])
def test_stream_remembers_as_much_however_long_the_video_is(r):
    """TAMs on frames remember r - 1 maps, those on pairs the pairs that r - 1 frames reach."""
    stream = Stream(causal_net(r))
    past = [module for module in stream.modules() if isinstance(module, PastMaps)]
    sizes = set()
    for seed in range(5):
        stream(random64(1, 2, 3, 32, 32, seed=seed))
        sizes.add(sum(m.untyped_storage().nbytes() // 8 for each in past for m in each.maps))
    on_frames, on_pairs = r - 1, r // 2
    # channels x height x width: stem; stages 1, 2 and 3; both blocks of stage 4
    frames, pairs = 8 * 16 * 16 + 128 * 2 * 2 + 256, 8 * 8 * 8 + 32 * 4 * 4 + 64 * 2 * 2
    assert sizes == {on_frames * frames + on_pairs * pairs}


@every_network
def test_another_classifier(builder, arguments, tmp_path):
    model = network(builder, **arguments).train()
    model.stem.bn.eval()
    before, known, clips = state_of(model), modes(model), random64(2, 8, 3, 32, 32)
    arguments = dict(model.arguments)
    other = network(builder)
    model.reset_classifier(9)
    assert model.arguments == arguments | {"num_classes": 9} and other.arguments["num_classes"] == 5
    assert modes(model) == known
    for name, tensor in model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, before[name]), name
    weight, bias = model.classifier.weight, model.classifier.bias
    assert (weight.shape, weight.dtype) == ((9, 256), torch.float64) and weight.requires_grad
    assert 0.0009 < weight.std() < 0.0011 and bias.abs().max() == 0  # as at the start
    with pytest.raises(ValueError, match="num_classes to be at least 1, got 0"):
        model.reset_classifier(0)
    assert model.classifier.weight is weight
    model.eval()
    save_model(model, tmp_path / "model.safetensors")
    with torch.no_grad():
        logits = model(clips)
        loaded = load_model(tmp_path / "model.safetensors").double()
        assert logits.shape == (2, 9)
        assert close_in_float32(loaded(clips), logits)
