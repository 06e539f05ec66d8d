"""Widgets on the Python side: what goes to the page, what a notebook stores, what is refused."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import VOID, Clip
from vos_tutorial.course import figures
from vos_tutorial.course.widgets import MaskPlayer, mask_player
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError
from vos_tutorial.metrics import region_similarity

T, H, W = 6, 32, 48


@pytest.fixture
def clip() -> Clip:
    """Six smooth frames; object 1 walks, object 2 stays."""
    ramp = torch.linspace(0, 255, W).expand(H, W)
    frames = torch.stack([torch.stack([ramp, ramp.flip(1), torch.full((H, W), 20.0 * t)]) for t in range(T)])
    masks = torch.zeros(T, H, W, dtype=torch.uint8)
    for t in range(T):
        masks[t, 4:16, 2 + 4 * t : 14 + 4 * t] = 1
    masks[:, 20:30, 30:44] = 2
    return Clip(frames.round().to(torch.uint8), masks, "walk")


def sent_ids(player: MaskPlayer) -> np.ndarray:
    t, h, w = player._shape
    return np.frombuffer(zlib.decompress(player._ids), np.uint8).reshape(-1, t, h, w)


def test_the_library_imports_without_anywidget() -> None:
    code = (
        "import sys; sys.modules['anywidget'] = None; sys.modules['ipywidgets'] = None;"
        "import vos_tutorial.propagation, vos_tutorial.metrics, vos_tutorial.models.stm"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_masks_arrive_exactly_and_frames_closely(clip: Clip) -> None:
    player = MaskPlayer(clip, pred=clip.masks.roll(1, 0))
    np.testing.assert_array_equal(sent_ids(player), np.stack([clip.masks, clip.masks.roll(1, 0)]))
    for t in range(T):
        jpeg = player._frames[player._offsets[t] : player._offsets[t + 1]]
        back = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
        assert np.abs(back - clip.frames[t].permute(1, 2, 0).numpy()).mean() < 4


def test_large_clips_are_sent_small_without_new_labels() -> None:
    ids = np.zeros((2, 100, 1000), np.uint8)
    ids[:, :, 500:] = 7
    player = MaskPlayer(np.zeros((2, 100, 1000, 3), np.uint8), gt=ids, max_side=480)
    assert player._shape == [2, 48, 480]
    assert np.unique(sent_ids(player)).tolist() == [0, 7]
    assert (sent_ids(player)[..., :240] == 0).all()


@pytest.mark.parametrize("make", ["chw", "hwc", "float", "numpy"])
def test_frames_in_every_layout_give_the_same_page(clip: Clip, make: str) -> None:
    given = {
        "chw": clip.frames,
        "hwc": clip.frames.permute(0, 2, 3, 1),
        "float": clip.frames.float() / 255,
        "numpy": clip.frames.numpy(),
    }[make]
    assert MaskPlayer(given)._frames == MaskPlayer(clip)._frames


def test_views_name_what_there_is(clip: Clip) -> None:
    assert MaskPlayer(clip.frames).views == ["frames"]
    assert MaskPlayer(clip).views == ["truth"]
    assert MaskPlayer(clip.frames, pred=clip.masks).views == ["prediction"]
    both = MaskPlayer(clip, pred=clip.masks)
    assert both.views == ["truth", "prediction", "error"]
    assert both.view == "prediction"
    several = MaskPlayer(clip, pred={"copy": clip.masks, "net": clip.masks})
    assert several.views == ["truth", "copy", "copy: error", "net", "net: error"]


def test_scores_are_those_of_metrics_at_full_size(clip: Clip) -> None:
    guess = clip.masks.roll(1, 0)
    player = MaskPlayer(clip, pred=guess, max_side=16)
    each = [region_similarity(clip.masks.numpy() == i, guess.numpy() == i) for i in (1, 2)]
    np.testing.assert_allclose(player._scores["1"], 100 * np.mean(each, axis=0), atol=0.006)
    sparse = Clip(clip.frames, clip.masks, annotated=(0, 5))
    assert [s is None for s in MaskPlayer(sparse, pred=guess)._scores["1"]] == [False, True, True, True, True, False]


def test_a_clip_without_objects_has_no_scores(clip: Clip) -> None:
    empty = torch.zeros_like(clip.masks)
    assert MaskPlayer(clip.frames, gt=empty, pred=empty)._scores["1"] == [None] * T


def test_labels_give_toggles_even_to_an_empty_prediction(clip: Clip) -> None:
    empty = torch.zeros_like(clip.masks)
    player = MaskPlayer(clip.frames, pred=empty, labels=["dog", "ball"])
    assert player._objects == [{"id": 1, "label": "dog"}, {"id": 2, "label": "ball"}]
    assert MaskPlayer(clip, labels={2: "ball"})._objects[0] == {"id": 1, "label": "object 1"}
    void = clip.masks.clone()
    void[0, 0, 0] = VOID
    assert [o["id"] for o in MaskPlayer(clip.frames, gt=void)._objects] == [1, 2]


def test_pred_can_be_set_later(clip: Clip) -> None:
    player = MaskPlayer(clip)
    player.pred = clip.masks.roll(1, 0)
    assert player.views == ["truth", "prediction", "error"]
    assert len(sent_ids(player)) == 2
    player.view = "error"
    player.pred = {"net": clip.masks}
    assert player.view == "net"  # the old view is gone
    player.pred = None
    assert (player.views, player.view) == (["truth"], "truth")


def test_repr_and_bundle_suit_a_strict_notebook_test(clip: Clip) -> None:
    player = MaskPlayer(clip, pred=clip.masks)
    assert repr(player) == "MaskPlayer(T=6, 32x48, objects=2, views=['truth', 'prediction', 'error'])"
    data, metadata = player._repr_mimebundle_()
    assert data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert data["text/plain"] == repr(player)
    assert metadata["image/png"] == {"alt": "Clip walk"}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.size[0] <= 740


def test_poster_shows_the_masks_and_stays_small(clip: Clip) -> None:
    large = torch.nn.functional.interpolate(clip.frames.float(), scale_factor=10, mode="bilinear").to(torch.uint8)
    assert len(MaskPlayer(large).poster()) < POSTER_BYTES
    assert MaskPlayer(clip.frames).poster() != MaskPlayer(clip).poster()
    assert MaskPlayer(clip, stills=[0, 1]).poster() != MaskPlayer(clip).poster()
    with pytest.raises(TutorialError, match=r"still 99 is not in this clip; choose 0\.\."):
        MaskPlayer(clip, stills=[0, 99])


def test_stills_outline_the_truth_colour_errors_and_end_with_the_scores(clip: Clip) -> None:
    guess = clip.masks.roll(9, dims=2)

    def picture(view: str, pred: torch.Tensor | None = guess) -> np.ndarray:
        player = MaskPlayer(clip, pred=pred, view=view, stills=range(6))
        return np.asarray(Image.open(io.BytesIO(player.poster())).convert("RGB")).astype(int)

    def near(shown: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
        return np.abs(shown - colour).max(axis=2) < 30

    answered, wrong, truth = picture("prediction"), picture("error"), picture("truth", None)
    two_rows = truth.shape[0]
    assert answered.shape == wrong.shape == (two_rows + mask_player.SCORES, truth.shape[1], 3)
    assert near(wrong[:two_rows], (0, 114, 178)).any()  # misses
    assert near(wrong[:two_rows], (213, 94, 0)).any()  # false alarms
    assert not near(answered[:two_rows], (0, 114, 178)).any()
    inked = [near(picture("prediction", ids)[two_rows:], (34, 34, 34)).sum() for ids in (clip.masks, guess)]
    assert inked[0] > inked[1]  # the bars of a perfect answer are the tallest


def test_to_html_is_whole_and_stands_alone(clip: Clip, tmp_path: Path) -> None:
    player = MaskPlayer(clip, alt="a </script> & more", labels=["</script><b>"])
    page = player.to_html(tmp_path / "clip.html")
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("</script>") == 2
    assert list(tmp_path.iterdir()) == [page]


def test_to_html_that_cannot_be_written_leaves_nothing(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TutorialError, match=r"clip\.html"):
        MaskPlayer(clip).to_html(tmp_path / "file" / "clip.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_bad_input_is_named(clip: Clip) -> None:
    with pytest.raises(TutorialError, match=r"gt is \[3, 32, 48\]"):
        MaskPlayer(clip.frames, gt=clip.masks[:3])
    with pytest.raises(TutorialError, match=r"pred 'net' is"):
        MaskPlayer(clip, pred={"net": clip.masks[:, :5]})
    with pytest.raises(TutorialError, match="threshold"):
        MaskPlayer(clip, pred=np.full((T, H, W), 0.5))
    with pytest.raises(TutorialError, match="frames must be"):
        MaskPlayer(clip.frames[0])
    with pytest.raises(TutorialError, match="frames must be"):
        MaskPlayer(clip.frames[:0])
    with pytest.raises(TutorialError, match="choose one of truth"):
        MaskPlayer(clip, view="prediction")
    player = MaskPlayer(clip)
    with pytest.raises(TutorialError, match=r"choose 0\.\.5"):
        player.frame = 6
    assert player.frame == 0


def test_the_page_gets_the_colours_of_the_figures(clip: Clip) -> None:
    assert MaskPlayer(clip)._colours == figures.object_colours().tobytes()
    assert len(MaskPlayer(clip)._colours) == 768
