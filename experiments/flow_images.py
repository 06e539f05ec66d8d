"""Train and measure the images of notebook 07; writes ``flow-images-*.safetensors`` and ``07_flow_images.json``.

    python experiments/flow_images.py train NAME [--seed 0]     one training, see NAMES; resumes where it stopped
    python experiments/flow_images.py ship                      what readers get, in half precision
    python experiments/flow_images.py measure                   the samplers, beside each other
    python experiments/flow_images.py guided                    the same with a guided teacher, and its weight
    python experiments/flow_images.py speed                     CPU time at equal quality, from what was measured
    python experiments/flow_images.py directions                how long |g| is while students learn
    python experiments/flow_images.py video                     MaskTrack on generated stills, beside sprites
    python experiments/flow_images.py real --davis DIR          the same networks on real video
    python experiments/flow_images.py masks                     their masks on one clip, for the page's picture

Each training begins from the weights of another one (``FROM``); what is missing is named. Runs live under ``runs/``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.convolution import in_turns
from experiments import runs
from experiments.runs import keep
from vos_tutorial import evaluation, models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.data.davis import DavisFolder
from vos_tutorial.data.sources.drawn import DrawnStills
from vos_tutorial.data.worlds import captioned
from vos_tutorial.data.worlds.sprites import SyntheticStills, benchmark
from vos_tutorial.generation import paired_distance, precision_recall
from vos_tutorial.models import generators, masktrack
from vos_tutorial.models.attribute_reader import AttributeReader
from vos_tutorial.models.critic import Critic
from vos_tutorial.models.dit import DiT, adapter_state, merged, student_of
from vos_tutorial.models.flow_map import Network
from vos_tutorial.models.generators import (
    generate,
    guided,
    load_reader,
    load_student,
    load_teacher,
    noise_for,
    save_network,
)
from vos_tutorial.models.weights import load_weights, read_metadata, save_weights
from vos_tutorial.propagation import Segmenter, propagate
from vos_tutorial.recipes import Recipe, load
from vos_tutorial.recipes import generators as recipes
from vos_tutorial.training import Start, train
from vos_tutorial.training.tasks import images as tasks
from vos_tutorial.training.tasks.masktrack import task as masktrack_task

ROOT = runs.ROOT / "runs" / "images"
OUT = runs.RESULTS / "07_flow_images.json"
COMMAND = (
    "python experiments/flow_images.py train NAME; python experiments/flow_images.py measure; "
    "python experiments/flow_regression.py; python experiments/flow_regression.py wide"
)
NAMES = ("reader", "early", "teacher", "student", "guided", "short", "too-fast", "without-s", "adversarial")
WIDE = ("early-wide", "teacher-wide")  # for flow_regression.py alone
FROM = {"teacher": "early", "teacher-wide": "early-wide", "guided": "student", "adversarial": "student"}
FROM |= dict.fromkeys(("student", "short", "too-fast", "without-s"), "teacher")


def seed_of_origin(name: str, seed: int) -> int:
    """The seed of the weights that a training begins with: there is one teacher, and a student of each seed."""
    return seed if FROM[name] == "student" else 0


# ---------------------------------------------------------------------------------------------------- train


def folder(name: str, seed: int) -> Path:
    """Where a training lives."""
    return ROOT / f"{name}-{seed}"


def weights(name: str, seed: int = 0) -> Path:
    """The weights that it leaves.

    Raises:
        SystemExit: if it has not come to its end.
    """
    path = folder(name, seed) / "weights.safetensors"
    if not path.exists():
        raise SystemExit(
            f"{path.relative_to(runs.ROOT)} is missing; "
            f"run python experiments/flow_images.py train {name} --seed {seed}."
        )
    return path


def prepared(name: str, seed: int) -> tuple[nn.Module, Any, Recipe]:
    """The network that a training begins with, its task, its recipe."""
    if name == "reader":
        return AttributeReader(), tasks.AttributeReading(), recipes.READER["cpu"]
    size = recipes.WIDE if name in WIDE else recipes.SMALL
    if name in ("early", "early-wide"):
        return DiT(**size), tasks.FlowMatching(), dataclasses.replace(recipes.EARLY["cpu"], options=size)
    if name in ("teacher", "teacher-wide"):
        recipe = dataclasses.replace(recipes.TEACHER["cpu"], options=size)
        return load_teacher(path=weights(FROM[name])), tasks.FlowMatching(), recipe
    teacher, weak = load_teacher(path=weights("teacher")), load_teacher(path=weights("early"))
    if name in ("guided", "adversarial"):
        student = load_student(path=weights("student", seed), teacher=teacher)
        if name == "guided":
            return student, tasks.Distillation(weak), recipes.GUIDED["cpu"]
        return tasks.Players(student, Critic()), tasks.AdversarialDistillation(weak), recipes.ADVERSARIAL["cpu"]
    kinds = {"student": "STUDENT", "short": "SHORT", "too-fast": "TOO_FAST", "without-s": "WITHOUT_S"}
    recipe = getattr(recipes, kinds[name])["cpu"]
    return student_of(teacher, reads_s=name != "without-s"), tasks.Distillation(weak), recipe


def run(name: str, seed: int) -> None:
    """Train, or go on, or do nothing if it is done."""
    out = folder(name, seed)
    if (out / "weights.safetensors").exists():
        print(out.name, "is done")
        return
    torch.manual_seed(seed)
    network, task, recipe = prepared(name, seed)
    start = None
    if name in FROM:
        origin = weights(FROM[name], seed_of_origin(name, seed))
        start = Start(FROM[name], str(origin.relative_to(runs.ROOT)))
    done = train(network, task, recipe, seed=seed, out=out, start=start, progress=False)
    kept = network.student if isinstance(network, tasks.Players) else network
    about = {"recipe": f"cpu, {name}", "seed": str(seed), "steps": str(recipe.steps), "device": "cpu"}
    save_network(out / "weights.safetensors", kept, {**about, "seconds": f"{done.seconds:.0f}"})
    print(out.name, f"{recipe.steps} steps, {done.seconds:.0f} s", flush=True)


# ------------------------------------------------------------------------------------------------- measure

COUNT = 256  # captions, each drawn once by every sampler, from the same noise
REFERENCE = 64  # steps of the teacher that everything is compared with
FEW = (1, 2, 4, 8)
CAPTIONS = {"whole": (), "open": ("colour", "place")}  # words that are left out
GUIDANCE = 2.0  # weight of autoguidance, where it is measured
STUDENTS = ("student", "short", "without-s", "adversarial")  # of the plain teacher; too-fast: see directions
EQUALS = ("attributes", "mask", "distance")  # what the teacher must reach to be as good as a student
MORE = (*range(1, 9), 10, 12, 16, 24, 32)  # the steps with which it may


@torch.no_grad()
def drawn(
    network: Callable[[Tensor], Network], captions: Tensor, noise: Tensor, steps: int, batch: int = 64
) -> Tensor:
    """Samples ``[N, 4, H, W]``, some at a time."""
    pairs = zip(captions.split(batch), noise.split(batch), strict=True)
    return torch.cat([generate(network(some), start, steps) for some, start in pairs])


class Judge:
    """The measures of a set of samples."""

    def __init__(self) -> None:
        self.reader = load_reader(path=weights("reader"))
        self.real = captioned.draw(range(7_000_000, 7_000_000 + COUNT))
        self.features = self.read(self.real.images).features

    @torch.no_grad()
    def read(self, images: Tensor) -> Any:
        """What the reader sees."""
        return self.reader(images)

    def __call__(self, samples: Tensor, captions: Tensor, target: Tensor | None) -> dict[str, float]:
        """In percent, but for ``distance``, in the units of the pixels (-1 to 1); only what is said counts."""
        seen, said = self.read(samples), captions != captioned.UNSAID
        right = (seen.captions == captions) & said  # [N, 6]
        spread = precision_recall(self.features, seen.features)
        masks, found = samples[:, 3] > 0, seen.mask > 0
        overlap = (masks & found).flatten(1).sum(1) / (masks | found).flatten(1).sum(1).clamp_min(1)
        columns = {name: i for i, name in enumerate(captioned.ATTRIBUTES) if said[:, i].any()}
        scores = {name: float(right[:, i].sum() / said[:, i].sum()) for name, i in columns.items()}
        scores |= {"attributes": float(right.sum() / said.sum())}
        scores |= {"whole caption": float((right == said).all(1).float().mean()), "mask": float(overlap.mean())}
        scores |= spread._asdict()
        told = {name: runs.percent(value) for name, value in scores.items()}
        return told | ({"distance": round(paired_distance(samples, target), 4)} if target is not None else {})


def inputs(unsaid: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Captions ``[N, 6]`` without some of their words, and noise ``[N, 4, 32, 32]``; the same for every sampler."""
    captions = captioned.random_captions(range(8_000_000, 8_000_000 + COUNT))
    captions[:, [list(captioned.ATTRIBUTES).index(name) for name in unsaid]] = captioned.UNSAID
    noise = torch.randn(COUNT, 4, captioned.SIDE, captioned.SIDE, generator=torch.Generator().manual_seed(8))
    return captions, noise


def of_teacher(teacher: DiT, weak: DiT, guidance: float) -> Callable[[Tensor], Network]:
    """A guided teacher, waiting for captions."""
    return lambda captions: guided(teacher, captions, weak, guidance)


def images() -> dict[str, Any]:
    """Every sampler at 1, 2, 4 and 8 steps: with whole captions, and with captions that leave much to the noise."""
    teacher = load_teacher(path=weights("teacher"))
    judge = Judge()
    return {
        "count": COUNT,
        "unsaid": {name: list(words) for name, words in CAPTIONS.items()},
        "parameters": {
            "teacher": sum(p.numel() for p in teacher.parameters()),
            "adapters": sum(v.numel() for v in adapter_state(student_of(teacher)).values()),
        },
        "training": {name: told(name, 0) for name in NAMES if (folder(name, 0) / "weights.safetensors").exists()},
        "real": judge(judge.real.images, judge.real.captions, None),
        **{name: samplers(teacher, judge, *inputs(words)) for name, words in CAPTIONS.items()},
    }


def samplers(teacher: DiT, judge: Judge, captions: Tensor, noise: Tensor) -> dict[str, Any]:
    """The teacher and each student, at every number of steps, on the same captions and noise."""
    reference = drawn(teacher.given, captions, noise, REFERENCE)

    @functools.cache
    def euler(steps: int) -> dict[str, float]:
        return judge(drawn(teacher.given, captions, noise, steps), captions, reference)

    found: dict[str, Any] = {"teacher": {str(steps): euler(steps) for steps in (*FEW, REFERENCE)}}
    weak = load_teacher(path=weights("early"))
    strong = drawn(of_teacher(teacher, weak, GUIDANCE), captions, noise, REFERENCE // 2)
    found["autoguidance"] = {"weight": GUIDANCE, "steps": REFERENCE // 2, **judge(strong, captions, None)}
    print("teacher", found["teacher"], flush=True)
    for name in STUDENTS:
        found[name] = of_students(name, teacher, judge, captions, noise, reference)
    found["as good"] = {str(steps): as_good(found["student"]["mean"][str(steps)], euler) for steps in FEW[:2]}
    return found


def of_students(
    name: str, teacher: DiT, judge: Judge, captions: Tensor, noise: Tensor, reference: Tensor
) -> dict[str, Any]:
    """Every seed of a training that is done, at every number of steps, and the mean over seeds."""
    there = [seed for seed in runs.SEEDS if (folder(name, seed) / "weights.safetensors").exists()]
    students = [load_student(path=weights(name, seed), teacher=teacher) for seed in there]
    training = [told(name, seed) for seed in there]
    return {"seeds": there, "training": training, **judged(students, judge, captions, noise, reference)}


def judged(
    students: Sequence[DiT], judge: Judge, captions: Tensor, noise: Tensor, reference: Tensor
) -> dict[str, Any]:
    """Each student's scores at every number of steps, a list over students, and their mean."""
    rows: dict[str, list[dict[str, float]]] = {str(steps): [] for steps in FEW}
    for student in students:
        for steps in FEW:
            samples = drawn(student.given, captions, noise, steps)
            rows[str(steps)].append(judge(samples, captions, reference))
        print({steps: row[-1] for steps, row in rows.items()}, flush=True)
    mean = {steps: {of: runs.mean([row[of] for row in each]) for of in each[0]} for steps, each in rows.items()}
    return {**rows, "mean": mean}


def as_good(student: dict[str, float], euler: Callable[[int], dict[str, float]]) -> dict[str, int | None]:
    """The fewest Euler steps of the teacher that are at least as good as a student, by each measure and by all."""
    fewest: dict[str, int | None] = dict.fromkeys((*EQUALS, "all"))
    for steps in MORE:
        row = euler(steps)
        reached = {of: (row[of] - student[of]) * (-1 if of == "distance" else 1) >= 0 for of in EQUALS}
        for of, good in {**reached, "all": all(reached.values())}.items():
            if good and fewest[of] is None:
                fewest[of] = steps
        if fewest["all"] is not None:
            break
    return fewest


WEIGHTS = (1.0, 3.0)  # of guidance, beside GUIDANCE: compared by the pictures after 64 steps
FEWER = 64  # captions for this comparison


def of_guidance(name: str) -> dict[str, Any]:
    """A guided teacher and its students, at every number of steps: its paths bend more.

    Args:
        name: of the captions. For the open ones other weights are measured too, by the teacher alone, and how many
            Euler steps are as good as the student.
    """
    teacher, weak = load_teacher(path=weights("teacher")), load_teacher(path=weights("early"))
    judge, network = Judge(), of_teacher(teacher, weak, GUIDANCE)
    captions, noise = inputs(CAPTIONS[name])
    reference = drawn(network, captions, noise, REFERENCE)

    @functools.cache
    def euler(steps: int) -> dict[str, float]:
        return judge(drawn(network, captions, noise, steps), captions, reference)

    found: dict[str, Any] = {"weight": GUIDANCE}
    found["teacher"] = {str(steps): euler(steps) for steps in (*FEW, REFERENCE)}
    found["student"] = of_students("guided", teacher, judge, captions, noise, reference)
    if name == "open":
        found["as good"] = {str(steps): as_good(found["student"]["mean"][str(steps)], euler) for steps in FEW[:2]}
        captions, noise = captions[:FEWER], noise[:FEWER]
        samples = {weight: drawn(of_teacher(teacher, weak, weight), captions, noise, REFERENCE) for weight in WEIGHTS}
        samples[GUIDANCE] = reference[:FEWER]
        found["choice"] = {f"{weight:g}": judge(x, captions, None) for weight, x in sorted(samples.items())}
        found["choice"]["captions"] = FEWER
    print("guided", name, found, flush=True)
    return found


def told(name: str, seed: int) -> dict[str, int]:
    """Steps and seconds of a training."""
    about = read_metadata(weights(name, seed))
    return {"steps": int(about["steps"]), "seconds": int(about["seconds"])}


TURNS = 60  # of the stopwatch


def networks() -> tuple[DiT, DiT, DiT]:
    """Teacher, weak teacher and student of the trainings."""
    teacher, weak = load_teacher(path=weights("teacher")), load_teacher(path=weights("early"))
    return teacher, weak, load_student(path=weights("student"), teacher=teacher)


def speed(measured: dict[str, Any], teacher: DiT, weak: DiT, student: DiT, turns: int = TURNS) -> dict[str, Any]:
    """CPU milliseconds of a network call for a picture, and how many times the students' time the teachers take.

    Args:
        measured: what :func:`images` and :func:`of_guidance` found: the Euler steps that are as good.
        teacher: alone and, with ...
        weak: ... this one's help, guided.
        student: any of them, since a call of each costs the same.
        turns: of the stopwatch.

    Returns:
        ``milliseconds`` of a call of the teacher, the guided teacher, a student whose adapters are merged into its
        weights, as you would use it, and one whose adapters are not; ``slower`` and ``slower, unmerged``, the shares
        of a teacher's call that a student's takes longer;
        and for each comparison, number of jumps and measure the teacher's time at equal quality over the student's;
        None where no number of steps was as good.
    """
    captions, noise = inputs()
    some, x, t = captions[:64], noise[:64], torch.ones(len(noise[:64]))
    networks = {"teacher": teacher.given(some), "guided": guided(teacher, some, weak, GUIDANCE)}
    networks |= {"student": merged(student).given(some), "student, unmerged": student.given(some)}
    with torch.no_grad():
        calls = [lambda network=network: network(x, t, t / 2) for network in networks.values()]
        in_turns(calls, 1)
        costs = dict(zip(networks, (each.cpu / len(x) for each in in_turns(calls, turns)), strict=True))
    found: dict[str, Any] = {"milliseconds": {name: round(1e3 * each, 3) for name, each in costs.items()}}
    for slower, name in (("slower", "student"), ("slower, unmerged", "student, unmerged")):
        found[slower] = round(costs[name] / costs["teacher"] - 1, 4)
    for name, call in (("open", "teacher"), ("whole", "teacher"), ("guided, open", "guided")):
        found[name] = {
            jumps: {
                of: None if steps is None else round(steps * costs[call] / (int(jumps) * costs["student"]), 2)
                for of, steps in fewest.items()
            }
            for jumps, fewest in measured[name]["as good"].items()
        }
    return found


def directions() -> dict[str, list[float]]:
    """The length of the direction while students learn, averaged over 30 stretches of each training."""
    there = [
        name for name in ("student", "short", "too-fast", "without-s") if (folder(name, 0) / "log.jsonl").exists()
    ]
    return {name: runs.smooth(folder(name, 0), "direction", 30) for name in there}


# ------------------------------------------------------------------------------------------ back to video

STILLS = 512  # pictures that a generator draws for MaskTrack
VIDEO_STEPS = 200  # of MaskTrack's training: a twelfth of its recipe
CLIPS = 2  # of each condition of the sprite benchmark
LINES = 240  # of real video
REAL_CLIPS = 4  # the first ones of the folder's list
SOURCES = ("sprites", "world", "flow map, 2")


def stills(name: str) -> Any:
    """A source of stills: ``sprites``, ``world`` (the captioned world's own pictures), or ``flow map, N``."""
    if name == "sprites":
        return SyntheticStills()
    seeds = range(9_000_000, 9_000_000 + STILLS)
    if name == "world":
        return DrawnStills(captioned.draw(seeds).images, name)
    teacher = load_teacher(path=weights("teacher"))
    student = load_student(path=weights("student"), teacher=teacher)
    captions, noise = captioned.random_captions(seeds), noise_for(9, STILLS, teacher)
    return DrawnStills(drawn(student.given, captions, noise, int(name.split(", ")[1])), name)


def masktrack_folder(name: str, seed: int) -> Path:
    """Where such a training lives."""
    return folder(runs.file_name(f"masktrack {name}"), seed)


def masktrack_on(name: str, seed: int) -> masktrack.MaskTrack:
    """MaskTrack's small recipe, shortened, on stills of one source."""
    path = masktrack_folder(name, seed) / "weights.safetensors"
    network = models.build("masktrack")
    assert isinstance(network, masktrack.MaskTrack)
    if path.exists():
        load_weights(path, network)
        return network.eval()
    torch.manual_seed(seed)
    network = models.build("masktrack")
    assert isinstance(network, masktrack.MaskTrack)
    recipe = load("masktrack", "cpu")
    recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=VIDEO_STEPS),))
    train(network, masktrack_task(stills(name)), recipe, seed=seed, out=path.parent, progress=False)
    save_weights(path, network, {"method": "masktrack", "size": "small"})
    return network


def video() -> dict[str, Any]:
    """MaskTrack trained on generated stills beside MaskTrack on sprites, on the sprite benchmark."""
    clips = list(benchmark(CLIPS))
    found: dict[str, Any] = {"steps": VIDEO_STEPS, "stills": STILLS, "clips_per_condition": CLIPS, "seeds": []}
    found["copy first"] = by_condition_j(CopyFirst(), clips)
    for name in SOURCES:
        found[name] = []
    for seed in runs.SEEDS:
        for name in SOURCES:
            network = masktrack_on(name, seed)
            found[name].append(by_condition_j(masktrack.MaskTrackSegmenter(network), clips))
            print(name, seed, found[name][-1]["mean"], flush=True)
        found["seeds"].append(seed)
        keep(OUT, {"video": found}, COMMAND)
    return found


def by_condition_j(segmenter: Segmenter, clips: list[Clip]) -> dict[str, float]:
    """J in percent for each condition, and their mean."""
    scores = {name: score["J"] for name, score in runs.by_condition(segmenter, clips).items()}
    return {**scores, "mean": runs.mean(list(scores.values()))}


def real_video(root: Path) -> dict[str, Any]:
    """J on real video at 240 lines, DAVIS-2016 protocol; measured only."""
    videos = DavisFolder(root)
    clips = [videos[i] for i in range(min(REAL_CLIPS, len(videos)))]
    found: dict[str, Any] = {"lines": LINES, "clips": [clip.name for clip in clips]}
    methods: dict[str, list[Segmenter]] = {"copy first": [CopyFirst()]}
    for name in SOURCES:
        seeds = [s for s in runs.SEEDS if masktrack_folder(name, s).exists()]
        methods[name] = [
            models.segmenter("masktrack", network=masktrack_on(name, s), short_side=LINES) for s in seeds
        ]
    for name, several in methods.items():
        reports = [evaluation.evaluate(each, clips, protocol="davis2016") for each in several]
        found[name] = [runs.percent(report.average().J.mean) for report in reports]
        print("real", name, found[name], flush=True)
    return found


MASKS = runs.RESULTS / "07_video_masks.json"
SHOWN = (0, 4, 8, 11, 15)  # frames of the picture


def video_masks() -> dict[str, Any]:
    """What seed 0 of each source answers on the benchmark's first clip: ``runs``, see :func:`run_lengths`."""
    clip = next(benchmark(1))
    found: dict[str, Any] = {"clip": clip.name, "seed": 0, "size": clip.frames.shape[-1], "frames": SHOWN, "runs": {}}
    for name in SOURCES:
        ids = propagate(masktrack.MaskTrackSegmenter(masktrack_on(name, 0)), clip.frames, clip.first_mask)
        found["runs"][name] = run_lengths(ids[list(SHOWN)] > 0)
    return found


def run_lengths(mask: Tensor) -> str:
    """Masks, bool ``[T, H, W]``, as the lengths of stretches of background and of object, in turn, row by row."""
    flat = torch.cat([torch.zeros(1, dtype=torch.bool), mask.flatten()])  # begins with background, even of length 0
    lengths = torch.unique_consecutive(flat, return_counts=True)[1]
    lengths[0] -= 1
    return " ".join(map(str, lengths.tolist()))


# ------------------------------------------------------------------------------------------------------ ship

SHIPPED = {
    "teacher": "teacher",
    "weak": "early",
    "student": "student",
    "student-guided": "guided",
    "student-adversarial": "adversarial",
    "student-without-s": "without-s",
    "reader": "reader",
}


def ship() -> None:
    """Store what readers get, in half precision; what is not finished stays as it is."""
    for name, training in SHIPPED.items():
        if not (folder(training, 0) / "weights.safetensors").exists():
            print(training, "is not finished;", generators.weights_file(name).name, "stays as it is")
            continue
        path = weights(training)
        network: nn.Module
        if training == "reader":
            network = load_reader(path)
        elif training in ("teacher", "early"):
            network = load_teacher(path=path)
        else:
            network = load_student(path=path, teacher=load_teacher(path=weights("teacher")))
        about = {k: v for k, v in read_metadata(path).items() if k not in ("method", "size", "options")}
        about["data"] = "the captioned world"
        save_network(generators.weights_file(name), network, about, half=True)
        print("shipped", generators.weights_file(name).name, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = ("train", "ship", "measure", "guided", "speed", "directions", "video", "real", "masks")
    parser.add_argument("what", choices=what)
    parser.add_argument("name", nargs="?", choices=[*NAMES, *WIDE])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder, for real")
    given = parser.parse_args()
    if given.what == "train":
        if given.name is None:
            parser.error("name the training")
        run(given.name, given.seed)
    elif given.what == "ship":
        ship()
    elif given.what == "measure":
        keep(OUT, images(), COMMAND)
    elif given.what == "guided":
        for name in CAPTIONS:
            keep(OUT, {f"guided, {name}": of_guidance(name)}, COMMAND)
    elif given.what == "speed":
        keep(OUT, {"speed": speed(json.loads(OUT.read_text()), *networks())}, COMMAND)
    elif given.what == "directions":
        keep(OUT, {"direction": directions()}, COMMAND)
    elif given.what == "video":
        keep(OUT, {"video": video()}, COMMAND)
    elif given.what == "masks":
        keep(MASKS, video_masks(), "python experiments/flow_images.py masks")
    else:
        keep(OUT, {"real video": real_video(given.davis)}, COMMAND)


if __name__ == "__main__":
    main()
