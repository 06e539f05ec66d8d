"""Several methods on the same clips: what each scored, what it cost, where it failed.

    entries = [entry("copy-first"), entry("stm:photos"), Entry("mine", MySegmenter)]
    found = compare(entries, clips)
    found.by_attribute(), found.difference("mine", "copy-first"), found.gaps()

Nothing is averaged over what is missing: an average is over the clips that every method has finished with every seed
(:meth:`Comparison.shared`), and :meth:`Comparison.gaps` says in sentences what was left out and why.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from . import __version__, models
from .baselines import BASELINES
from .clip import Clip
from .errors import TutorialError
from .evaluation import Segmentation, check_scorable, score, segment
from .files import write_atomically
from .metrics import PROTOCOLS, ProtocolName
from .models.weights import read_about
from .propagation import Resized, Segmenter

FORMAT = 1
Value = Literal["J", "F", "J&F"]
RESAMPLES = 2000


# ---------------------------------------------------------------------------------------------- who is compared


@dataclass(frozen=True)
class Entry:
    """One method with one seed.

    Attributes:
        method: what tables call it; entries with the same name and different seeds are repetitions of one method.
        make: a new segmenter, called once a clip, so that nothing is carried over.
        seed: of its training.
        about: what the result depends on (weights, options): results are taken up again only where it is the same.
    """

    method: str
    make: Callable[[], Segmenter]
    seed: int = 0
    about: dict[str, Any] = field(default_factory=dict)


def entry(name: str, device: torch.device | str | None = None) -> Entry:
    """A method by name.

    Args:
        name: ``"stm"``, one of its shipped variants ``"stm:photos"``, a training of your own
            ``"stm:runs/mine/weights.safetensors"``, a baseline (``"copy-first"``, ``"colour-memory"``,
            ``"label-propagation"``), or a segmenter of your own, ``"my_file.py:MySegmenter"`` or
            ``"package.module:MySegmenter"``, called without arguments. ``"@192"`` at the end lets it work at 192
            lines; without, a network works as its file says.
        device: where networks work.

    Raises:
        TutorialError: if there is no such method, variant or file, or the file holds another method's network.
    """
    plain, at, lines = name.partition("@")
    if at and not re.fullmatch(r"[1-9]\d*", lines):
        raise TutorialError(f"{name!r} has {lines!r} after the @; give a number of lines, such as @192.")
    side = int(lines) if at else None
    base, _, rest = plain.partition(":")
    if plain in BASELINES:
        return Entry(name, lambda: _at(BASELINES[plain](), side), about={"baseline": plain, "lines": side})
    if base in models.METHODS:
        own = rest.endswith(".safetensors")
        file = models.weights_file(base, rest) if own else models.weights_file(base, variant=rest)
        read_about(file).require_method(base)
        return Entry(
            name,
            lambda: models.segmenter(base, file, device=device, short_side=side),
            about={"weights": _digest(file.read_bytes()), "lines": side},
        )
    if ":" in plain:
        made, digest = _own(base, rest)
        return Entry(name, lambda: _at(made(), side), about={"source": digest, "lines": side})
    known = ", ".join([*BASELINES, *models.METHODS])
    raise TutorialError(
        f"there is no method {name!r}; choose from {known}, or name your own as my_file.py:MySegmenter."
    )


def _at(segmenter: Segmenter, side: int | None) -> Segmenter:
    return Resized(segmenter, side) if side else segmenter


def _own(module: str, name: str) -> tuple[Callable[[], Segmenter], str]:
    """What a file or module of the reader's calls ``name``, and a digest of its source."""
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            sys.path.insert(0, os.getcwd())
            loaded = importlib.import_module(module)
        made = getattr(loaded, name)
        source = Path(str(loaded.__file__)).read_bytes()
    except (OSError, ImportError, SyntaxError) as error:
        raise TutorialError(f"{module} cannot be loaded ({error}); correct it, or its path.") from error
    except AttributeError:
        raise TutorialError(f"{module} has no {name!r}; name the class or function that makes a segmenter.") from None
    if not callable(made):
        raise TutorialError(f"{name} in {module} cannot be called; name a class or function that makes a segmenter.")
    return made, _digest(source)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def clip_digest(clip: Clip) -> str:
    """Of all pixels and masks: two clips of one name may differ in size or version."""
    parts = (clip.frames.contiguous().numpy().tobytes(), clip.masks.contiguous().numpy().tobytes())
    return _digest(b"".join(parts))


# --------------------------------------------------------------------------------------------------- what came out


@dataclass(frozen=True)
class ObjectResult:
    """One object of one clip, over the frames that count.

    Attributes:
        object: its id.
        frames: numbers of the frames that count, n of them.
        J, F: n values in [0, 1].
        since_seen: n numbers of frames since the truth last showed the object (1: in the previous frame); 0 where the
            truth is empty, so that there is nothing to find.
    """

    object: int
    frames: tuple[int, ...]
    J: tuple[float, ...]
    F: tuple[float, ...]
    since_seen: tuple[int, ...]

    def mean(self, value: Value) -> float:
        """Over the frames that count, as DAVIS does."""
        means = {"J": float(np.mean(self.J)), "F": float(np.mean(self.F))}
        return (means["J"] + means["F"]) / 2 if value == "J&F" else means[value]


@dataclass(frozen=True)
class Run:
    """One method with one seed on one clip.

    Attributes:
        cpu_ms: processor milliseconds a frame, with what the method does in ``begin``; reading and scoring excluded.
        state: bytes of tensors that the method carries from frame to frame, at the end of the clip; no weights.
        error: why there is no result, or "".
    """

    method: str
    seed: int
    clip: str
    attributes: tuple[str, ...]
    frames: int
    objects: tuple[ObjectResult, ...] = ()
    cpu_ms: float = 0.0
    state: int = 0
    error: str = ""


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another, clip by clip.

    Attributes:
        mean: over the clips, in points of percent.
        low, high: where the mean of 95 % of the resampled sets of clips lies (bootstrap over clips).
        clips: how many.
        wins: on how many of them it is better.
    """

    mean: float
    low: float
    high: float
    clips: int
    wins: int


def difference(gains: Sequence[float]) -> Difference:
    """The mean of paired differences, one for each clip, with its interval.

    Args:
        gains: in points, at least one.
    """
    each = np.array(gains, np.float64)
    rng = np.random.default_rng(0)
    means = each[rng.integers(0, len(each), (RESAMPLES, len(each)))].mean(1)  # [RESAMPLES]
    low, high = np.quantile(means, [0.025, 0.975])
    mean, low, high = (round(float(x), 2) for x in (each.mean(), low, high))
    return Difference(mean, low, high, len(each), int((each > 0).sum()))


class Contrast(NamedTuple):
    """A frame in which one method fails and another succeeds."""

    clip: str
    object: int
    frame: int
    fails: str
    succeeds: str
    J: tuple[float, float]
    """Of the two, in [0, 1]."""


class Choice(NamedTuple):
    """Which method to take: see :meth:`Comparison.choice`."""

    best: str
    level: tuple[str, ...]
    """The others from which the clips do not tell it apart, in the order of the comparison."""
    cheapest: str
    gain: Difference | None
    """Of the best over the cheapest; None where they are the same."""


@dataclass(frozen=True)
class Comparison:
    """All runs, and what they may be averaged to.

    Attributes:
        protocol: what they were scored by.
        about: for each ``"method, seed"`` what its results depend on.
        digests: of the clips, by name.
        runs: in the order in which they were made.
        version: of this package, that made them.
    """

    protocol: ProtocolName = "davis2017"
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    version: str = __version__

    # ---------------------------------------------------------------------------------------- who and what

    def methods(self) -> list[str]:
        """Names, in the order of the first run."""
        return list(dict.fromkeys(run.method for run in self.runs))

    def seeds(self, method: str) -> list[int]:
        """Of one method, ascending."""
        return sorted({run.seed for run in self.runs if run.method == method})

    def shared(self) -> list[str]:
        """Clips that every method has finished with each of its seeds: what averages are over."""
        pairs = {(run.method, run.seed) for run in self.runs}
        done = {(run.method, run.seed, run.clip) for run in self.runs if not run.error}
        return [
            clip for clip in dict.fromkeys(run.clip for run in self.runs) if all((*p, clip) in done for p in pairs)
        ]

    def finished(self, methods: Sequence[str]) -> list[str]:
        """Clips that these methods have finished with each of their seeds, whatever the others did."""
        return replace(self, runs=tuple(run for run in self.runs if run.method in methods)).shared()

    def only(self, clips: Sequence[str] | None = None, methods: Sequence[str] | None = None) -> Comparison:
        """The runs on some clips, of some methods, which stand in the order in which they are named.

        A method without a run on these clips is no longer in it.
        """
        kept = [run for run in self.runs if clips is None or run.clip in clips]
        if methods is not None:
            kept = [run for method in methods for run in kept if run.method == method]
        return replace(self, runs=tuple(kept))

    def having(self, attribute: str) -> Comparison:
        """The runs on clips with one attribute; all of them with ``"all"``, as in :meth:`by_attribute`.

        Raises:
            TutorialError: if no clip has it.
        """
        if attribute == "all":
            return self
        kept = tuple(run for run in self.runs if attribute in run.attributes)
        if not kept:
            known = ", ".join(["all", *sorted({name for run in self.runs for name in run.attributes})])
            raise TutorialError(f"no clip here has the attribute {attribute!r}; choose from {known}.")
        return replace(self, runs=kept)

    def gaps(self) -> list[str]:
        """Sentences about what is missing from the averages; empty if nothing is."""
        older = f"The runs were made by version {self.version}, this is {__version__}."
        said = [older] * (_series(self.version) != _series(__version__))
        said += [f"{_who(run)} failed on {run.clip}: {run.error}" for run in self.runs if run.error]
        clips = list(dict.fromkeys(run.clip for run in self.runs))
        for method in self.methods():
            for seed in self.seeds(method):
                there = {run.clip for run in self.runs if (run.method, run.seed) == (method, seed)}
                if missing := [clip for clip in clips if clip not in there]:
                    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                    said.append(f"{method}{f' (seed {seed})' if seed else ''} has no result for {missing[0]}{more}.")
        counts = {method: len(self.seeds(method)) for method in self.methods()}
        if len(set(counts.values())) > 1:
            said.append("Seeds: " + ", ".join(f"{method} {count}" for method, count in counts.items()) + ".")
        left_out = len(clips) - len(self.shared())
        if left_out:
            said.append(
                f"Averages are over the {_clips(len(self.shared()))} that all methods finished, not {len(clips)}."
            )
        return said

    # --------------------------------------------------------------------------------------------- averages

    def by_attribute(self, value: Value = "J&F") -> dict[str, dict[str, list[float]]]:
        """``{attribute: {method: [percent for each seed]}}`` over the shared clips; first ``"all"``.

        A clip counts once, with the mean of its objects, as in :meth:`difference`: the difference of two averages is
        then the average of the paired gains. (DAVIS-2017's own table, which ``evaluate`` prints, counts each object
        once.)

        Raises:
            TutorialError: if no clip was finished by all methods.
        """
        shared = set(self._need_shared())
        names = sorted({name for run in self.runs if run.clip in shared for name in run.attributes})
        return {name: self._averages(shared, value, name) for name in ["all", *names]}

    def _averages(self, shared: set[str], value: Value, attribute: str) -> dict[str, list[float]]:
        table: dict[str, list[float]] = {}
        for method in self.methods():
            for seed in self.seeds(method):
                scores = [
                    np.mean([one.mean(value) for one in run.objects])
                    for run in self._of(method, seed, shared)
                    if attribute == "all" or attribute in run.attributes
                ]
                table.setdefault(method, []).append(round(100 * float(np.mean(scores)), 2))
        return table

    def cost(self) -> dict[str, dict[str, float]]:
        """``{method: {"J&F", "cpu_ms", "state"}}`` over the shared clips.

        Percent (see :meth:`by_attribute`), processor milliseconds a frame, and bytes at the end of the clip that
        needs the most.
        """
        shared = set(self._need_shared())
        scores = self._averages(shared, "J&F", "all")
        table = {}
        for method in self.methods():
            runs = [run for seed in self.seeds(method) for run in self._of(method, seed, shared)]
            frames = sum(run.frames for run in runs)
            table[method] = {
                "J&F": float(np.mean(scores[method])),
                "cpu_ms": round(sum(run.cpu_ms * run.frames for run in runs) / frames, 2),
                "state": float(max(run.state for run in runs)),
            }
        return table

    def difference(self, method: str, against: str, value: Value = "J&F") -> Difference:
        """Paired: on each shared clip the mean over objects and seeds of one method minus the other's.

        Raises:
            TutorialError: if one of the two is not here, or no clip is shared.
        """
        return difference(self.gains(method, against, value))

    def gains(self, method: str, against: str, value: Value = "J&F") -> list[float]:
        """In points, for each clip of :meth:`shared` one method minus the other; see :meth:`difference`.

        Raises:
            TutorialError: if one of the two is not here, or no clip is shared.
        """
        pairs = zip(self.scores(method, value), self.scores(against, value), strict=True)
        return [ours - theirs for ours, theirs in pairs]

    def choice(self, price: Mapping[str, float]) -> Choice:
        """The method with the highest J&F, those *level* with it, and the cheapest of them all.

        Level means that the interval of the paired difference (:meth:`difference`) contains 0. That is no proof of
        being as good: with few clips the interval is wide.

        Args:
            price: of each method, for example processor milliseconds a frame.

        Raises:
            TutorialError: if a method has no price, or no clip is shared.
        """
        self._need_shared()
        if missing := [name for name in self.methods() if name not in price]:
            raise TutorialError(f"{missing[0]} has no price; pass one for each of {', '.join(self.methods())}.")
        average = {name: float(np.mean(self.scores(name))) for name in self.methods()}
        best = max(average, key=lambda name: average[name])
        level = tuple(name for name in average if name != best and self.difference(best, name).low <= 0)
        cheapest = min((best, *level), key=lambda name: price[name])
        return Choice(best, level, cheapest, None if cheapest == best else self.difference(best, cheapest))

    def scores(self, method: str, value: Value = "J&F") -> list[float]:
        """In percent, for each clip of :meth:`shared` the mean over its objects and the method's seeds.

        Raises:
            TutorialError: if the method is not here, or no clip is shared.
        """
        self._need(method)
        return [100 * self._on(method, clip, value) for clip in self._need_shared()]

    def since_seen(self, edges: Sequence[int] = (1, 2, 3, 5, 9, 17)) -> dict[str, list[float]]:
        """J in percent of frames that show the object, by how many frames ago the truth showed it last.

        Args:
            edges: where the groups begin, ascending; the last group has no end.

        Returns:
            for each method a value a group; NaN where there is no such frame.
        """
        shared = set(self._need_shared())
        table = {}
        for method in self.methods():
            runs = [run for seed in self.seeds(method) for run in self._of(method, seed, shared)]
            pairs = [pair for run in runs for one in run.objects for pair in zip(one.since_seen, one.J, strict=True)]
            groups: list[list[float]] = [[] for _ in edges]
            for ago, j in pairs:
                if ago >= edges[0]:
                    groups[int(np.searchsorted(edges, ago, side="right")) - 1].append(j)
            table[method] = [round(100 * float(np.mean(group)), 2) if group else float("nan") for group in groups]
        return table

    def hidden(self) -> dict[str, dict[str, float]]:
        """J in percent of objects that are hidden in between: before, at the two edges, and later.

        Returns:
            ``{method: {"before", "last frame before", "first frame back", "later"}}`` over frames of the shared
            clips that show the object; NaN where there is none. At the edges often only a strip of it is visible.
        """
        shared, table = set(self._need_shared()), {}
        for method in self.methods():
            groups: dict[str, list[float]] = {
                "before": [], "last frame before": [], "first frame back": [], "later": [],
            }  # fmt: skip
            before, last, first, later = groups.values()
            runs = [run for seed in self.seeds(method) for run in self._of(method, seed, shared)]
            for one in (one for run in runs for one in run.objects):
                if max(one.since_seen) <= 1:
                    continue
                gone = next(i for i, ago in enumerate(one.since_seen) if ago != 1)
                before += one.J[: max(gone - 1, 0)]
                last += one.J[max(gone - 1, 0) : gone]
                for ago, j in list(zip(one.since_seen, one.J, strict=True))[gone:]:
                    if ago:
                        (first if ago > 1 else later).append(j)
            table[method] = {k: round(100 * float(np.mean(v)), 2) if v else float("nan") for k, v in groups.items()}
        return table

    def by_frame(self) -> dict[str, list[float]]:
        """J in percent by the number of the frame, over the objects of the shared clips; NaN where none is scored."""
        shared = set(self._need_shared())
        length = max(run.frames for run in self.runs)
        table = {}
        for method in self.methods():
            groups: list[list[float]] = [[] for _ in range(length)]
            for seed in self.seeds(method):
                for run in self._of(method, seed, shared):
                    for one in run.objects:
                        for t, j in zip(one.frames, one.J, strict=True):
                            groups[t].append(j)
            table[method] = [100 * float(np.mean(group)) if group else float("nan") for group in groups]
        return table

    def widest(self) -> tuple[str, int, int]:
        """Clip, object and frame in which the methods' J differ most: where to look first."""
        shared = set(self._need_shared())
        values: dict[tuple[str, int, int], list[float]] = {}
        for run in self.runs:
            if run.clip in shared:
                for one in run.objects:
                    for t, j in zip(one.frames, one.J, strict=True):
                        values.setdefault((run.clip, one.object, t), []).append(j)
        return max(values, key=lambda place: max(values[place]) - min(values[place]))

    def contrast(
        self, fails: str, succeeds: str, attribute: str = "", shows: Callable[[Contrast], bool] | None = None
    ) -> Contrast:
        """Where one method fails and another succeeds most clearly: the frame with the largest difference of J.

        Args:
            fails, succeeds: methods, each with its first seed.
            attribute: of the clips; any by default.
            shows: whether a frame will do, asked from the largest difference down. Runs hold no masks, so that an
                empty answer and one on the wrong thing are both a J of 0; a picture needs one that can be seen.

        Raises:
            TutorialError: if one of the two is not here, they share no such clip, or no frame will do.
        """
        j: dict[str, dict[tuple[str, int, int], float]] = {}
        for method in (fails, succeeds):
            self._need(method)
            runs = self._of(method, self.seeds(method)[0], set(self.only(methods=[fails, succeeds]).shared()))
            j[method] = {
                (run.clip, one.object, t): value
                for run in runs
                if not attribute or attribute in run.attributes
                for one in run.objects
                for t, value, ago in zip(one.frames, one.J, one.since_seen, strict=True)
                if ago  # an object that cannot be seen makes no picture
            }
        if not j[fails]:
            raise TutorialError(
                f"{fails} and {succeeds} share no clip with {attribute or 'an object'}; run them first."
            )
        for place in sorted(j[fails], key=lambda where: j[fails][where] - j[succeeds][where]):
            found = Contrast(*place, fails, succeeds, (j[fails][place], j[succeeds][place]))
            if shows is None or shows(found):
                return found
        raise TutorialError(f"no frame of {fails} and {succeeds} will do; ask less of it.")

    def _of(self, method: str, seed: int, clips: set[str]) -> list[Run]:
        return [run for run in self.runs if (run.method, run.seed) == (method, seed) and run.clip in clips]

    def _on(self, method: str, clip: str, value: Value) -> float:
        runs = [run for run in self.runs if run.method == method and run.clip == clip]
        return float(np.mean([one.mean(value) for run in runs for one in run.objects]))  # as many objects a seed

    def _need(self, method: str) -> None:
        if method not in self.methods():
            raise TutorialError(f"there is no {method!r} in this comparison; it has {', '.join(self.methods())}.")

    def _need_shared(self) -> list[str]:
        shared = self.shared()
        if not shared:
            raise TutorialError("no clip was finished by all methods; " + (self.gaps() or ["run them first."])[0])
        return shared

    # ------------------------------------------------------------------------------------------- more, and files

    def with_run(self, entry: Entry, clip: Clip, run: Run) -> Comparison:
        """With one more run; an earlier one of the same method, seed and clip goes."""
        kept = tuple(r for r in self.runs if (r.method, r.seed, r.clip) != (run.method, run.seed, run.clip))
        return replace(
            self,
            about={**self.about, _named(entry.method, entry.seed): entry.about},
            digests={**self.digests, clip.name: clip_digest(clip)},
            runs=(*kept, run),
        )

    def has(self, entry: Entry, clip: Clip) -> bool:
        """Whether a finished run is here."""
        wanted = (entry.method, entry.seed, clip.name)
        return any((run.method, run.seed, run.clip) == wanted and not run.error for run in self.runs)

    def still_true_of(self, entries: Sequence[Entry]) -> Comparison:
        """Without runs of these entries that had other weights or options."""
        changed = {
            (each.method, each.seed)
            for each in entries
            if self.about.get(_named(each.method, each.seed), each.about) != each.about
        }
        return replace(self, runs=tuple(run for run in self.runs if (run.method, run.seed) not in changed))

    def still_true_on(self, clip: Clip) -> Comparison:
        """Without runs on a clip of this name that had other pixels."""
        if self.digests.get(clip.name, digest := clip_digest(clip)) == digest:
            return self
        return replace(self, runs=tuple(run for run in self.runs if run.clip != clip.name))

    def joined(self, other: Comparison) -> Comparison:
        """Both, if they may stand side by side.

        Raises:
            TutorialError: if the protocol differs, a clip of one name has other pixels, or a method other weights.
        """
        if self.protocol != other.protocol:
            raise TutorialError(f"one comparison is scored by {self.protocol}, the other by {other.protocol}.")
        if _series(self.version) != _series(other.version):
            raise TutorialError(
                f"one comparison was made by version {self.version}, the other by {other.version}; run one again."
            )
        for clip in self.digests.keys() & other.digests.keys():
            if self.digests[clip] != other.digests[clip]:
                raise TutorialError(
                    f"the two comparisons saw different clips under the name {clip!r}; run one again."
                )
        for name in self.about.keys() & other.about.keys():
            if self.about[name] != other.about[name]:
                raise TutorialError(
                    f"the two comparisons used different weights or options of {name}; run one again."
                )
        ours = {(run.method, run.seed, run.clip) for run in self.runs}
        new = tuple(run for run in other.runs if (run.method, run.seed, run.clip) not in ours)
        return replace(
            self,
            about={**other.about, **self.about},
            digests={**other.digests, **self.digests},
            runs=self.runs + new,
        )

    def to_json(self) -> str:
        """Everything, read back by :func:`read`."""
        runs = [asdict(run) for run in self.runs]
        for run in runs:
            for one in run["objects"]:
                one["J"], one["F"] = ([round(x, 4) for x in one[name]] for name in ("J", "F"))
        head = {"format": FORMAT, "version": self.version, "protocol": self.protocol}
        lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)  # a run a line
        start = json.dumps({**head, "about": self.about, "digests": self.digests}, indent=0).removesuffix("\n}")
        return f'{start},\n"runs": [\n{lines}\n]\n}}\n'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json`, whole or not at all."""
        write_atomically(Path(path), self.to_json().encode())


def read(path: str | os.PathLike[str]) -> Comparison:
    """A comparison from its file.

    Raises:
        TutorialError: if the file is missing, no comparison, or of another format.
    """
    try:
        data = json.loads(Path(path).read_text("utf-8"))
        if data["format"] != FORMAT:
            raise TutorialError(f"{path} has format {data['format']}, this version reads {FORMAT}; compare again.")
        if data["protocol"] not in PROTOCOLS:
            raise KeyError("protocol")
        runs = tuple(_run(run) for run in data["runs"])
        return Comparison(data["protocol"], data["about"], data["digests"], runs, str(data["version"]))
    except OSError as error:
        raise TutorialError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TutorialError(f"{path} is no comparison ({type(error).__name__}: {error}); compare again.") from None


def _run(data: dict[str, Any]) -> Run:
    def one(part: dict[str, Any]) -> ObjectResult:
        lists = {name: tuple(part[name]) for name in ("frames", "J", "F", "since_seen")}
        if len({len(values) for values in lists.values()}) != 1:
            raise ValueError(f"lists of different lengths for {data['clip']}")
        return ObjectResult(int(part["object"]), **lists)

    rest = {key: data[key] for key in ("method", "seed", "clip", "frames", "cpu_ms", "state", "error")}
    return Run(**rest, attributes=tuple(data["attributes"]), objects=tuple(map(one, data["objects"])))


def _series(version: str) -> str:
    """0.1 of 0.1.3: within a series, the same weights give the same answers."""
    return ".".join(version.split(".")[:2])


def _named(method: str, seed: int) -> str:
    return f"{method}, {seed}"


def _clips(count: int) -> str:
    return f"{count} clip{'s' * (count != 1)}"


def _who(run: Run) -> str:
    return f"{run.method} (seed {run.seed})" if run.seed else run.method


# ------------------------------------------------------------------------------------------------- making the runs


def compare(
    entries: Sequence[Entry],
    clips: Iterable[Clip],
    protocol: ProtocolName = "davis2017",
    before: Comparison | None = None,
    device: torch.device | str = "cpu",
) -> Comparison:
    """All entries on all clips; see :func:`steps`, of which this is the last."""
    found = before or Comparison(protocol)
    for found, _ in steps(entries, clips, protocol, before, device):  # noqa: B007
        pass
    return found


def steps(
    entries: Sequence[Entry],
    clips: Iterable[Clip],
    protocol: ProtocolName = "davis2017",
    before: Comparison | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Comparison, Run]]:
    """One run after the other, so that each can be saved; a clip is read once for all methods.

    Args:
        entries: who is compared.
        clips: read one at a time.
        protocol: see :func:`vos_tutorial.metrics.score_objects`.
        before: an earlier comparison; what it has of the same weights and the same pixels is not run again.
        device: where frames are put.

    Yields:
        the comparison so far, and the run that is new in it. A method that fails on a clip gives a run with an error.

    Raises:
        TutorialError: if nobody or two of the same name and seed are to be compared, the earlier comparison has
            another protocol, or a clip cannot be scored.
    """
    names = [(entry.method, entry.seed) for entry in entries]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise TutorialError(
            f"{_named(*twice)} is there twice; give it another seed." if twice else "name a method to compare."
        )
    found = before or Comparison(protocol)
    if found.protocol != protocol:
        raise TutorialError(f"the earlier comparison is scored by {found.protocol}, not {protocol}; start a new one.")
    found = found.still_true_of(entries)
    for clip in clips:
        check_scorable(clip, protocol)
        found = found.still_true_on(clip)
        for each in entries:
            if not found.has(each, clip):
                run = run_once(each, clip, protocol, device)
                found = found.with_run(each, clip, run)
                yield found, run


def run_once(entry: Entry, clip: Clip, protocol: ProtocolName, device: torch.device | str = "cpu") -> Run:
    """One method on one clip; what it raises becomes the run's ``error``."""
    plain = Run(entry.method, entry.seed, clip.name, clip.attributes, len(clip))
    try:
        segmenter = entry.make()
        began = time.process_time()
        answer = segment(segmenter, clip, protocol, device)
        spent = time.process_time() - began
        objects = results(clip, answer, protocol)
    except (TutorialError, RuntimeError, ValueError, MemoryError, ArithmeticError) as error:
        sentence = (str(error) or type(error).__name__).strip().splitlines()[0]
        return replace(plain, error=sentence)
    return replace(plain, objects=objects, cpu_ms=round(1000 * spent / len(clip), 3), state=state_bytes(segmenter))


def results(clip: Clip, answer: Segmentation, protocol: ProtocolName) -> tuple[ObjectResult, ...]:
    """The scores of an answer, with how long ago each object was last seen."""
    made = []
    for row in score(clip, answer, protocol):
        one = row.score
        truth = clip.masks == one.object if protocol != "davis2016" else (clip.masks != 0) & (clip.masks != 255)
        ago = since_seen(truth)
        frames = one.frames.tolist()
        made.append(
            ObjectResult(
                one.object,
                tuple(frames),
                tuple(float(x) for x in one.J[one.frames]),
                tuple(float(x) for x in one.F[one.frames]),
                tuple(ago[t] for t in frames),
            )
        )
    return tuple(made)


def since_seen(truth: Tensor) -> list[int]:
    """For each frame how many frames ago the object was last seen; 0 where it cannot be seen, or never was before.

    Args:
        truth: ``bool [T, H, W]``.
    """
    seen, last, ago = truth.flatten(1).any(1).tolist(), None, []
    for t, visible in enumerate(seen):
        ago.append(t - last if visible and last is not None else 0)
        last = t if visible else last
    return ago


def state_bytes(segmenter: object) -> int:
    """Bytes of all tensors that a segmenter holds, at any depth, without the weights of its networks."""
    found: dict[int, int] = {}
    seen: set[int] = set()

    def walk(x: object) -> None:
        if id(x) in seen or isinstance(x, (nn.Module, str, bytes, int, float, type(None))):
            return
        seen.add(id(x))
        if isinstance(x, nn.Parameter):
            return
        if isinstance(x, Tensor):
            storage = x.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()  # views of one storage count once
        elif isinstance(x, np.ndarray):
            found[id(x)] = x.nbytes
        elif isinstance(x, dict):
            for value in x.values():
                walk(value)
        elif isinstance(x, (list, tuple, set)) or type(x).__name__ == "deque":
            for value in x:  # type: ignore[attr-defined]
                walk(value)
        elif hasattr(x, "__dict__"):
            walk(vars(x))

    walk(segmenter)
    return sum(found.values())
