"""Networks on the Hugging Face Hub: a hub in memory, asked as the real package would be.

Every call must fit the signatures of huggingface_hub, and its errors are used.
"""

import hashlib
import inspect
import json
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from nets import state_of
from safetensors.torch import save_file

from blvnet_lab import cli
from blvnet_lab.data import DataSet
from blvnet_lab.models import count_cost, load_notes, save_model
from blvnet_lab.paths import data_samples
from blvnet_lab.runs import evaluate
from blvnet_lab.runs.compare import Beside
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.train import _name_of
from blvnet_lab.training.checkpoint import Trained, load_trained, save_trained
from blvnet_lab.training.engine import build
from blvnet_lab.training.recipe import Recipe, recipe_from_json, recipe_to_json
from blvnet_lab.weights.hub import UNKNOWN, load_from_hub, model_card, push

real, errors = map(pytest.importorskip, ("huggingface_hub", "huggingface_hub.errors"))
REPO, CLASSES = "somebody/motions", ("zur Seite → links", 'a "quoted" | name: #2')
RECIPE = Recipe(num_frames=4, size=(32, 48))
SHIPPED = data_samples() / "checkpoints" / "blvnet_tam.safetensors"
OF_API = ("create_repo", "create_branch", "create_commit", "model_info")
OF_MODULE = ("hf_hub_download", "CommitOperationAdd")
SIGNATURES = {name: inspect.signature(getattr(real, name)) for name in OF_MODULE}
SIGNATURES |= {name: inspect.signature(getattr(real.HfApi(), name)) for name in OF_API}


class StandIn:
    """A hub: commits (name -> bytes) by hash, of branches of repositories; `calls` are noted."""

    def __init__(self, folder: Path):
        self.folder, self.calls, self.commits, self.branches = folder, [], {}, {}
        self.private, self.is_down = {}, False

    def asked(self, name: str, *args, **options) -> None:
        """Note a call; raise TypeError if the real function has other arguments."""
        SIGNATURES[name].bind(*args, **options)
        self.calls.append(name)
        if self.is_down:
            raise self.no_connection

    def commit(self, repo_id: str, branch: str, files: dict[str, bytes]) -> str:
        whole = self.commits.get(self.branches[repo_id].get(branch), {}) | files
        sha = hashlib.sha1(repr([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[sha], self.branches[repo_id][branch] = whole, sha
        return sha

    # --- what the package has

    @property
    def api(self):
        return types.SimpleNamespace(**{name: getattr(self, name) for name in OF_API})

    def create_repo(self, repo_id, **options):
        self.asked("create_repo", repo_id, **options)
        assert options["exist_ok"] or repo_id not in self.branches
        if repo_id not in self.branches:
            self.branches[repo_id], self.private[repo_id] = {}, options["private"]
            self.commit(repo_id, "main", {".gitattributes": b""})

    def create_branch(self, repo_id, **options):
        self.asked("create_branch", repo_id, **options)
        branches = self.branches[repo_id]
        branches.setdefault(options["branch"], branches["main"])

    def create_commit(self, repo_id, operations, **options):
        self.asked("create_commit", repo_id, operations, **options)
        assert options["revision"] in self.branches[repo_id]
        files = {
            name: content if isinstance(content, bytes) else Path(content).read_bytes()
            for name, content in operations
        }
        sha = self.commit(repo_id, options["revision"], files)
        return types.SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/{sha}", oid=sha)

    def operation(self, name, content):
        self.asked("CommitOperationAdd", name, content)
        return name, content

    def model_info(self, repo_id, **options):
        self.asked("model_info", repo_id, **options)
        revision = options["revision"]
        if repo_id not in self.branches:
            raise self.refused
        sha = self.branches[repo_id].get(revision, revision)
        files = [types.SimpleNamespace(rfilename=name) for name in self.commits[sha]]
        return types.SimpleNamespace(sha=sha, siblings=files)

    def hf_hub_download(self, repo_id, filename, **options):
        self.asked("hf_hub_download", repo_id, filename, **options)
        kept = self.folder / f"models--{repo_id.replace('/', '--')}" / "snapshots"
        path = kept / options["revision"] / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.commits[options["revision"]][filename])
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> StandIn:
    found, http = StandIn(tmp_path / "kept"), errors.HfHubHTTPError.__bases__[0]
    answer = types.SimpleNamespace(headers={}, request=None, status_code=None)
    found.refused = errors.RepositoryNotFoundError("401\nnot found", response=answer)
    found.no_connection = (ConnectionError if issubclass(http, OSError) else http)("no net")
    monkeypatch.setattr(real, "HfApi", lambda: found.api)
    monkeypatch.setattr(real, "hf_hub_download", found.hf_hub_download)
    monkeypatch.setattr(real, "CommitOperationAdd", found.operation)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with model.safetensors, best.pt of other weights, and a card."""
    folder = tmp_path_factory.mktemp("mine")
    model, other = (build(RECIPE, 2).eval() for _ in range(2))
    notes = {"clips": {"train": 30, "val": 9}, "init": "torchvision"}
    save_trained(Trained(model, RECIPE, CLASSES, notes=notes), folder / "model.safetensors")
    contents = {"format": 1, "architecture": "blvnet_tam", "arguments": other.arguments}
    contents |= {"recipe": recipe_to_json(RECIPE), "classes": [*CLASSES], "ema": None}
    torch.save(contents | {"model": other.state_dict()}, folder / "best.pt")
    (folder / "card.md").write_text("# mine, gone over by hand\n", "utf-8")
    return folder


def address(printed: str) -> str:
    return printed.rpartition("/")[2]


@pytest.mark.parametrize("name", ["model.safetensors", "best.pt"])
def test_there_and_back(name, hub, run):
    commit = address(push(run / name, REPO, card=run / "card.md"))
    found, sent = load_from_hub(REPO), load_trained(run / name)
    clip = torch.randn(2, 4, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(found.model(clip), sent.model(clip))
    assert (found.recipe, found.classes) == (sent.recipe, sent.classes) == (RECIPE, CLASSES)
    assert hub.commits[commit]["README.md"] == (run / "card.md").read_bytes()
    assert hub.private[REPO] is True, "unless asked for, nobody else may read it"
    # Which commit it was stays known.
    assert found.notes == sent.notes | {"source": f"hub:{REPO}@{commit}"}
    save_trained(found, hub.folder / "again.safetensors")
    assert load_notes(hub.folder / "again.safetensors")["source"] == f"hub:{REPO}@{commit}"


def test_pushing_again_keeps_what_was_there(hub, run):
    hub.create_repo(REPO, private=False, exist_ok=True)
    hub.commit(REPO, "main", {"notes.txt": b"mine", "README.md": b"old"})
    before = len(hub.commits)
    first = address(push(run / "model.safetensors", REPO, card=run / "card.md", public=True))
    second = address(push(run / "best.pt", REPO, card=run / "card.md"))
    assert len(hub.commits) == before + 2, "a commit each"
    assert hub.commits[second]["notes.txt"] == b"mine" and hub.private[REPO] is False
    aside = address(push(SHIPPED, REPO, card=run / "card.md", branch="try"))
    for revision, commit, file in (
        ("", second, "best.pt"), ("@main", second, "best.pt"), ("@try", aside, SHIPPED),
        (f"@{first}", first, "model.safetensors"),
    ):  # fmt: skip
        found = load_from_hub(f"{REPO}{revision}")
        assert found.notes["source"].endswith(commit)
        wanted = state_of(load_trained(run / file).model)
        assert all(torch.equal(t, wanted[name]) for name, t in state_of(found.model).items())


def test_only_push_uploads(hub, run):
    push(run / "model.safetensors", REPO, card=run / "card.md", public=True)
    hub.calls.clear()
    load_from_hub(REPO)
    model_card(run / "model.safetensors")
    assert hub.calls == ["model_info", "hf_hub_download"] and hub.private[REPO] is False
    with pytest.raises(TypeError, match="visible"):  # the stand-in takes what the package takes
        hub.create_repo(REPO, private=True, exist_ok=True, visible=False)


def test_repositories_without_a_network_of_ours(hub, run, tmp_path):
    hub.create_repo(REPO, private=True, exist_ok=True)
    hub.commit(REPO, "main", {"pytorch_model.bin": b"a pickle"})
    words = rf"model.safetensors in {REPO}@\w{{40}}.* got .gitattributes, pytorch_model.bin: name"
    with pytest.raises(ValueError, match=words):
        load_from_hub(REPO)
    with pytest.raises(ValueError, match=r"expected pytorch_model.bin in .*, and one of save_mode"):
        load_from_hub(REPO, "pytorch_model.bin")
    assert "hf_hub_download" not in hub.calls, "no pickle is fetched, far less read"
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    hub.commit(REPO, "main", {"model.safetensors": (tmp_path / "other.safetensors").read_bytes()})
    with pytest.raises(ValueError, match="expected a file written by save_model, which says how"):
        load_from_hub(REPO)


def test_a_hub_that_does_not_answer_or_refuses(hub, run):
    with pytest.raises(OSError, match=rf"(?s)read {REPO}@main on .* 401 not found: look .*log in"):
        load_from_hub(f"hub:{REPO}")
    push(run / "model.safetensors", REPO, card=run / "card.md")
    load_from_hub(REPO)
    hub.is_down = True
    with pytest.raises(OSError, match=r"expected to read .* got .* no net: look at"):
        load_from_hub(REPO)  # not what was kept of it
    with pytest.raises(OSError, match=f"expected to write {REPO} on the Hugging Face Hub, got"):
        push(run / "model.safetensors", REPO, card=run / "card.md")
    hub.no_connection = json.JSONDecodeError("Expecting value", "<html>", 0)
    with pytest.raises(OSError, match=r"expected to read .* got JSONDecodeError Expecting value"):
        load_from_hub(REPO)  # a café answers, with its login page


def test_without_the_package(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"expected to read .* on the .*: install the extra `hub`"):
        load_from_hub(REPO)


def test_what_is_no_network_is_not_sent(hub, run, tmp_path):
    (tmp_path / "model.safetensors").write_text("none")
    for checkpoint, card in ((tmp_path / "model.safetensors", run / "card.md"), (SHIPPED, "no.md")):
        with pytest.raises((ValueError, OSError)):
            push(checkpoint, REPO, card=Path(card))
    assert hub.calls == []


def test_commands_take_networks_of_the_hub(hub, run, capsys):
    commit = address(push(run / "model.safetensors", REPO, card=run / "card.md"))
    kept = str(load_from_hub(REPO).file)
    words = ["evaluate", f"hub:{REPO}", "m.csv", f"--against=hub:{REPO}@main", "--out", "hub:x"]
    wanted = ["evaluate", kept, "m.csv", f"--against={kept}", "--out", "hub:x"]
    assert cli.in_reach(words) == wanted
    assert f"hub:{REPO} is hub:{REPO}@{commit}: {kept}\n" in capsys.readouterr().err
    # Where a network goes need not be there yet, and is no file.
    words = ["push", f"hub:{REPO}", "hub:me/new", "--card", str(run / "card.md")]
    assert cli.in_reach(words) == ["push", kept, *words[2:]]
    assert "https://hub/me/new/commit/" in push(Path(kept), "hub:me/new", card=run / "card.md")
    assert _name_of(kept) == f"hub:{REPO}@{commit}", "what `train --init` notes"


def parsed(card: str) -> tuple[dict, dict[str, str], str]:
    """Of a card: its header; the list of facts; the rest."""
    _, header, body = card.split("---\n", 2)
    facts = [line[2:].split(": ", 1) for line in body.splitlines() if line.startswith("- ")]
    assert real.ModelCard(card).data.to_dict() == yaml.safe_load(header)
    return yaml.safe_load(header), dict(facts), body


def test_a_card_says_what_the_file_knows(run, tmp_path):
    file, out = run / "model.safetensors", tmp_path / "card.md"
    options = {"licence": 'mine: "#1"', "data_set": "me/clips: 1", "data_licence": "of each author"}
    card = model_card(file, **options, out=out)
    assert out.read_text("utf-8") == card and str(tmp_path) not in card
    header, facts, body = parsed(card)
    assert header == {
        "license": 'mine: "#1"', "library_name": "blvnet_lab", "tags": ["blvnet_tam"],
        "pipeline_tag": "video-classification", "datasets": ["me/clips: 1"],
    }  # fmt: skip
    trained = load_trained(file)
    cost = count_cost(trained.model, (32, 48))
    assert facts.items() >= {
        "architecture": "blvnet_tam", "num_frames": "4", "tap_init": "identity",
        "pixels of a frame": "32 x 48", "million MACs a clip": f"{cost.macs / 1e6:.1f}",
        "parameters": str(cost.parameters), "data set": "me/clips: 1",
        "classes": ", ".join(CLASSES), "clips of train": "30", "clips of val": "9",
        "started from": "torchvision", "licence of the code": "Apache-2.0",
        "licence of the weights": 'mine: "#1"', "licence of the videos": "of each author",
    }.items()  # fmt: skip
    recipe = body.partition("```json\n")[2].partition("```")[0]
    assert recipe_from_json(recipe) == RECIPE
    with pytest.raises(FileExistsError, match=r"card.md: .* or add --replace"):
        model_card(file, out=out)
    assert model_card(file, out=out, replace=True) == out.read_text("utf-8") != card


def test_a_card_invents_nothing(tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(build(RECIPE, 2), file)
    header, facts, body = parsed(model_card(file, data_set="plain name"))
    assert header.keys() == {"library_name", "tags", "pipeline_tag"}
    unknown = {"classes", "started from", "licence of the weights", "licence of the videos"}
    assert {name for name, fact in facts.items() if fact == UNKNOWN} == unknown
    assert not any("clips of" in name or "MACs" in name for name in facts)
    assert f"## Training\n\n{UNKNOWN}\n\n## Results\n\n{UNKNOWN}\n" in body


def test_a_figure_that_says_nothing_is_left_out(run, tmp_path):
    scores = {"sha256": load_trained(run / "best.pt").digest, "clips": 4, "split": "val"}
    scores |= {"views": "1x1", "unreadable": {}, "playing": False, "top_1": 0.5, "top_5": 1.0}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    _, facts, _ = parsed(model_card(run / "best.pt", evaluation=tmp_path))
    assert facts["top-1"] == "50.00 %" and "top-5" not in facts, "of two classes"


def test_figures_of_a_card_are_those_of_the_evaluation(tmp_path, monkeypatch):
    shipped = DataSet.read(data_samples() / "motion" / "manifest.csv").split("val")
    rows = shipped.rows.groupby("label").head(2).assign(pair=lambda table: table["label"] // 2)
    manifest = shipped.with_rows(rows.astype({"pair": "str"})).save(tmp_path / "manifest.csv")
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "val"
    checkpoint.write_bytes(SHIPPED.read_bytes())
    found = evaluate_file(checkpoint, manifest, Beside(("reversed", "halves")), out=out)
    header, facts, body = parsed(model_card(checkpoint, evaluation=out))
    assert header["metrics"] == ["accuracy"]
    titles = {"top-1": "top_1", "top-5": "top_5", "between partner classes": "partners"}
    for title, name in titles.items():
        assert facts[title] == f"{100 * found.scores[name]:.2f} %"
    assert "20 clips of val, 1x1 views of each; could not be read: 0\n" in body
    lines = {line.split("(all)")[0].strip(): line for line in body.splitlines() if "(all)" in line}
    table = found.playing[found.playing["class_name"] == "(all)"].set_index(["measure", "playing"])
    assert {*lines} == {"top-1", "between partners", "as if reversed"}
    for measure, line in lines.items():
        shares = [float(cell.split()[-1]) for cell in line.partition("(all)")[2].split("(")[:3]]
        wanted = table.loc[measure].loc[["as-is", "reversed", "halves"], "share"]
        assert shares == pytest.approx([*(100 * wanted)], abs=0.051)

    # Without other orders there is no table, and that of the evaluation before has another name.
    evaluate_file(checkpoint, manifest, out=out)
    assert (out / "playing.1.csv").is_file()
    assert "other orders" not in model_card(checkpoint, evaluation=out)
    # And never the figures of another network, which a run may write while this one is evaluated.
    later, answer = SHIPPED.with_name("tsn.safetensors").read_bytes(), evaluate._answer
    late = lambda *args: checkpoint.write_bytes(later) and answer(*args)  # noqa: E731
    monkeypatch.setattr(evaluate, "_answer", late)
    evaluate_file(checkpoint, manifest, out=out)
    with pytest.raises(ValueError, match=r"got one of another file .*: run `python -m blvnet_lab"):
        model_card(checkpoint, evaluation=out)
    with pytest.raises(ValueError, match=r"expected .*scores.json, an evaluation .* got none: run"):
        model_card(checkpoint, evaluation=tmp_path)
