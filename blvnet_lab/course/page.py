"""Write a web page with the four networks and the causal one, for visitors who install nothing.

    python -m blvnet_lab page --out page
    cd page && python -m http.server          # then http://localhost:8000

onnxruntime-web runs the networks in the visitor's browser, Vue keeps the page to them. Both come
from the internet, or from node_modules in the same folder (npm install, then --replace).
"""

import json
import re
import shlex
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.nn.functional import pad

from blvnet_lab.course.written import Written, internet_advice
from blvnet_lab.data import DataSet, read_frames, sample_uniform
from blvnet_lab.data.transforms import MEAN, STD
from blvnet_lab.datasets.motion import FPS
from blvnet_lab.deploy.variants import export_stream, export_with_taps
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models import load_model
from blvnet_lab.paths import PACKAGE, check_absent, check_target, data_samples, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.staircase import PAPER, TITLES, find_partners

VUE = "vue@3.5.45/dist/vue.esm-browser.prod.js"
FILES = "onnxruntime-web@1.30.0/dist/ort.wasm.bundle.min.mjs", VUE
ONLINE = [f"https://cdn.jsdelivr.net/npm/{file}" for file in FILES]
LOCAL = [f"./node_modules/{re.sub('@[^/]+', '', file)}" for file in FILES]
NEEDED = " ".join(file.partition("/")[0] for file in FILES)
STATIC = [*(PACKAGE / "course/page_files").iterdir(), PACKAGE / "viz/explorers/camera.js"]
CAUSAL = "blvnet_tam_causal"
FRAMES, SIZE = 8, (64, 64)


def write_page(out: Path, *, notebooks: str = "", replace: bool = False) -> Written:
    """Write a web page on which visitors reorder frames, turn taps and use their camera.

    It consists of static files: any web server will do, and nothing is sent to it.

    Args:
        out: folder for the page, which starts at index.html.
        notebooks: address of the course for the page's links; without it there are no links.
        replace: overwrite existing files.

    Raises:
        FileExistsError: files exist already, and `replace` is not set.
        ValueError: packages for the export to ONNX are missing.
    """
    names = [*PAPER, CAUSAL]
    link = f'<a href="{escape(notebooks)}">' if notebooks else "<a>"
    files = {out / p.name: p.read_text("utf-8").replace("<a course>", link) for p in STATIC}
    made = [*(out / f"{name}.onnx" for name in names), out / "clips.bin", out / "page.json"]
    check_absent([*files, *made], replace=replace)
    check_target(out / "index.html", ".html")  # before the work
    networks = []
    with TemporaryDirectory() as folder:
        for name, path in zip(tqdm(names, desc="networks"), made, strict=False):
            model = load_model(data_samples() / "checkpoints" / f"{name}.safetensors")
            write = export_stream if name == CAUSAL else export_with_taps
            write(model, Path(folder) / path.name, SIZE)
            files[path] = (Path(folder) / path.name).read_bytes()
            taps = {f"{tam}.taps": module.taps.tolist() for tam, module in tams(model).items()}
            networks.append({"name": name, "title": TITLES.get(name, "bLVNet-TAM"), "taps": taps})
    motion = DataSet.read(data_samples() / "motion" / "manifest.csv").split("val")
    first = motion.rows.drop_duplicates("label").sort_values("label")  # a clip of each class
    chosen = sample_uniform(int(first.num_frames.min()), FRAMES)
    clips = [read_frames(path, chosen).permute(0, 2, 3, 1) for path in first.path]  # (T, H, W, RGB)
    partners, kinds = find_partners(motion.classes)
    files[out / "clips.bin"] = b"".join(pad(clip, (0, 1), value=255).numpy() for clip in clips)
    offline = all((out / file).exists() for file in LOCAL)
    about = {"libraries": LOCAL if offline else ONLINE, "mean": MEAN, "std": STD, "size": SIZE}
    about |= {"frames": FRAMES, "rate": FPS * FRAMES / int(first.num_frames.min())}  # a second
    about["turns"] = ["reverse" if kind == "direction" else "exchange halves" for kind in kinds]
    about |= {"classes": motion.classes, "partners": partners.tolist(), "networks": networks}
    files[out / "page.json"] = json.dumps(about)
    write_files(files, replace=replace)
    serve = shlex.join(["python", "-m", "http.server", "--directory", str(out)])
    advice = internet_advice(out, NEEDED, offline=offline)
    see = f"to see the page, run  {serve}\nand open http://localhost:8000"
    return Written(out, sorted(files), f"{advice}\n{see}")
