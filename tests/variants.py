"""How a simplified version of a notebook agrees with the library.

A notebook cell tagged ``variant-of:vos_tutorial.module.name`` defines a naive version on purpose: slower, or for
one case only. Here stands, under the same ``vos_tutorial.module.name``, the function that makes random inputs
from ``seed``, calls both and asserts that they agree::

    def region_similarity(variant, library, seed):
        masks = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) > 0.5
        torch.testing.assert_close(variant(*masks), library(*masks))

    VARIANTS = {"vos_tutorial.metrics.region_similarity": region_similarity}

``tests/test_notebooks_in_step.py`` calls it with several seeds, and fails if a tag has no entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vos_tutorial.propagation import propagate

# --- notebook 01: one frame at a time, numpy ----------------------------------------------------------------------


def _pairs(seed: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Two masks ``bool [H, W]`` of random size and density, empty and full ones, a pair with a tolerance of 2."""
    rng = np.random.default_rng(seed)
    yield rng.random((90, 90)) > 0.99, rng.random((90, 90)) > 0.99
    for low, high in ((0.0, 0.2), (0.3, 0.7), (0.8, 1.0), (0.0, 1.0)):
        shape = tuple(rng.integers(1, 12, size=2))
        first, second = (rng.random(shape) < rng.uniform(low, high) for _ in range(2))
        yield first, second
    empty, full = np.zeros((5, 5), dtype=bool), np.ones((5, 5), dtype=bool)
    yield empty, empty
    yield empty, full


def same_grade(variant: Any, library: Any, seed: int) -> None:
    for truth, prediction in _pairs(seed):
        np.testing.assert_allclose(variant(truth, prediction), library(truth, prediction), rtol=0, atol=1e-12)


def same_boundary(variant: Any, library: Any, seed: int) -> None:
    for mask, _ in _pairs(seed):
        np.testing.assert_array_equal(variant(mask), library(mask))


def same_tolerance(variant: Any, library: Any, seed: int) -> None:
    for height, width in np.random.default_rng(seed).integers(1, 3000, size=(50, 2)):
        assert variant(int(height), int(width)) == library(int(height), int(width))


def same_copies(variant: Any, library: Any, seed: int) -> None:
    """A few frames of noise and three objects, of which one is small."""
    rng = torch.Generator().manual_seed(seed)
    frames = torch.rand(4, 3, 6, 7, generator=rng)
    mask = torch.randint(0, 3, (6, 7), generator=rng, dtype=torch.uint8)
    mask[0, :2] = torch.tensor([1, 9], dtype=torch.uint8)
    answers = [propagate(kind(), frames, mask, probabilities=True) for kind in (variant, library)]
    torch.testing.assert_close(*answers, rtol=0, atol=0)


# --- notebook 02: one mask, one spline ----------------------------------------------------------------------------


def same_dilation(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for radius in (0, 1, 2, 3):
        for density in (0.0, 0.03, 0.3, 1.0):
            mask = torch.rand(9, 12, generator=rng) < density
            assert torch.equal(variant(mask, radius), library(mask, radius))


def same_spline(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.1, 0.2]])
    for stiffness in (0.0, 0.1, 1.0):
        source = corners + 0.2 * torch.rand(5, 2, generator=rng)
        target = source + 0.3 * torch.rand(5, 2, generator=rng)
        weights, affine = library(source[None], target[None], stiffness)
        mine = variant(source, target, stiffness)
        torch.testing.assert_close(mine[0], weights[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mine[1], affine[0], rtol=1e-3, atol=1e-3)


# --- notebook 03: the comparison, as the paper has it -------------------------------------------------------------


def same_comparison(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    channels, width, h, w = (int(size) for size in torch.randint(1, 9, (4,), generator=rng))
    k = (3, 5, 7)[seed % 3]
    ours, paper = library(channels, width, k), variant(channels, width, k)
    with torch.no_grad():
        for side in ("left", "right"):
            first, second = getattr(paper, side)
            halves = [getattr(ours, f"{side}_{half}").weight for half in ("target", "reference")]
            first.weight.copy_(torch.cat(halves, dim=1))
            first.bias.copy_(getattr(ours, f"{side}_target").bias)
            second.load_state_dict(getattr(ours, side).state_dict())
        target, reference = (torch.randn(2, channels, h, w, generator=rng) for _ in range(2))
        found = ours(target, ours.prepare(reference))
        torch.testing.assert_close(paper(target, reference), found, rtol=1e-4, atol=1e-5)


def same_rgmp(variant: Any, library: Any, seed: int) -> None:
    """The page's class takes the small network's weights and gives its logits, in one step of a clip."""
    from vos_tutorial.models import rgmp

    torch.manual_seed(seed)
    width = 8 * (1 + seed % 2)
    ours: Any = rgmp.build(width=width).eval()
    assert isinstance(ours, library)
    built = variant(width).eval()
    built.load_state_dict(ours.state_dict())
    frames, masks = torch.rand(2, 2, 3, 32, 48), torch.rand(2, 2, 32, 48)  # reference and target, B H W
    with torch.no_grad():
        found = built(frames[1], masks[1], built.prepare(frames[0], masks[0]))
        expected = ours(frames[1], masks[1], ours.prepare(ours.encode(frames[0], masks[0])[-1])).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- notebook 05: the read of a memory ----------------------------------------------------------------------------


def same_read(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    n, key, value, t, h, w = (int(size) for size in torch.randint(1, 5, (6,), generator=rng))
    query_key = 2 * torch.randn(n, key, h, w, generator=rng)
    memory_key, memory_value = (torch.randn(n, c, t, h, w, generator=rng) for c in (key, value))
    found = library(query_key, memory_key, memory_value)
    torch.testing.assert_close(variant(query_key, memory_key, memory_value), found, rtol=1e-4, atol=1e-5)


def same_masktrack(variant: Any, library: Any, seed: int) -> None:
    """A class of the page takes the small network's weights and gives its logits, at sizes that need no padding."""
    from vos_tutorial.models import masktrack

    torch.manual_seed(seed)
    width = 8 * (1 + seed % 2)
    ours: Any = masktrack.build(width=width).eval()
    assert isinstance(ours, library)
    page = variant(width).eval()
    page.load_state_dict(ours.state_dict())
    frame, guide = torch.rand(2, 3, 32, 48), torch.rand(2, 32, 48) > 0.5
    with torch.no_grad():
        torch.testing.assert_close(page(frame, guide), ours(frame, guide), rtol=1e-3, atol=1e-4)


def same_stm(variant: Any, library: Any, seed: int) -> None:
    """A class of the page, built for one frame at a time, takes the small network's weights and gives its logits."""
    from vos_tutorial.models import stm

    torch.manual_seed(seed)
    ours: Any = stm.build().eval()
    assert isinstance(ours, library)
    page = variant().eval()
    page.load_state_dict(ours.state_dict())
    n, frames = 1 + seed % 3, torch.rand(3, 1, 3, 32, 48)
    masks, owner = torch.rand(n, 32, 48) / n, torch.zeros(n, dtype=torch.long)
    with torch.no_grad():
        written = [page.memorize(frame, masks) for frame in frames[:2]]
        for frame, found in zip(frames[:2], written, strict=True):
            expected = ours.memorize(frame, masks, stm.other_masks(masks, owner), owner)
            torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-4, atol=1e-5)
        keys, values = (torch.stack(maps, 2) for maps in zip(*written, strict=True))
        expected = ours.segment(ours.encode(frames[2]), keys, values, owner)
        torch.testing.assert_close(page.segment(frames[2], keys, values), expected, rtol=1e-3, atol=1e-4)


# --- notebook 04: a cell, the best assignment, and the whole traversal ---------------------------------------------


def same_cell(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    channels, hidden, h, w = (int(size) for size in torch.randint(1, 6, (4,), generator=rng))
    x, mask = torch.randn(2, channels, h, w, generator=rng), torch.rand(2, 1, h, w, generator=rng)
    state, temporal, c = torch.randn(3, 2, hidden, h, w, generator=rng)
    for one_shot in (True, False):
        ours = library(channels, hidden, one_shot)
        naive = variant(channels, hidden, one_shot)
        naive.load_state_dict(ours.state_dict())
        given = mask if one_shot else None
        for spatial, before in ((None, None), ((state, c), None), (None, temporal), ((state, c), temporal)):
            torch.testing.assert_close(naive(x, given, spatial, before), ours(x, given, spatial, before))


def same_assignment(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    objects = 1 + seed % 4
    slots = objects + seed % 2
    cost, valid = torch.rand(3, objects, slots, generator=rng), torch.rand(3, objects, generator=rng) > 0.3
    found, ours = variant(cost, valid), library(cost, valid)
    for row in (found, ours):
        assert all(len(set(sample)) == objects for sample in row.tolist())
    assert torch.equal(found[valid], ours[valid])


def same_rollout(variant: Any, library: Any, seed: int) -> None:
    from vos_tutorial.models import rvos

    one_shot, recurrence = seed % 2 == 0, ("ST", "S", "T")[seed % 3]
    torch.manual_seed(seed)
    network, slots = rvos.build(one_shot=one_shot, hidden=8, width=4).eval(), 1 + seed % 3
    frames = torch.rand(4, 3, 32, 48)
    masks0 = torch.rand(slots, 32, 48).round() if one_shot else None
    with torch.no_grad():
        found = variant(network, frames, masks0, slots, recurrence)
        given = masks0[None] if masks0 is not None else None
        ours = library(network, frames[None], given, slots, recurrence)[0]
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5)


def same_rvos(variant: Any, library: Any, seed: int) -> None:
    from vos_tutorial.models import rvos

    one_shot = seed % 2 == 0
    torch.manual_seed(seed)
    network, mine = rvos.build(one_shot=one_shot, hidden=16, width=8).eval(), variant(8, 16, one_shot).eval()
    assert isinstance(network, library)
    mine.load_state_dict(network.state_dict())
    frame = torch.rand(2, 3, 32, 48)
    masks = rvos.mask_pyramid(torch.rand(2, 1, 32, 48), network.strides) if one_shot else None
    spatial, temporal = None, None
    with torch.no_grad():
        skips, theirs = mine.encode(frame), network.encode(frame)
        torch.testing.assert_close(skips, theirs.maps, rtol=1e-4, atol=1e-5)
        for _ in range(2):  # the first object of frame 0, then one with both states
            logit, states = mine.decode(skips, masks, spatial, temporal)
            expected, _ = network.decode(theirs, masks, spatial, temporal)
            torch.testing.assert_close(logit, expected, rtol=1e-4, atol=1e-5)
            spatial, temporal = states, [h for h, _ in states]


# --- notebook 06: a painting, the margin rule, pyramid pooling, the masks' loss ------------------------------------


def same_painting(variant: Any, library: Any, seed: int) -> None:
    """A class of the page takes the small generator's weights and gives its picture and maps."""
    from vos_tutorial.models.frame_prediction import small_generator

    torch.manual_seed(seed)
    ours, page = small_generator().eval(), variant().eval()
    assert isinstance(ours, library)
    page.load_state_dict(ours.state_dict())
    window = torch.rand(1, 4, 3, 32, 48)
    with torch.no_grad():
        (painted, maps), expected = page(window), ours(window)
        torch.testing.assert_close((painted, *maps), (expected.frame, *expected.features), rtol=1e-3, atol=1e-4)


def same_stcnn(variant: Any, library: Any, seed: int) -> None:
    """A class of the page takes the small network's weights and gives its five masks."""
    from vos_tutorial.models import stcnn

    torch.manual_seed(seed)
    ours, page = stcnn.build().eval(), variant().eval()
    assert isinstance(ours, library)
    page.load_state_dict(ours.state_dict())
    frame, window = torch.rand(2, 3, 32, 48), torch.rand(2, 4, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(page(frame, window), ours(frame, window).logits, rtol=1e-3, atol=1e-3)


def same_referee(variant: Any, library: Any, seed: int) -> None:
    naive, ours = variant(), library()
    for real, fake in torch.rand(50, 2, generator=torch.Generator().manual_seed(seed)):
        naive.update(float(real), float(fake), 0.3)
        ours.update(real, fake, 0.3)
        assert (naive.generator, naive.discriminator) == (bool(ours.generator), bool(ours.discriminator))


def same_pyramid(variant: Any, library: Any, seed: int) -> None:
    from vos_tutorial.models.layers import group_norm

    torch.manual_seed(seed)
    ours, naive = library(8, 4, group_norm), variant(8, 4)
    naive.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8, 6 + seed, 9)
    torch.testing.assert_close(naive(x), ours(x), rtol=1e-4, atol=1e-5)


def same_segmentation_loss(variant: Any, library: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 7, 8, generator=rng)
    ids = torch.randint(0, 4, (2, 7, 8), generator=rng).to(torch.uint8)
    ids[ids == 3] = 255
    for dice in (0.0, 1.0):  # the page's own default is 1
        ours = library(logits, ids, seed / 9, dice)
        torch.testing.assert_close(variant(logits, ids, seed / 9, dice), ours, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variant(logits, ids, 0.5), library(logits, ids, 0.5, 1.0), rtol=1e-4, atol=1e-5)


# --- notebook 07: a flow map that makes its own waves; EMD without the library's checks ---------------------------


def same_plane_flow_map(variant: Any, library: Any, seed: int) -> None:
    """A flow map of the plane, from one teacher and with the same weights for s."""
    from vos_tutorial.models.plane import PlaneVelocity

    torch.manual_seed(seed)
    teacher = PlaneVelocity()
    page, ours = variant(teacher), library(teacher)
    torch.nn.init.normal_(ours.end.weight)
    page.load_state_dict(ours.state_dict())
    x, times = torch.randn(16, 2), torch.rand(2, 16).sort(0, descending=True).values
    torch.testing.assert_close(page(x, *times), ours(x, *times), rtol=1e-4, atol=1e-5)


def same_direction(variant: Any, library: Any, seed: int) -> None:
    """On a map that bends, in the plane and for pictures."""
    rng = torch.Generator().manual_seed(seed)
    for shape in ((5, 2), (3, 4, 6, 6)):
        x, v = torch.randn(2, *shape, generator=rng, dtype=torch.float64)
        times = torch.rand(2, shape[0], generator=rng, dtype=torch.float64)
        t, s = times.amax(0), times.amin(0)

        def bends(x: Any, t: Any, s: Any) -> Any:
            at, to = (time.reshape(-1, *[1] * (x.ndim - 1)) for time in (t, s))
            return torch.sin(x + at) * to + x * at**2

        for r in (0.0, 0.7, 1.0):
            torch.testing.assert_close(variant(bends, x, t, s, v, r), library(bends, x, t, s, v, r))


VARIANTS: dict[str, Callable[[Any, Any, int], None]] = {
    "vos_tutorial.metrics.region_similarity": same_grade,
    "vos_tutorial.metrics.boundary_map": same_boundary,
    "vos_tutorial.metrics.boundary_tolerance": same_tolerance,
    "vos_tutorial.metrics.boundary_accuracy": same_grade,
    "vos_tutorial.baselines.CopyFirst": same_copies,
    "vos_tutorial.geometry.dilate": same_dilation,
    "vos_tutorial.geometry.thin_plate_spline": same_spline,
    "vos_tutorial.models.masktrack.MaskTrack": same_masktrack,
    "vos_tutorial.models.rgmp.GlobalConvolution": same_comparison,
    "vos_tutorial.models.rgmp.RGMP": same_rgmp,
    "vos_tutorial.models.stm.read": same_read,
    "vos_tutorial.models.stm.STM": same_stm,
    "vos_tutorial.models.rvos.ConvLSTMCell": same_cell,
    "vos_tutorial.models.rvos.RVOS": same_rvos,
    "vos_tutorial.training.tasks.rvos.assign": same_assignment,
    "vos_tutorial.models.rvos.rollout": same_rollout,
    "vos_tutorial.models.frame_prediction.Generator": same_painting,
    "vos_tutorial.models.stcnn.STCNN": same_stcnn,
    "vos_tutorial.models.stcnn.Balance": same_referee,
    "vos_tutorial.models.stcnn.PyramidPooling": same_pyramid,
    "vos_tutorial.models.stcnn.segmentation_loss": same_segmentation_loss,
    "vos_tutorial.models.flow_map.emd_direction": same_direction,
    "vos_tutorial.models.plane.PlaneFlowMap": same_plane_flow_map,
}
