"""Measure networks for real video on a folder of videos; writes ``15_photos.json``, one row for each call.

    python experiments/photos.py measure NAME METHOD --weights FILE --video DIR [--lines 192] [--options JSON]
    python experiments/photos.py swap METHOD [METHOD ...]      the mask swap of shipped networks, on generated clips
    python experiments/photos.py ship METHOD RUN [RUN ...]     the weights of the last run, with what all runs saw
    python experiments/photos.py tell METHOD [METHOD ...]      shipped weights say how the recipe uses them today

Networks, steps and rules of the memory are chosen by such rows. The folder has DAVIS-2016's layout, and a list
``val``. Without ``--lines`` a method works at those that its weights' file says, as everywhere else. Times are CPU
milliseconds a frame on one thread, without reading and scoring.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import keep, percent, swap
from vos_tutorial import evaluation, models, recipes
from vos_tutorial.baselines import BASELINES
from vos_tutorial.data.davis import DavisFolder
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models.backbones import for_inference
from vos_tutorial.models.weights import About, read_about, read_metadata, read_weights, save_tensors, save_weights
from vos_tutorial.objects import ObjectSegmenter
from vos_tutorial.propagation import Resized, Segmenter
from vos_tutorial.resize import working_size

OUT = runs.RESULTS / "15_photos.json"
COMMAND = "python experiments/photos.py measure, once for each row, as the row says; mask_swap: swap METHOD"


def measure(segmenter: Segmenter, videos: DavisFolder) -> dict[str, Any]:
    """J, F and J&F in percent, per video and on average, and CPU milliseconds a frame."""
    rows, spent, frames = [], 0.0, 0
    for clip in videos:
        began = time.process_time()
        prediction = evaluation.segment(segmenter, clip, "davis2016")
        spent, frames = spent + time.process_time() - began, frames + len(clip) - 1
        rows += evaluation.score(clip, prediction, "davis2016")
        print(f"{clip.name:>20} {percent(rows[-1].score.summary.J_and_F):6.2f}", flush=True)
    average = evaluation.Report("", "davis2016", tuple(rows)).average()
    return {
        "J": percent(average.J.mean),
        "F": percent(average.F.mean),
        "J&F": percent(average.J_and_F),
        "videos": {row.sequence: percent(row.score.summary.J_and_F) for row in rows},
        "cpu_ms": round(1000 * spent / frames, 1),
    }


def without_places(recipe: str) -> str:
    """A recipe as it is stored, with the names of the data's folders and not where they lay on this machine."""
    return re.sub(r'"[^"]*[/\\\\]([^"/\\\\]+)": (?=\{"digest")', r'"\1": ', recipe)


def tell(methods: Sequence[str]) -> None:
    """Write into the shipped weights how the recipe "photos" uses them today; the tensors stay."""
    for method in methods:
        path = models.shipped_weights(method, "photos")
        tensors, about = read_weights(path)
        save_tensors(path, tensors, about | recipes.variant(method, "photos").use(), torch.float16)


def ship(method: str, folders: Sequence[Path]) -> None:
    """Store the last run's network as ``METHOD-photos.safetensors``; each run began where the one before ended."""
    files = [folder / "weights.safetensors" for folder in folders]
    before = [read_metadata(file) for file in files]
    last = before[-1]
    about = {key: last[key] for key in ("method", "size", "options", "device", "torch")}
    about |= recipes.variant(method, "photos").use() | {
        "precision": "float16",
        "seed": " then ".join(one["seed"] for one in before),
        "recipe": " then ".join(without_places(one["recipe"]) for one in before),
        "start": "ImageNet, EfficientNet-Lite0",
        "steps": str(sum(int(one["steps"]) for one in before)),
        "seconds": str(sum(float(one["seconds"]) for one in before)),
        "data": "clips of moving cut-outs (70 %), warped stills (15 %) and sprites (15 %); see data/README.md",
    }
    save_weights(models.shipped_weights(method, "photos"), models.trained(method, files[-1]), about, torch.float16)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    shipping = what.add_parser("ship")
    shipping.add_argument("method", choices=models.METHODS)
    shipping.add_argument("runs", nargs="+", type=Path)
    for name in ("swap", "tell"):
        what.add_parser(name).add_argument("methods", choices=models.METHODS, nargs="+")
    measuring = what.add_parser("measure")
    add_measuring(measuring)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "ship":
        ship(given.method, given.runs)
    elif given.what == "tell":
        tell(given.methods)
    elif given.what == "swap":
        swap_shipped(given.methods)
    else:
        measure_one(given)


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``measure``."""
    parser.add_argument("name", help="of the row")
    parser.add_argument("method", choices=[*models.METHODS, *BASELINES])
    parser.add_argument("--weights", default="shipped")
    parser.add_argument("--video", type=Path, required=True, metavar="DIR", help="in DAVIS-2016 layout, list val")
    parser.add_argument(
        "--lines", type=int, help="pixels of the shorter side that the method sees (default: as its file says)"
    )
    parser.add_argument(
        "--options", type=json.loads, default={}, help="of the segmenter, as JSON, beside those of the weights' file"
    )
    parser.add_argument("--network", type=json.loads, default={}, help="other options of the network, as JSON")
    parser.add_argument("--only", nargs="*", help="so many videos, by name; such a row is not stored")
    parser.add_argument(
        "--swap",
        action="store_true",
        help="measure the mask swap on generated clips, too; whatever --lines says, at those of the weights' file",
    )


def used(about: About, more: dict[str, Any], form: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A network, and the options of its segmenter: those of the weights' file, and more that overrule them.

    With another form (options of the network) the weights fill what both forms have.
    """
    options = about.segmenter | ({"online_steps": about.tuning} if about.tuning else {}) | more
    if form:
        network = models.build(about.method, "small", **(about.options | form))
        models.start_from(about.method, network, about.path)
    else:
        network = models.trained(about.method, about.path)
    return for_inference(network), options


def at_its_lines(about: About, network: nn.Module, options: dict[str, Any], lines: int | None = None) -> Segmenter:
    """The segmenter of a network at so many lines, whatever the frames have; None: as the weights' file says."""
    made = models.segmenter(about.method, network=network, short_side=lines, **options)
    if lines is None:
        assert isinstance(made, ObjectSegmenter)
        made.lines, made.enlarge = about.lines, about.enlarge
    return made


def placeless(word: str) -> str:
    """A path from ``runs/`` or ``data/`` on: what lies before is this machine's."""
    return re.sub(r"^/.*?/(runs|data)/", r"\1/", word)


def swapped(make: Callable[[], Segmenter]) -> float:
    """The mask swap on ten generated clips with several objects."""
    return swap(make, list(benchmark(10, ["multiple_objects"])))


def swap_shipped(methods: Sequence[str]) -> None:
    """The mask swap of each shipped network, used as its file says; stored beside the rows."""
    stored = json.loads(OUT.read_text()).get("mask_swap", {})
    for method in methods:
        stored[method] = swapped(partial(models.segmenter, method, variant="photos"))
        print(method, stored[method], flush=True)
    keep(OUT, {"mask_swap": stored}, COMMAND)


def seen_lines(method: Segmenter, height: int, width: int) -> int:
    """How many lines a method sees of frames of this size."""
    if isinstance(method, Resized):
        return method.short_side
    assert isinstance(method, ObjectSegmenter)
    return min(working_size(method.lines, method.enlarge, height, width))


def measure_one(given: argparse.Namespace) -> None:
    """One row, printed and stored."""
    videos = DavisFolder(given.video, 2016, "val")
    videos.names = given.only or videos.names

    options: dict[str, Any] = given.options
    make: Callable[[], Segmenter]
    made: Segmenter
    if given.method in BASELINES:
        make = partial(BASELINES[given.method], **options)
        made = Resized(make(), given.lines) if given.lines else make()
    else:
        about = read_about(models.weights_file(given.method, given.weights))
        about.require_method(given.method)
        network, options = used(about, options, given.network)
        make = partial(at_its_lines, about, network, options)
        made = at_its_lines(about, network, options, given.lines)
    row = measure(made, videos)
    if given.swap:
        row["mask_swap"] = swapped(make)
    print(json.dumps(row, indent=1))
    if given.only:
        return
    words = [placeless(a) if Path(a) != given.video else "DIR" for a in sys.argv[1:]]
    command = shlex.join(["python", "experiments/photos.py", *words])
    lines = seen_lines(made, *videos[0].size)
    row |= {"lines": lines, "options": options, "folder": given.video.name, "command": command}
    stored = json.loads(OUT.read_text())["rows"] if OUT.exists() else {}
    keep(OUT, {"rows": stored | {given.name: row}}, COMMAND)


if __name__ == "__main__":
    main()
