"""The contract and the loop over time, with segmenters whose every answer is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import ids_to_onehot, object_ids
from vos_tutorial.door import as_float
from vos_tutorial.errors import TutorialError
from vos_tutorial.propagation import (
    Resized,
    Segmenter,
    most_probable,
    propagate,
    propagate_nearest,
    propagate_stream,
    soft_aggregate,
)
from vos_tutorial.resize import resize_mask


class Drift:
    """Moves every mask one pixel to the right per frame, and writes down what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Tensor, Tensor | None]] = []
        self.masks = torch.zeros(0)

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        self.calls.append(("begin", frame, mask))
        self.masks = ids_to_onehot(mask, object_ids(mask)).float()

    def step(self, frame: Tensor) -> Tensor:
        self.calls.append(("step", frame, None))
        self.masks = self.masks.roll(1, dims=-1)
        return torch.cat([1 - self.masks.sum(0, keepdim=True).clamp(max=1), self.masks])

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        self.calls.append(("introduce", frame, mask))
        new = ids_to_onehot(mask, object_ids(mask)).float()
        self.masks = torch.cat([self.masks * ~new.bool().any(0), new])

    def correct(self, frame: Tensor, mask: Tensor) -> None:
        self.calls.append(("correct", frame, mask))

    def remove(self, object_id: int) -> None:
        self.calls.append(("remove", torch.tensor(object_id), None))


def video(length: int, width: int = 6) -> Tensor:
    """Frames ``uint8 [T, 3, 2, W]`` of which frame t has the value 10 t everywhere."""
    return (torch.arange(length, dtype=torch.uint8) * 10).reshape(-1, 1, 1, 1).expand(-1, 3, 2, width).clone()


def row(values: Sequence[int]) -> Tensor:
    """A mask of two equal rows."""
    return torch.tensor([list(values)] * 2, dtype=torch.uint8)


# ---------------------------------------------------------------------------------------------------------- propagate


def test_the_contract_is_a_protocol() -> None:
    assert isinstance(Drift(), Segmenter)
    assert isinstance(Resized(Drift(), 8), Segmenter)
    assert not isinstance(torch.nn.Identity(), Segmenter)


def test_ids_keep_their_gaps_and_channels_ascend() -> None:
    segmenter, mask = Drift(), row([200, 7, 0, 0, 0, 0])
    ids = propagate(segmenter, video(3), mask)
    assert ids.dtype == torch.uint8
    assert ids[:, 0].tolist() == [[200, 7, 0, 0, 0, 0], [0, 200, 7, 0, 0, 0], [0, 0, 200, 7, 0, 0]]
    probabilities = propagate(segmenter, video(3), mask, probabilities=True)
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (3, 3, 2, 6)
    assert probabilities[1, :, 0].argmax(0).tolist() == [0, 2, 1, 0, 0, 0]  # 7 before 200
    assert torch.equal(probabilities.sum(1), torch.ones(3, 2, 6))


def test_frames_arrive_once_each_in_order_as_floats_in_0_1() -> None:
    segmenter = Drift()
    propagate(segmenter, video(4), row([1, 0, 0, 0, 0, 0]))
    assert [name for name, _, _ in segmenter.calls] == ["begin", "step", "step", "step"]
    assert [frame.dtype for _, frame, _ in segmenter.calls] == [torch.float32] * 4
    values = [float(frame.flatten()[0]) for _, frame, _ in segmenter.calls]
    assert values == pytest.approx([0, 10 / 255, 20 / 255, 30 / 255])
    same = Drift()
    propagate(same, video(4).float() / 255, row([1, 0, 0, 0, 0, 0]))
    for (_, one, _), (_, other, _) in zip(segmenter.calls, same.calls, strict=True):
        assert torch.equal(one, other)


def test_void_is_background_and_no_object() -> None:
    segmenter, mask = Drift(), row([255, 3, 255, 0, 0, 0])
    ids = propagate(segmenter, video(2), mask)
    assert ids[0, 0].tolist() == [0, 3, 0, 0, 0, 0]
    assert segmenter.calls[0][2] is not None
    assert object_ids(segmenter.calls[0][2]) == [3]
    assert 255 not in segmenter.calls[0][2]
    assert mask[0, 0] == 255  # the caller's mask is left alone
    first = propagate(segmenter, video(2), mask, probabilities=True)[0]
    assert first[:, 0, 0].tolist() == [1, 0]


def test_a_one_frame_clip_is_its_mask() -> None:
    segmenter = Drift()
    assert propagate(segmenter, video(1), row([0, 4, 0, 0, 0, 0]))[0, 0].tolist() == [0, 4, 0, 0, 0, 0]
    assert [name for name, _, _ in segmenter.calls] == ["begin"]


def test_a_second_clip_starts_anew() -> None:
    segmenter = Drift()
    propagate(segmenter, video(3), row([1, 2, 0, 0, 0, 0]))
    assert propagate(segmenter, video(2), row([0, 0, 5, 0, 0, 0]))[1, 0].tolist() == [0, 0, 0, 5, 0, 0]


def test_no_gradients_are_kept() -> None:
    class Learner(Drift):
        def step(self, frame: Tensor) -> Tensor:
            return super().step(frame) * torch.ones(1, requires_grad=True)

    assert not propagate(Learner(), video(2), row([1, 0, 0, 0, 0, 0]), probabilities=True).requires_grad


# ------------------------------------------------------------------------------------------ objects that appear later


def test_a_later_object_is_given_at_its_frame_and_followed_from_there() -> None:
    segmenter = Drift()
    later = {2: row([1, 1, 0, 0, 0, 3])}  # 1 is known: only 3 is new; its pixel was background
    ids = propagate(segmenter, video(4), row([0, 5, 1, 0, 0, 0]), later=later)
    assert ids[:, 0].tolist() == [
        [0, 5, 1, 0, 0, 0],
        [0, 0, 5, 1, 0, 0],
        [0, 0, 0, 5, 1, 3],  # object 1 stays as predicted, whatever the later mask says
        [3, 0, 0, 0, 5, 1],
    ]
    name, frame, given = segmenter.calls[3]
    assert name == "introduce"
    assert given is not None
    assert given[0].tolist() == [0, 0, 0, 0, 0, 3]
    assert float(frame[0, 0, 0]) == pytest.approx(20 / 255)


def test_a_later_object_takes_pixels_and_its_channel_comes_last() -> None:
    later = {1: row([2, 2, 0, 0, 0, 255])}
    probabilities = propagate(Drift(), video(3), row([9, 0, 0, 0, 0, 0]), probabilities=True, later=later)
    assert probabilities.shape == (3, 3, 2, 6)
    assert probabilities[0, 2].sum() == 0  # not there yet
    assert probabilities[1, :, 0, 1].tolist() == [0, 0, 1]  # 9 was predicted here; 2 is given
    assert torch.equal(probabilities.sum(1), torch.ones(3, 2, 6))
    ids = propagate(Drift(), video(3), row([9, 0, 0, 0, 0, 0]), later=later)
    assert ids[1, 0].tolist() == [2, 2, 0, 0, 0, 0]  # and void is not given


def test_nothing_at_first() -> None:
    segmenter = Drift()
    empty = row([0] * 6)
    ids = propagate(segmenter, video(4), empty, later={2: row([0, 8, 0, 0, 0, 0]), 3: row([6, 8, 0, 0, 0, 0])})
    assert ids[:, 0].tolist() == [[0] * 6, [0] * 6, [0, 8, 0, 0, 0, 0], [6, 0, 8, 0, 0, 0]]
    assert [name for name, _, _ in segmenter.calls] == ["begin", "step", "introduce"]
    probabilities = propagate(
        Drift(), video(4), empty, probabilities=True, later={2: row([0, 8, 0, 0, 0, 0]), 3: row([6, 8, 0, 0, 0, 0])}
    )
    assert torch.equal(probabilities.sum(1), torch.ones(4, 2, 6))


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("frames", "mask", "message"),
    [
        (video(2), row([0] * 6), r"the mask of frame 0 holds no object .*give at least one id in 1\.\.254"),
        (video(2), row([255] * 6), r"holds no object"),
        (video(2), row([1] * 5), r"the mask is 2x5 but the frames are 2x6; resize"),
        (video(2), row([1] * 6).float(), r"uint8 ids \[H, W\], got torch\.float32"),
        (video(2), row([1] * 6).long() * 256, r"the mask holds ids from 256 to 256; ids lie in 0\.\.255"),
        (video(2), row([1] * 6)[None], r"got torch\.uint8 \[1, 2, 6\]"),
        (video(2)[0], row([1] * 6), r"frames must be \[T, 3, H, W\]"),
        (video(2)[:, :1], row([1] * 6), r"got \[2, 1, 2, 6\]"),
        (video(0), row([1] * 6), r"not empty, got \[0, 3, 2, 6\]"),
        (
            video(2).float(),
            row([1] * 6),
            r"frame 1: floats must lie in \[0, 1\], these span \[10, 10\]; divide by 255",
        ),
    ],
)
def test_what_propagate_refuses(frames: Tensor, mask: Tensor, message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        propagate(Drift(), frames, mask)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("t", [0, 2])
def test_nan_frames_are_named(bad: float, t: int) -> None:
    frames = video(3).float() / 255
    frames[t, 1, 0, 3] = bad
    with pytest.raises(TutorialError, match=rf"^frame {t}: some values are NaN or infinite; look at how"):
        propagate(Drift(), frames, row([1, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("t", "why"),
    [(0, "put those of frame 0 into the first mask"), (3, r"the clip has frames 0\.\.2"), (-1, "from 1")],
)
def test_later_frames_must_be_in_the_clip(t: int, why: str) -> None:
    with pytest.raises(TutorialError, match=f"objects appear at frame {t}.*{why}"):
        propagate(Drift(), video(3), row([1, 0, 0, 0, 0, 0]), later={t: row([2, 0, 0, 0, 0, 0])})


def test_later_masks_are_checked_before_anything_runs() -> None:
    segmenter = Drift()
    with pytest.raises(TutorialError, match="the mask of frame 2 is 2x5"):
        propagate(segmenter, video(3), row([1, 0, 0, 0, 0, 0]), later={2: row([2] * 5)})
    assert not segmenter.calls


def test_an_answer_of_another_shape_is_named() -> None:
    class Forgetful(Drift):
        def step(self, frame: Tensor) -> Tensor:
            return super().step(frame)[1:]

    with pytest.raises(TutorialError, match=r"step\(\) of Forgetful returned \[2, 2, 6\] at frame 1, but 2 objects"):
        propagate(Forgetful(), video(2), row([1, 2, 0, 0, 0, 0]))


def test_as_float() -> None:
    assert as_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0, 1]
    assert as_float(torch.tensor([0.0, 1.0], dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(TutorialError, match=r"the frames: floats must lie in \[0, 1\], these span \[-0\.1, 0\]"):
        as_float(torch.tensor([0.0, -0.1]))


# --------------------------------------------------------------------------------------------------- soft aggregation


def test_soft_aggregation_of_two_objects_by_hand() -> None:
    """p = 0.8 and 0.5: odds 4 and 1; the background has p = 0.2 * 0.5 = 0.1, odds 1/9; the sum is 46/9."""
    answer = soft_aggregate(torch.tensor([0.8, 0.5]).reshape(2, 1, 1)).flatten()
    assert answer.tolist() == pytest.approx([1 / 46, 36 / 46, 9 / 46], rel=1e-5)


def test_soft_aggregation_of_one_object_by_hand() -> None:
    """p = 0.6 has the odds 3/2, the background 2/3: shares 9/13 and 4/13."""
    answer = soft_aggregate(torch.full((1, 1, 1), 0.6)).flatten()
    assert answer.tolist() == pytest.approx([4 / 13, 9 / 13], rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_soft_aggregation_sums_to_one_even_where_objects_are_certain(dtype: torch.dtype) -> None:
    corner = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.5], [1.0, 1.0, 1.0]], dtype=dtype).T
    p = torch.cat([corner, torch.rand(3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)], dim=1)
    answer = soft_aggregate(p.reshape(3, 4, 5))
    assert torch.isfinite(answer).all()
    assert answer.shape == (4, 4, 5)
    torch.testing.assert_close(answer.sum(0).float(), torch.ones(4, 5))
    flat = answer.flatten(1)
    assert flat[0, 0] > 0.999  # no object claims it
    assert flat[1, 1].item() == pytest.approx(flat[2, 1].item())  # two certain objects share
    assert flat[1, 2] > 0.999
    batched = soft_aggregate(torch.stack([p, p.flip(0)]).reshape(2, 3, 4, 5))
    torch.testing.assert_close(batched[0], answer)
    torch.testing.assert_close(batched[1, 1:], answer[1:].flip(0))


# ----------------------------------------------------------------------------------------------------------- resizing


class Still(Drift):
    """Answers with the mask it began with."""

    def step(self, frame: Tensor) -> Tensor:
        self.calls.append(("step", frame, None))
        return torch.cat([1 - self.masks.sum(0, keepdim=True), self.masks])


@pytest.mark.parametrize(("size", "inner"), [((40, 60), (20, 30)), ((61, 40), (30, 20)), ((10, 15), (20, 30))])
def test_resized_keeps_the_aspect_ratio(size: tuple[int, int], inner: tuple[int, int]) -> None:
    still, mask = Still(), torch.zeros(size, dtype=torch.uint8)
    mask[: size[0] // 2] = 3
    frames = torch.zeros(2, 3, *size, dtype=torch.uint8)
    probabilities = propagate(Resized(still, 20), frames, mask, probabilities=True)
    assert all(frame.shape == (3, *inner) for _, frame, _ in still.calls)
    assert still.calls[0][2] is not None
    assert still.calls[0][2].shape == inner
    assert probabilities.shape == (2, 2, *size)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *size))
    error = (propagate(Resized(Still(), 20), frames, mask)[1] != mask).float().mean()
    assert error <= 1 / size[0]  # at most the row at the edge


def test_resized_masks_are_never_blends() -> None:
    mask = torch.randint(0, 2, (31, 47), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 200
    assert set(resize_mask(mask, 13, 20).unique().tolist()) == {0, 200}
    assert torch.equal(resize_mask(mask, 62, 94)[::2, ::2], mask)


def test_resized_keeps_objects_of_one_pixel_even_side_by_side() -> None:
    """Four neighbours fall on one small pixel, and object 5 owns another small pixel alone: nobody may vanish."""
    still, mask = Still(), torch.zeros(40, 40, dtype=torch.uint8)
    mask[8, 8], mask[8, 9], mask[9, 8], mask[9, 9] = 1, 2, 3, 4
    mask[5:8, 8:12] = 5  # its sample lies at (6, 10)
    mask[30, 30] = 6
    ids = propagate(Resized(still, 10), torch.zeros(2, 3, 40, 40, dtype=torch.uint8), mask)
    small = still.calls[0][2]
    assert small is not None
    assert object_ids(small) == [1, 2, 3, 4, 5, 6]
    assert small[7, 7] == 6
    near = (small != 0).nonzero()[:5]
    assert int((near - torch.tensor([2, 2])).abs().max()) <= 2
    assert len(object_ids(ids[1])) == 6


def test_too_many_objects_for_so_few_pixels() -> None:
    mask = torch.arange(16, dtype=torch.uint8).reshape(4, 4)
    with pytest.raises(TutorialError, match="15 objects do not fit into 2x2 pixels; use a larger short side"):
        propagate(Resized(Still(), 2), torch.zeros(1, 3, 4, 4, dtype=torch.uint8), mask)
    with pytest.raises(TutorialError, match="the short side is 0 pixels"):
        Resized(Still(), 0)


def test_resized_introduces_later_objects() -> None:
    later = torch.zeros(20, 20, dtype=torch.uint8)
    later[15, 15] = 2
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[:8, :8] = 1
    ids = propagate(Resized(Still(), 10), torch.zeros(4, 3, 20, 20, dtype=torch.uint8), mask, later={2: later})
    assert object_ids(ids[1]) == [1]
    assert object_ids(ids[2]) == [1, 2]
    assert ids[3, 14:16, 14:16].tolist() == [[2, 2], [2, 2]]


# ------------------------------------------------------------------------------------------------ several annotations


def test_the_nearest_annotation_answers_and_the_earlier_one_wins_ties() -> None:
    """Annotations at 1 and 5 of 7 frames: the first answers for 0 to 3, the tie at 3 included."""
    annotations = {1: row([1, 0, 0, 0, 0, 0]), 5: row([0, 0, 0, 2, 0, 0])}
    ids = propagate_nearest(Drift(), video(7), annotations)
    assert ids[:, 0].tolist() == [
        [0, 1, 0, 0, 0, 0],  # one step backwards: the drift goes to the right all the same
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 2, 0],
        [0, 0, 0, 2, 0, 0],
        [0, 0, 0, 0, 2, 0],
    ]


def test_frames_are_shown_in_the_order_of_the_direction() -> None:
    segmenter = Drift()
    propagate_nearest(segmenter, video(4), {2: row([1, 0, 0, 0, 0, 0])})
    seen = [(name, round(float(frame[0, 0, 0]) * 255)) for name, frame, _ in segmenter.calls]
    assert seen == [("begin", 20), ("step", 30), ("begin", 20), ("step", 10), ("step", 0)]


def test_one_annotation_at_frame_0_is_propagate() -> None:
    mask = row([4, 2, 0, 0, 0, 0])
    segmenter = Drift()
    assert torch.equal(propagate_nearest(segmenter, video(5), {0: mask}), propagate(Drift(), video(5), mask))
    assert [name for name, _, _ in segmenter.calls].count("begin") == 1  # a second one would train a second time


def test_an_annotation_without_objects_answers_background() -> None:
    ids = propagate_nearest(Drift(), video(4), {0: row([1, 0, 0, 0, 0, 0]), 3: row([0] * 6)})
    assert ids[:, 0].sum(1).tolist() == [1, 1, 0, 0]
    with pytest.raises(TutorialError, match="holds no object"):
        propagate_nearest(Drift(), video(4), {0: row([0] * 6), 3: row([255] * 6)})


@pytest.mark.parametrize("times", [(), (4,), (-1, 2)])
def test_annotations_must_be_in_the_clip(times: tuple[int, ...]) -> None:
    with pytest.raises(TutorialError, match=r"annotated frames are \[.*\], the clip has frames 0\.\.3"):
        propagate_nearest(Drift(), video(4), {t: row([1] * 6) for t in times})


def test_the_most_probable_are_those_of_argmax_and_the_first_on_ties() -> None:
    p = torch.randint(0, 4, (5, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    # The earliest of the largest, written out, since argmax promises nothing about ties.
    expected = ((p == p.amax(0)) * torch.arange(5, 0, -1).reshape(5, 1, 1)).argmax(0)
    assert torch.equal(most_probable(p).long(), expected)


def test_arrays_in_the_other_byte_order() -> None:
    frames = np.random.default_rng(0).random((3, 8, 9, 3), dtype=np.float32)
    mask = np.zeros((8, 9), np.int32)
    mask[2:5, 2:5] = 3
    expected = propagate(CopyFirst(), frames, mask)
    assert torch.equal(propagate(CopyFirst(), frames.astype(">f4"), mask.astype(">i4")), expected)


@pytest.mark.parametrize("t", ["2", 1.5, None, (1,)])
def test_masks_for_what_is_no_number_of_a_frame(t: object) -> None:
    frames, mask = torch.zeros(3, 3, 8, 9), torch.ones(8, 9, dtype=torch.uint8)
    given: dict[int, torch.Tensor] = {1: mask, t: mask}  # type: ignore[dict-item]
    with pytest.raises(TutorialError, match="a mask is given for frame"):
        propagate(CopyFirst(), frames, mask, later=given)
    with pytest.raises(TutorialError, match="a mask is given for frame"):
        propagate_nearest(CopyFirst(), frames, given)


@pytest.mark.parametrize("wrong", ["1", 1.0, None, [1], np.array([1, 2]), torch.tensor([1, 2])], ids=str)
def test_removing_what_is_no_id(wrong: object) -> None:
    made = CopyFirst()
    made.begin(torch.zeros(3, 8, 9), torch.ones(8, 9, dtype=torch.uint8))
    with pytest.raises(TutorialError, match="is not followed; the objects are 1"):
        made.remove(wrong)  # type: ignore[arg-type]
    for one in (np.uint8(1), torch.tensor(1)):
        made.begin(torch.zeros(3, 8, 9), torch.ones(8, 9, dtype=torch.uint8))
        made.remove(one)  # type: ignore[arg-type]
        assert made.objects == []


@pytest.mark.parametrize("frames", [None, 5])
def test_a_stream_of_what_gives_no_frames(frames: object) -> None:
    with pytest.raises(TutorialError, match=f"{type(frames).__name__} gives none; pass a list"):
        propagate_stream(CopyFirst(), frames, torch.ones(8, 9, dtype=torch.uint8))  # type: ignore[arg-type]


def test_a_stream_holds_what_was_given_and_not_what_becomes_of_it() -> None:
    frames, mask, late = np.zeros((4, 8, 9, 3), np.uint8), np.ones((8, 9), np.uint8), np.zeros((8, 9), np.uint8)
    late[2:4, 2:4] = 7
    expected = propagate(CopyFirst(), frames, mask, later={2: late})
    stream = propagate_stream(CopyFirst(), iter(frames), mask, {2: late})
    mask[:], late[:] = 0, 0
    assert torch.equal(torch.stack(list(stream)), expected)
    with pytest.raises(TutorialError, match="frame 1 is 7x9, the clip began with 8x9; resize the frame"):
        list(propagate_stream(CopyFirst(), [frames[0], frames[1][:7]], expected[0]))
