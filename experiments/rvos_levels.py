"""Which levels of RVOS's decoder live; writes ``15_rvos_levels.json``.

    python experiments/rvos_levels.py NAME --weights FILE

For each level, coarse to fine: how far the hidden states of two objects of a clip are apart (the mean of absolute
differences) beside their spread (the standard deviation over all objects, channels and places), and J when the next
finer level does not hear it. A level that tells no objects apart, or without which nothing changes, is dead.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import j_of, keep
from vos_tutorial import models
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models.rvos import RVOS, ConvLSTMCell, RVOSSegmenter

OUT = runs.RESULTS / "15_rvos_levels.json"
CLIPS = 6


@torch.no_grad()
def states(network: RVOS, clips: list[Clip]) -> list[dict[str, float]]:
    """``difference`` of two objects' hidden states, and their ``spread``, for each level, over all frames."""
    levels: list[list[tuple[float, float]]] = [[] for _ in network.hidden]
    for clip in clips:
        segmenter = RVOSSegmenter(network)
        segmenter.begin(clip.frames[0], clip.first_mask)
        for frame in clip.frames[1:]:
            segmenter.step(frame)
            for level, h in zip(levels, segmenter.inspect()["hidden"], strict=True):  # [N, C, h, w]
                level.append((float((h[0] - h[1]).abs().mean()), float(h.std())))
    means = [torch.tensor(level).mean(0).tolist() for level in levels]
    return [{"difference": round(d, 4), "spread": round(s, 4)} for d, s in means]


def deaf(network: RVOS, level: int) -> RVOS:
    """A copy in which the level after ``level`` (0 is the coarsest) hears nothing of it."""
    network = copy.deepcopy(network)
    cell = network.cells[level + 1]
    assert isinstance(cell, ConvLSTMCell)
    with torch.no_grad():
        cell.gates.weight[:, : network.above[level + 1]] = 0
    return network


def measure(network: RVOS) -> dict[str, Any]:
    """All levels on clips with several objects."""
    clips = [clip for clip in benchmark(CLIPS, ["multiple_objects"]) if len(clip.objects) > 1]
    found = states(network, clips)
    for level in range(len(found) - 1):
        found[level]["J without"] = j_of(RVOSSegmenter(deaf(network, level)), clips)
    return {"J": j_of(RVOSSegmenter(network), clips), "levels, coarse to fine": found}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the row")
    parser.add_argument("--weights", required=True, help="shipped, or a file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = models.trained("rvos", given.weights)
    assert isinstance(network, RVOS)
    row = measure(network)
    print(json.dumps(row, indent=1))
    row["command"] = shlex.join(["python", "experiments/rvos_levels.py", *sys.argv[1:]])
    stored = json.loads(OUT.read_text())["rows"] if OUT.exists() else {}
    keep(OUT, {"rows": stored | {given.name: row}}, "python experiments/rvos_levels.py, once for each row")


if __name__ == "__main__":
    main()
