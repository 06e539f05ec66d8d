"""J, F and their statistics: against the definition written naively, by hand, and against the official numbers."""

from __future__ import annotations

import json
import math
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vos_tutorial.clip import read_mask
from vos_tutorial.errors import TutorialError
from vos_tutorial.metrics import (
    PROTOCOLS,
    Statistics,
    Summary,
    average,
    boundary_accuracy,
    boundary_map,
    boundary_tolerance,
    merge_objects,
    region_similarity,
    score_objects,
    scored_frames,
    statistics,
)

Mask = NDArray[np.bool_]
SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "metrics"
needs_golden = pytest.mark.skipif(
    not (GOLDEN / "golden_sample240.json").exists(), reason="the official numbers (../shared/metrics) are not here"
)


def picture(*rows: str) -> Mask:
    """``"..#"`` is background, background, foreground."""
    return np.array([[c in "#1" for c in row] for row in rows])


# ------------------------------------------------------- the definition, pixel by pixel, in plain Python


def naive_boundary(mask: Mask) -> set[tuple[int, int]]:
    h, w = mask.shape
    found = set()
    for y in range(h):
        for x in range(w):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(b < h and a < w and mask[b, a] != mask[y, x] for b, a in neighbours):
                found.add((y, x))
    return found


def naive_f(truth: Mask, prediction: Mask, radius: int) -> float:
    true, found = naive_boundary(truth), naive_boundary(prediction)

    def share_near(of: set[tuple[int, int]], to: set[tuple[int, int]]) -> float:
        hits = sum(any((y - b) ** 2 + (x - a) ** 2 <= radius**2 for b, a in to) for y, x in of)
        return hits / len(of)

    if not true or not found:
        return float(not true and not found)
    p, r = share_near(found, true), share_near(true, found)
    return 2 * p * r / (p + r) if p + r else 0.0


def naive_j(truth: Mask, prediction: Mask) -> float:
    union = (truth | prediction).sum()
    return (truth & prediction).sum() / union if union else 1.0


def random_masks(rng: np.random.Generator, t: int, h: int, w: int) -> Mask:
    """Specks, rectangles, empty and full frames: what a boundary can look like."""
    masks = np.zeros((t, h, w), dtype=bool)
    for k in range(t):
        kind = rng.integers(5)
        if kind == 0:
            masks[k] = rng.random((h, w)) < rng.choice([0.02, 0.3, 0.9])
        elif kind < 4:
            y, x = rng.integers(h), rng.integers(w)
            masks[k, y : y + rng.integers(1, h + 1), x : x + rng.integers(1, w + 1)] = True
        elif rng.random() < 0.5:
            masks[k] = True
    return masks


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8, 13, 30])
def test_equal_to_the_naive_definition(radius: int) -> None:
    rng = np.random.default_rng(radius)
    for t, h, w in [(3, 1, 1), (9, 1, 7), (2, 6, 1), (8, 5, 9), (17, 12, 10), (1, 9, 33)]:
        truth, prediction = random_masks(rng, t, h, w), random_masks(rng, t, h, w)
        bound_th = radius if radius else 0.0
        expected = [naive_f(a, b, radius) for a, b in zip(truth, prediction, strict=True)]
        assert boundary_accuracy(truth, prediction, bound_th).tolist() == expected
        assert region_similarity(truth, prediction).tolist() == [
            naive_j(a, b) for a, b in zip(truth, prediction, strict=True)
        ]


def test_the_packed_path_sees_the_public_boundary() -> None:
    rng = np.random.default_rng(1)
    for mask in random_masks(rng, 20, 7, 11):
        assert set(zip(*map(list, np.nonzero(boundary_map(mask))), strict=True)) == naive_boundary(mask)
    assert boundary_map(random_masks(rng, 4, 7, 11)).shape == (4, 7, 11)


def test_boundary_maps_by_hand() -> None:
    lone = picture("....", "..#.", "....")
    assert (boundary_map(lone) == picture(".##.", ".##.", "....")).all()
    assert not boundary_map(np.ones((4, 5), dtype=bool)).any(), "a full picture has no boundary"
    cut = picture("..##", "..##", "..##")  # touches three borders: only its left side is drawn
    assert (boundary_map(cut) == picture(".#..", ".#..", ".#..")).all()
    assert (boundary_map(cut) == boundary_map(~cut)).all(), "a mask and its complement have the same boundary"
    corner = picture("...", "...", "..#")
    assert (boundary_map(corner) == picture("...", ".##", ".#.")).all(), "the last corner never counts"


def test_edge_cases_of_j_and_f() -> None:
    empty, full = np.zeros((6, 8), dtype=bool), np.ones((6, 8), dtype=bool)
    blob = empty.copy()
    blob[2:4, 3:6] = True
    expected = {
        ("empty", "empty"): (1, 1),
        ("full", "full"): (1, 1),
        ("empty", "full"): (0, 1),  # no boundary on either side
        ("blob", "empty"): (0, 0),
        ("blob", "full"): (6 / 48, 0),
        ("blob", "complement"): (0, 1),
    }
    masks = {"empty": empty, "full": full, "blob": blob, "complement": ~blob}
    for (a, b), (j, f) in expected.items():
        for truth, prediction in ((masks[a], masks[b]), (masks[b], masks[a])):
            assert region_similarity(truth, prediction) == j, (a, b)
            assert boundary_accuracy(truth, prediction) == f, (a, b)


def test_the_tolerance_is_a_disk() -> None:
    truth, beside, diagonal = (np.zeros((1, 24, 40), dtype=bool) for _ in range(3))
    truth[0, 10, 10] = beside[0, 10, 11] = diagonal[0, 11, 11] = True
    assert boundary_tolerance(24, 40) == 1
    assert boundary_accuracy(truth, beside).item() == 1
    assert boundary_accuracy(truth, diagonal).item() == 0.75  # with a square it would be 1


def test_tolerance_in_pixels() -> None:
    sizes = {(480, 854): 8, (480, 910): 9, (480, 1152): 10, (240, 427): 4, (1080, 1920): 18, (100, 75): 1}
    assert {size: boundary_tolerance(*size) for size in sizes} == sizes
    assert boundary_tolerance(480, 854, 3) == 3
    for nonsense in (-0.1, 2.5, math.nan):
        with pytest.raises(TutorialError, match="bound_th"):
            boundary_tolerance(480, 854, nonsense)


def test_void_leaves_both_masks_before_the_boundary_is_drawn() -> None:
    rng = np.random.default_rng(2)
    truth, prediction, void = (random_masks(rng, 11, 9, 13) for _ in range(3))
    cut = truth & ~void, prediction & ~void
    assert (region_similarity(truth, prediction, void) == region_similarity(*cut)).all()
    assert (boundary_accuracy(truth, prediction, 2, void) == boundary_accuracy(*cut, 2)).all()


def test_numpy_torch_integers_and_single_masks_agree() -> None:
    rng = np.random.default_rng(3)
    truth, prediction = random_masks(rng, 10, 9, 13), random_masks(rng, 10, 9, 13)
    for measure in (region_similarity, boundary_accuracy):
        values = measure(truth, prediction)
        assert values.shape == (10,)
        assert values.dtype == np.float64
        assert (measure(torch.from_numpy(truth), torch.from_numpy(prediction)) == values).all()
        assert (measure(truth.astype(np.uint8) * 255, torch.from_numpy(prediction)) == values).all()
        assert (measure(truth[:, ::-1, ::-1], prediction[:, ::-1, ::-1]).shape) == (10,)  # views are fine
        single = measure(truth[4], prediction[4])
        assert single.ndim == 0
        assert single == values[4]
        assert measure(truth[:0], prediction[:0]).shape == (0,)


def test_bad_masks_are_refused() -> None:
    mask = np.zeros((2, 4, 5), dtype=bool)
    for measure in (region_similarity, boundary_accuracy):
        with pytest.raises(TutorialError, match=r"prediction is \[2, 4, 6\] where truth is \[2, 4, 5\]"):
            measure(mask, np.zeros((2, 4, 6), dtype=bool))
        with pytest.raises(TutorialError, match="truth is float32"):
            measure(mask.astype(np.float32), mask)
        with pytest.raises(TutorialError, match="void is"):
            measure(mask, mask, void=mask[0])
        with pytest.raises(TutorialError, match="truth is"):
            measure(mask[0, 0], mask[0, 0])


def test_no_float_video_in_memory() -> None:
    truth = np.zeros((40, 240, 320), dtype=bool)
    truth[:, 50:150, 60:200] = True
    prediction = np.roll(truth, 3, axis=2)
    for measure in (region_similarity, boundary_accuracy):
        tracemalloc.start()
        measure(truth, prediction)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < truth.nbytes  # one bool video; a float64 one would be eight


# --------------------------------------------------------------------------------- statistics, protocols


def test_statistics_by_hand() -> None:
    assert statistics([0.7]) == (0.7, 1, 0)
    assert statistics([0.9, 0.1]) == pytest.approx((0.5, 0.5, 0.8))
    mean, recall, _ = statistics([0.5, 0.5, 0.4, 0.6])
    assert (mean, recall) == (pytest.approx(0.5), 0.25), "recall is strictly above one half"
    # quarters share their border frames: [0, 1, 2] and [6, 7, 8] of nine
    assert statistics(np.arange(9) / 8).decay == pytest.approx(1 / 8 - 7 / 8)
    # round(linspace(1, 5, 5)) - 1 = 0..4: the first bin holds frames 0 and 1, the last 3 and 4
    assert statistics([1, 0.8, 0, 0.2, 0]).decay == pytest.approx(0.9 - 0.1)


def test_statistics_of_long_videos() -> None:
    for n in (255, 256, 257, 300, 400, 70_000):
        ramp = 1 - np.arange(n) / n
        assert statistics(ramp).decay == pytest.approx(0.75, abs=2 / n), n
    assert statistics(1 - np.arange(400) / 400).decay == pytest.approx(0.7475)  # uint8 borders would say 0.1075


def test_statistics_with_missing_frames(recwarn: pytest.WarningsRecorder) -> None:
    values = [0.9, math.nan, 0.7, 0.3]
    assert statistics(values).mean == pytest.approx(1.9 / 3)
    assert statistics(values).recall == 0.5
    assert math.isnan(statistics([math.nan]).mean)
    assert not recwarn.list
    for nothing in ([], [[0.1]]):
        with pytest.raises(TutorialError, match="at least one value"):
            statistics(nothing)  # type: ignore[arg-type]


def test_scored_frames() -> None:
    for protocol in ("davis2016", "davis2017"):
        assert scored_frames(5, protocol).tolist() == [1, 2, 3]
        assert scored_frames(2, protocol).tolist() == []
    assert scored_frames(11, "youtube-vos", (0, 5, 10)).tolist() == [5, 10]
    assert scored_frames(11, "youtube-vos", (0, 5, 10), first=5).tolist() == [10]
    with pytest.raises(TutorialError, match="davis2018"):
        scored_frames(5, "davis2018")  # type: ignore[arg-type]


@pytest.fixture
def clip_ids() -> NDArray[np.uint8]:
    """Five frames of 12x16: object 2 throughout, object 5 absent in frame 2, object 9 from frame 3 on, some void."""
    ids = np.zeros((5, 12, 16), dtype=np.uint8)
    ids[:, 1:5, 1:6] = 2
    ids[[0, 1, 3, 4], 6:11, 2:9] = 5
    ids[3:, 2:6, 10:14] = 9
    ids[:, 11, :] = 255
    return ids


def test_davis2017_scores_each_object_of_the_first_mask(clip_ids: NDArray[np.uint8]) -> None:
    prediction = clip_ids.copy()
    prediction[(prediction == 9) | (prediction == 255)] = 0
    two, five = score_objects(clip_ids, prediction)
    assert (two.object, five.object) == (2, 5)
    assert two.frames.tolist() == [1, 2, 3]
    assert five.J.tolist() == [1, 1, 1, 1, 1], "absent from both: 1"
    prediction[2, 6:8, 2:4] = 5
    assert score_objects(clip_ids, prediction)[1].J.tolist() == [1, 1, 0, 1, 1], "absent, but predicted: 0"
    prediction[4] = 0
    score = score_objects(clip_ids, prediction)[0]
    assert score.J[4] == 0
    assert score.summary.J.mean == 1, "the last frame is dropped"


def test_davis2016_merges_everything(clip_ids: NDArray[np.uint8]) -> None:
    (score,) = score_objects(clip_ids, merge_objects(clip_ids) * 255, "davis2016")
    assert score.object == 1
    assert score.summary == Summary(Statistics(1, 1, 0), Statistics(1, 1, 0))


def test_youtube_vos_starts_after_each_objects_first_mask(clip_ids: NDArray[np.uint8]) -> None:
    ids = torch.from_numpy(clip_ids)
    prediction = torch.where(ids == 255, 0, ids).to(torch.uint8)
    prediction[3][prediction[3] == 9] = 0  # where object 9 is given: does not count
    scores = {s.object: s for s in score_objects(ids, prediction, "youtube-vos", annotated=(0, 3, 4))}
    assert {i: s.frames.tolist() for i, s in scores.items()} == {2: [3, 4], 5: [3, 4], 9: [4]}
    assert np.isnan(scores[2].J).tolist() == [False, True, True, False, False]
    assert scores[9].summary.J.mean == 1
    ids[4][ids[4] == 9] = 0
    ids[4, 2:6, 10:14] = 7  # given in the last annotated frame: nothing left to score
    prediction[prediction == 9] = 0
    assert [s.object for s in score_objects(ids, prediction, "youtube-vos", (0, 3, 4))] == [2, 5, 9]


def test_what_cannot_be_scored_is_refused(clip_ids: NDArray[np.uint8]) -> None:
    stray = np.zeros_like(clip_ids)
    stray[1, 0, 0] = 9
    with pytest.raises(TutorialError, match=r"ids \[9\], but the given objects are \[2, 5\]"):
        score_objects(clip_ids, stray)
    with pytest.raises(TutorialError, match="same"):
        score_objects(clip_ids, clip_ids[:, :-1])
    with pytest.raises(TutorialError, match="at least three frames"):
        score_objects(clip_ids[:2], np.zeros_like(clip_ids[:2]))
    with pytest.raises(TutorialError, match="0/255 masks must be read as binary"):
        score_objects(np.full_like(clip_ids, 255), np.zeros_like(clip_ids))
    assert set(PROTOCOLS) == {"davis2016", "davis2017", "youtube-vos"}
    with pytest.raises(TutorialError, match="no protocol"):
        score_objects(clip_ids, np.zeros_like(clip_ids), "davis2018")  # type: ignore[arg-type]


def test_the_average_is_over_objects() -> None:
    def of(mean: float) -> Summary:
        return Summary(Statistics(mean, 1, 0.25), Statistics(mean / 2, 0, 0.5))

    row = average([of(1), of(1), of(0.4)])
    assert pytest.approx((0.8, 1, 0.25)) == row.J
    assert pytest.approx((0.4, 0, 0.5)) == row.F
    assert row.J_and_F == pytest.approx(0.6)
    with pytest.raises(TutorialError, match="no score"):
        average([])


# ---------------------------------------------------------------------------------- the official numbers


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text("utf-8"))


@needs_golden
def test_official_edge_cases() -> None:
    cases = golden("golden_edge_cases.json")["cases"]
    assert len(cases) >= 37
    for case in cases:
        truth, prediction = picture(*case["gt"]), picture(*case["pred"])
        void = picture(*case["void"]) if case["void"] else None
        j = region_similarity(truth, prediction, void)
        f = boundary_accuracy(truth, prediction, case["bound_th"], void)
        assert (j, f) == pytest.approx((case["J"], case["F"]), abs=1e-9), case["name"]
        assert boundary_tolerance(*truth.shape, case["bound_th"]) == case["bound_pix"], case["name"]
        for mask, edges in ((truth, case["gt_bmap"]), (prediction, case["pred_bmap"])):
            kept = mask if void is None else mask & ~void
            assert (boundary_map(kept) == picture(*edges)).all(), case["name"]


@needs_golden
def test_official_statistics() -> None:
    for case in golden("golden_edge_cases.json")["statistics"]:
        result = statistics([math.nan if v is None else v for v in case["values"]])
        keys = ["mean", "recall"] if "BUG" in case["note"] else ["mean", "recall", "decay"]
        for key in keys:
            assert getattr(result, key) == pytest.approx(case[key], abs=1e-9), case["name"]


@needs_golden
def test_official_numbers_on_real_sequences_frame_by_frame() -> None:
    sys.path.insert(0, str(GOLDEN))
    try:
        import perturb  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(GOLDEN))
    sample = golden("golden_sample240.json")
    rows: dict[str, list[Summary]] = {}
    for name, perturbations in sample["sequences"].items():
        files = sorted((SHARED / "davis_sample" / "Annotations" / "480p" / name).glob("*.png"))
        ids = torch.stack([read_mask(file) for file in files]).numpy()
        for kind, per_object in perturbations.items():
            prediction = perturb.apply(kind, ids)
            (score,) = score_objects(ids, prediction)
            assert pytest.approx(per_object["1"]["J"], abs=1e-9) == score.J, (name, kind)
            assert pytest.approx(per_object["1"]["F"], abs=1e-9) == score.F, (name, kind)
            rows.setdefault(kind, []).append(score.summary)
    for kind, official in sample["official_global"].items():
        ours = average(rows[kind])
        for measure in "JF":
            for key in ("mean", "recall", "decay"):
                value = getattr(getattr(ours, measure), key)
                assert value == pytest.approx(official[f"{measure}_{key}"], abs=1e-9), (kind, measure, key)
        assert ours.J_and_F == pytest.approx(official["JF_mean"], abs=1e-9)
