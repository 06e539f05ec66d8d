"""``python -m vos_tutorial compare``: methods side by side on a data set, as tables, pictures and one JSON file.

    python -m vos_tutorial compare --methods copy-first,stm,my_file.py:Mine --out DIR               generated clips
    python -m vos_tutorial compare --data DAVIS --year 2016 --methods stm:photos,masktrack --out DIR
    python -m vos_tutorial compare --data DAVIS --year 2017 --split test-dev --methods stm --submit --out DIR

It is the course's command, since it draws; the numbers come from :mod:`vos_tutorial.comparison`.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from .. import submission
from ..baselines import BASELINES
from ..clip import Clip
from ..comparison import Comparison, Entry, entry, read, steps
from ..data.davis import DavisFolder, VideoFolder, YouTubeVosFolder
from ..data.worlds.sprites import CONDITIONS, benchmark
from ..errors import TutorialError
from ..evaluation import check_sequences
from ..metrics import ProtocolName
from ..models import METHODS
from ..profile import current, require_device
from ..results import ResultsFolder
from . import figures
from .figures import comparisons, tables

RUNS = "comparison.json"
EVERYBODY = (*BASELINES, *METHODS)


def main(argv: list[str] | None = None) -> int:
    """Run what is missing, then write the tables and pictures of all that is there; returns the exit status.

    Raises:
        TutorialError: on an unknown method, data set or sequence, and if earlier results do not fit.
    """
    options = _arguments(argv)
    device = current().device if options.device is None else require_device(options.device)
    entries = [entry(name.strip(), device) for name in options.methods.split(",") if name.strip()]
    folder, protocol = _folder(options)
    if options.submit:
        return _submit(options, entries, folder, protocol, device)
    clips = _clips(options, folder)
    results = ResultsFolder(options.out, data=[Path(options.data)] if options.data else [])
    before = _earlier(results, entries, protocol)
    results.check([RUNS])
    results.begin()
    found = before
    try:
        for found, run in steps(entries, clips, protocol, before, device):
            results.write(RUNS, found.to_json().encode())
            means = "  ".join(f"{one.object}: J&F {100 * one.mean('J&F'):.1f}" for one in run.objects)
            print(f"{run.clip:>20}  {run.method:<18} {run.error or means}  ({run.cpu_ms:.0f} ms a frame)", flush=True)
        for name, content in report(found, entries[0].method).items():
            results.write(name, content)
    except KeyboardInterrupt:
        print(f"stopped; {len(found.runs)} runs are in {results.root}, the same command goes on", file=sys.stderr)
        return 130
    finally:
        results.end()
    print(f"\n{_table(found)}")
    for sentence in found.gaps():
        print(f"note: {sentence}")
    print(f"tables and pictures: {results.root}")
    return 0


def _earlier(results: ResultsFolder, entries: Sequence[Entry], protocol: ProtocolName) -> Comparison:
    """What an earlier run of the command left, of methods that are asked for again or stay comparable."""
    path = results.root / RUNS
    if not path.exists():
        return Comparison(protocol)
    before = read(path)
    if before.protocol != protocol:
        raise TutorialError(
            f"{path} is scored by {before.protocol}, not {protocol}; choose another folder for --out."
        )
    return before


def report(found: Comparison, against: str) -> dict[str, bytes]:
    """The files of a comparison by name: ``scores.csv``, ``tables.txt`` and PNG pictures.

    Args:
        found: with at least one clip that all methods finished.
        against: the method of the paired differences.

    Raises:
        TutorialError: if there is no such clip.
    """
    groups = found.by_attribute()
    others = [method for method in found.methods() if method != against]
    parts = [str(_table(found))]
    for method in others:
        gain = found.difference(method, against)
        parts.append(
            f"{method} minus {against}: {gain.mean:+.1f} points of J&F, 95 % interval {gain.low:+.1f} to "
            f"{gain.high:+.1f}, better on {gain.wins} of {gain.clips} clips"
        )
    parts += [f"note: {sentence}" for sentence in found.gaps()]
    files = {"scores.csv": _csv(found), "tables.txt": ("\n".join(parts) + "\n").encode()}
    pictures: dict[str, Figure] = {"cost.png": comparisons.cost(found), "by_frame.png": _by_frame(found)}
    if others:
        pictures["attributes.png"] = comparisons.attributes(groups, against)
    if any(ago > 1 for run in found.runs for one in run.objects for ago in one.since_seen):
        pictures["since_seen.png"] = comparisons.unseen(found)
    return files | {name: figures.to_png(figure, scale=2) for name, figure in pictures.items()}


def _table(found: Comparison) -> tables.Table:
    return tables.compare(found.by_attribute(), mean=False, rows="J&F, percent")


def _by_frame(found: Comparison) -> Figure:
    return figures.curves(found.by_frame(), "frame", "J, percent", ylim=(0, 105))


def _csv(found: Comparison) -> bytes:
    """A line for each object of each run: what a spreadsheet wants."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(
        ["method", "seed", "clip", "attributes", "object", "J", "F", "J&F", "cpu_ms", "state_bytes", "error"]
    )
    for run in found.runs:
        start = [run.method, run.seed, run.clip, " ".join(run.attributes)]
        for one in run.objects:
            means = [f"{100 * one.mean(value):.2f}" for value in ("J", "F", "J&F")]
            rows.writerow([*start, one.object, *means, run.cpu_ms, run.state, ""])
        if run.error:
            rows.writerow([*start, "", "", "", "", "", "", run.error])
    return out.getvalue().encode()


def _folder(options: argparse.Namespace) -> tuple[VideoFolder | None, ProtocolName]:
    """The data set, None for generated clips, and the protocol that it is scored by."""
    if options.data is None:
        return None, "davis2017"
    if options.layout == "youtube-vos":
        return YouTubeVosFolder(options.data, options.split or "valid"), "youtube-vos"
    folder = DavisFolder(options.data, year=options.year, split=options.split or "val")
    return folder, "davis2016" if options.year == 2016 else "davis2017"


def _clips(options: argparse.Namespace, folder: VideoFolder | None) -> Iterator[Clip]:
    if folder is not None:
        names = _sequences(options, folder)
        return (folder[name] for name in names)
    chosen = options.sequences.split(",") if options.sequences else None
    if unknown := [name for name in chosen or [] if name not in CONDITIONS]:
        raise TutorialError(f"there is no condition {unknown[0]!r}; choose from {', '.join(CONDITIONS)}.")
    return benchmark(options.clips, chosen)


def _sequences(options: argparse.Namespace, folder: VideoFolder) -> list[str]:
    names = options.sequences.split(",") if options.sequences else list(folder.names)
    for name in names:
        folder.index_of(name)
    return names


def _submit(
    options: argparse.Namespace,
    entries: Sequence[Entry],
    folder: VideoFolder | None,
    protocol: ProtocolName,
    device: torch.device | str,
) -> int:
    """For each method a folder of masks, checked; nothing is scored."""
    if folder is None:
        raise TutorialError("--submit writes masks for a data set's own scoring; name the data set with --data.")
    names = _sequences(options, folder)
    check_sequences(folder, names, protocol)
    left_out = len(folder.names) - len(names)
    for one in entries:
        place = Path(options.out) / re.sub(r"[^\w.@-]+", "-", one.method)
        results = ResultsFolder(place, data=[Path(options.data)])
        results.begin()
        try:
            for name in submission.write(one.make(), folder, results, protocol, names, device):
                print(f"{name:>20}  {one.method}", flush=True)
        except KeyboardInterrupt:
            print(f"stopped; the sequences that were finished are in {place}", file=sys.stderr)
            return 130
        finally:
            results.end()
        submission.check(folder, place, names)
        print(f"{place}: {len(names)} sequences, checked (scores: the data set's own program)")
    if left_out:
        print(f"note: {left_out} of the list's {len(folder.names)} sequences were left out; a submission needs all.")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial compare",
        description="Methods side by side: scores, cost, failures. What an earlier call has finished stays.",
    )
    parser.add_argument("--out", required=True, help=f"gets {RUNS}, tables and pictures")
    parser.add_argument(
        "--methods",
        default=",".join(EVERYBODY),
        help="with commas between; a variant as stm:photos, a training of yours as stm:FILE.safetensors, a segmenter "
        "of yours as my_file.py:Name, lines as stm@192 "
        "(default: all that ship); the first is what the others are compared with",
    )
    parser.add_argument("--data", help="a data set (default: the generated benchmark)")
    parser.add_argument(
        "--layout", choices=["davis", "youtube-vos"], default="davis", help="of --data (default: davis)"
    )
    parser.add_argument("--year", type=int, default=2016, choices=[2016, 2017], help="of DAVIS (default: 2016)")
    parser.add_argument("--split", help="a list in ImageSets, or YouTube-VOS's folder (default: val, valid)")
    parser.add_argument("--sequences", help="only these, with commas between; of the benchmark: conditions")
    parser.add_argument("--clips", type=int, default=8, help="of the benchmark, for each condition (default: 8)")
    parser.add_argument(
        "--submit", action="store_true", help="write masks for the data set's own scoring, checked, and no scores"
    )
    parser.add_argument("--device", help="cpu or cuda (default: by the profile)")
    return parser.parse_args(argv)
