"""Measure STM's rows in the results of notebooks 04 and 06 anew; to be run when the weights that ship have changed.

    python experiments/refresh_stm.py [--davis DIR]    without DAVIS-2016 the rows on real video stay as they are

Those notebooks compare their own method with STM. Their scripts would measure all their own trainings again; this one
asks the same questions to STM alone, and leaves everything else in the files as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs, rvos
from vos_tutorial import models
from vos_tutorial.data.worlds import sprites
from vos_tutorial.files import write_atomically
from vos_tutorial.recipes import SHORT_SIDE

RVOS, STCNN = runs.RESULTS / "04_rvos.json", runs.RESULTS / "06_stcnn.json"


def passing_each_other(stored: dict[str, Any]) -> None:
    """Notebook 04: who is who after two objects have passed each other."""
    crossing, method = stored["crossing"], models.segmenter("stm")
    for row, clips in rvos.meetings(crossing["clips"]).items():
        for key, values in rvos.shares([[rvos.fate(method, clip) for clip in clips]]).items():
            crossing[key]["STM long"][row] = values


def real(stored: dict[str, Any], folder: Path) -> None:
    """Both: J and F on three DAVIS-2016 sequences, and in notebook 06 the CPU seconds a video, on one thread."""
    method, began = models.segmenter("stm", short_side=SHORT_SIDE), time.process_time()
    found = runs.real({"STM long run": [method]}, folder)
    for part in ("J", "F", "per_frame"):
        stored["real"][part] |= found[part]
    if "seconds" in stored["real"]:
        spent = (time.process_time() - began) / len(runs.SEQUENCES)
        stored["real"]["seconds"]["STM long run"] = round(spent, 1)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    folder = parser.parse_args().davis
    torch.set_num_threads(1)
    rvos, stcnn = (json.loads(path.read_text()) for path in (RVOS, STCNN))
    passing_each_other(rvos)
    own = json.loads((runs.RESULTS / "05_stm.json").read_text())["benchmark"]
    for condition, row in rvos["benchmark"].items():
        row |= {"STM": own[condition]["mean"], "STM long": own[condition]["long"]}
    clips = list(sprites.benchmark(stcnn["clips_per_condition"]))
    for condition, score in runs.by_condition(models.segmenter("stm"), clips).items():
        stcnn["benchmark"][condition]["STM long"] = score["J"]
    for path, stored in ((RVOS, rvos), (STCNN, stcnn)):
        if folder is not None:
            real(stored, folder)
        write_atomically(path, (json.dumps(stored, indent=1) + "\n").encode())
        print("wrote STM's rows to", path.relative_to(runs.ROOT), flush=True)


if __name__ == "__main__":
    main()
