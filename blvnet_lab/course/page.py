"""Write a web page with the four networks and the causal one, for visitors who install nothing.

    python -m blvnet_lab page --out page
    cd page && python -m http.server          # then http://localhost:8000

The networks run in the visitor's browser by onnxruntime-web, which comes from the internet, or from
node_modules in the same folder: npm install onnxruntime-web, then this command with --replace.
"""

import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from blvnet_lab.course.written import Written, internet_advice
from blvnet_lab.data import DataSet, read_frames, sample_uniform
from blvnet_lab.data.transforms import MEAN, STD
from blvnet_lab.datasets.motion import FPS
from blvnet_lab.deploy.graphs import export_stream, export_with_taps
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models import load_model
from blvnet_lab.paths import PACKAGE, check_absent, check_target, data_samples, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.staircase import PAPER, TITLES, find_partners

RUNTIME = "onnxruntime-web@1.30.0"
LOCAL = "node_modules/onnxruntime-web/dist/"
ONLINE = f"https://cdn.jsdelivr.net/npm/{RUNTIME}/dist/"
STATIC = PACKAGE / "course" / "page_files"
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
    static = {out / path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
    made = [*(out / f"{name}.onnx" for name in names), out / "clips.bin", out / "page.json"]
    check_absent([*static, *made], replace=replace)
    check_target(out / "index.html", ".html")  # before the work
    files, networks = {}, []
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
    clips = [read_frames(path, chosen).permute(0, 2, 3, 1).numpy() for path in first.path]
    partners, kinds = find_partners(motion.classes)
    offline = (out / LOCAL).exists()
    about = {"runtime": LOCAL if offline else ONLINE, "notebooks": notebooks, "mean": MEAN}
    about |= {"std": STD, "frames": FRAMES, "size": SIZE, "classes": motion.classes}
    about |= {"partners": partners.tolist(), "kinds": kinds, "networks": networks}
    about["rate"] = FPS * FRAMES / int(first.num_frames.min())  # frames a second
    files[out / "clips.bin"] = b"".join(clip.tobytes() for clip in clips)
    files[out / "page.json"] = json.dumps(about)
    write_files(static | files, replace=replace)
    serve = shlex.join(["python", "-m", "http.server", "--directory", str(out)])
    advice = internet_advice(out, RUNTIME, offline=offline)
    see = f"to see the page, run  {serve}\nand open http://localhost:8000"
    return Written(out, sorted(static | files), f"{advice}\n{see}")
