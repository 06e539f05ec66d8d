"""The ten notebooks of the course, in order, and the table that maps them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Lesson:
    """One notebook: its file name without ``.ipynb``, and the one thing it promises."""

    name: str
    promise: str


COURSE: tuple[Lesson, ...] = (
    Lesson(
        "00_start_here",
        "You watch objects being followed, try a widget and an exercise, and know what your machine can do.",
    ),
    Lesson("01_task_and_metrics", "You write J and F by hand and measure the two simplest methods."),
    Lesson(
        "02_masktrack_refinement",
        "You train a mask refiner on still images, follow objects with it, see it drift.",
    ),
    Lesson(
        "03_rgmp_reference_guidance", "You add frame 0 as a reference, and train the network on its own mistakes."
    ),
    Lesson("04_rvos_recurrence", "You follow many objects at once, with memory over objects and over time."),
    Lesson("05_stm_key_value_memory", "You keep every frame in a memory and click on its attention."),
    Lesson("06_stcnn_adversarial_training", "You learn motion from video without labels, then segment with it."),
    Lesson("07_align_your_flow", "You generate images in one to four steps, and train on them."),
    Lesson("08_comparison", "You compare all methods on one benchmark, with their cost and their failures."),
    Lesson("09_your_own_video", "You paint a mask on your own clip, propagate it and export the result."),
)


def course_table(existing: Collection[str]) -> str:
    """The course as a Markdown table, one row a notebook.

    Args:
        existing: names of the notebooks that are there; the others get no link and are marked *to come*.
    """
    rows = ["| notebook | what you do there |", "|---|---|"]
    for lesson in COURSE:
        there = lesson.name in existing
        label = f"[{lesson.name}]({lesson.name}.ipynb)" if there else f"{lesson.name} *(to come)*"
        rows.append(f"| {label} | {lesson.promise} |")
    return "\n".join(rows)
