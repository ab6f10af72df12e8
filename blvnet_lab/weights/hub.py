"""Networks on the Hugging Face Hub: the file of `save_model`, and a model card beside it.

    python -m blvnet_lab card runs/mine/model.safetensors --evaluation runs/mine/val --out card.md
    python -m blvnet_lab push runs/mine/model.safetensors owner/name --card card.md
    python -m blvnet_lab predict hub:owner/name video.mp4     # load_from_hub("owner/name").model

The package huggingface_hub does the talking, and knows your account (`hf auth login`).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as with_changes
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pandas as pd

from blvnet_lab.models.cost import count_cost
from blvnet_lab.models.files import listed
from blvnet_lab.paths import write_files
from blvnet_lab.runs.compare import show_playing
from blvnet_lab.runs.evaluate import PLAYING, SCORES, TITLES
from blvnet_lab.training.checkpoint import MODEL, Trained, load_trained, save_trained
from blvnet_lab.training.recipe import recipe_to_json

UNKNOWN = "not stated"
ORDERS = "With other orders of the frames (halves: the second first; frozen: the middle one only)"


@contextmanager
def _hub(task: str) -> Iterator[ModuleType]:
    """Import huggingface_hub, and translate its errors into ours, which name the task."""
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ValueError(f"expected to {task}, got {error}: install the extra `hub`") from error
    try:
        yield hub
    # If nothing answers, the error is that of the HTTP package, which depends on the version. The
    # login page of a public network is not JSON.
    except (HFValidationError, OSError, *HfHubHTTPError.__bases__, json.JSONDecodeError) as error:
        raise OSError(
            f"expected to {task}, got {type(error).__name__} {' '.join(str(error).split())}: look "
            "at the name and the connection, log in if it is not public (hf auth login), or name a "
            "file that is on this machine"
        ) from error


def load_from_hub(source: str, filename: str = MODEL) -> Trained:
    """Load a network from the hub, downloading it the first time; its notes name the commit.

    Args:
        source: owner/name or owner/name@revision, a branch, tag or commit.
        filename: a file that `save_model` wrote.

    Raises ValueError if there is no such file, OSError if the hub refuses or does not answer.
    """
    name, _, revision = source.removeprefix("hub:").partition("@")
    with _hub(f"read {name}@{revision or 'main'} on the Hugging Face Hub") as hub:
        # The download alone would return the cached state of a branch if nothing answers.
        info = hub.HfApi().model_info(name, revision=revision or "main")
        there = [file.rfilename for file in info.siblings]
        if filename not in there or not filename.endswith(".safetensors"):
            raise ValueError(
                f"expected {filename} in {name}@{info.sha}, and one of save_model, got "
                f"{listed(there)}: name another .safetensors file, or download a published "
                "checkpoint and give it to `python -m blvnet_lab import`"
            )
        trained = load_trained(hub.hf_hub_download(name, filename, revision=info.sha))
    return with_changes(trained, notes={**trained.notes, "source": f"hub:{name}@{info.sha}"})


def push(
    checkpoint: Path, repo_id: str, /, *, card: Path, branch: str = "main", public: bool = False
) -> str:
    """Upload a trained network to the Hugging Face Hub, in a new commit, and return its address.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        repo_id: owner/name of the repository, which is made if it is not there.
        card: its README.md, as the command `card` writes it.
        branch: to commit to; created if it does not exist.
        public: make a new repository public; an existing one keeps its visibility.

    Raises OSError if the hub refuses or does not answer.
    """
    trained, text = load_trained(checkpoint), card.read_bytes()
    repo_id = repo_id.removeprefix("hub:")
    with TemporaryDirectory() as folder, _hub(f"write {repo_id} on the Hugging Face Hub") as hub:
        if checkpoint.suffix != ".safetensors":
            save_trained(trained, checkpoint := Path(folder) / MODEL)
        (api := hub.HfApi()).create_repo(repo_id, private=not public, exist_ok=True)
        if branch != "main":
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        add, title = hub.CommitOperationAdd, f"{trained.model.architecture} of blvnet_lab"
        files = [add(MODEL, checkpoint), add("README.md", text)]
        return api.create_commit(repo_id, files, commit_message=title, revision=branch).commit_url


def model_card(
    checkpoint: Path,
    /,
    *,
    evaluation: Path | None = None,
    data_set: str = "",
    licence: str = "",
    data_licence: str = "",
    out: Path | None = None,
    replace: bool = False,
) -> str:
    """Write the model card of a trained network: the README.md of a repository on the hub.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        evaluation: folder that `evaluate --out` wrote for this file.
        data_set: its name; owner/name if it is on the hub.
        licence: of the weights, by the hub's name for it, such as apache-2.0.
        data_licence: of the videos.
        out: file to write.
        replace: overwrite it.

    Raises ValueError if the evaluation belongs to another file.
    """
    trained, training = load_trained(checkpoint), UNKNOWN
    model, recipe, notes = trained.model, trained.recipe, trained.notes
    header = {"license": licence, "library_name": "blvnet_lab", "tags": [model.architecture]}
    header |= {"pipeline_tag": "video-classification", "datasets": [data_set] * ("/" in data_set)}
    header |= {"metrics": ["accuracy"] if evaluation and not trained.multi_label else None}
    about = {"architecture": model.architecture, **model.arguments}
    if recipe is not None:
        command = "python -m blvnet_lab train MANIFEST --out FOLDER --preset recipe.json"
        training = f"`{command}`, with this recipe.json:\n\n```json\n{recipe_to_json(recipe)}```"
        about |= {"pixels of a frame": "{} x {}".format(*recipe.size)}
        cost = count_cost(model, recipe.size)
        about |= {"million MACs a clip": f"{cost.macs / 1e6:.1f}", "parameters": cost.parameters}
    classes = "classes, of which a clip may have several" if trained.multi_label else "classes"
    about |= {"data set": data_set or UNKNOWN, classes: ", ".join(trained.classes) or UNKNOWN}
    about |= {f"clips of {split}": count for split, count in notes.get("clips", {}).items()}
    about |= {"started from": notes.get("init", UNKNOWN)}
    licences = {"code": "Apache-2.0", "weights": licence, "videos": data_licence}
    about |= {f"licence of the {what}": name or UNKNOWN for what, name in licences.items()}
    # JSON is valid YAML.
    known = [f"{key}: {json.dumps(v, ensure_ascii=False)}" for key, v in header.items() if v]
    facts = [f"- {name}: {value}" for name, value in about.items()]
    results = _results(evaluation, trained) if evaluation else UNKNOWN
    lines = ["---", *known, "---", "", f"# {model.architecture}", "", *facts, "", "## Training", ""]
    text = "\n".join([*lines, training, "", "## Results", "", results, ""])
    if out is not None:
        write_files({out: text}, replace=replace)
    return text


def _results(evaluation: Path, trained: Trained) -> str:
    """Format an evaluation's figures; raise ValueError if it is missing or of another file."""
    file = evaluation / SCORES
    scores = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    if scores.get("sha256") != trained.digest:
        of = f"one of another file ({scores['checkpoint']})" if scores else "none"
        raise ValueError(
            f"expected {file}, an evaluation of {trained.file} as it is, got {of}: run `python -m "
            f"blvnet_lab evaluate {trained.file} MANIFEST --out {evaluation}`"
        )
    text = "{clips} clips of {split}, {views} views of each; could not be read: ".format(**scores)
    text += f"{len(scores['unreadable'])}\n"
    hidden = {"top_5"} if len(trained.class_names) <= 5 else set()  # always 100 %
    for name in [name for name in TITLES if name in scores.keys() - hidden]:
        text += f"\n- {TITLES[name]}: {100 * scores[name]:.2f} %"
    if scores["playing"]:
        table = show_playing(pd.read_csv(evaluation / PLAYING), max_classes=0)
        text += f"\n\n{ORDERS},\n\n```\n{table}\n```"
    return text
