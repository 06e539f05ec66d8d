"""What every method of ours has in common as a :class:`~vos_tutorial.propagation.Segmenter`.

Which object has which channel, what may come in, on which device, in which precision and at which size the network
works, and that no graph is kept: all this is decided here, once. A method says in six hooks what it does with the
masks.
"""

from __future__ import annotations

import copy
import operator
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .clip import ids_to_onehot, object_ids
from .door import FrameLike, MaskLike, as_frame, as_mask, require_same_size
from .errors import TutorialError
from .resize import resize_frame, resize_objects, resize_probabilities, working_size

Network = TypeVar("Network", bound=nn.Module)
Method = TypeVar("Method", bound=Callable[..., Any])


def evaluating(network: Network) -> Network:
    """The network in eval mode, without touching the caller's: new modules around the *same* parameters and buffers.

    It costs no memory, and what the caller's network learns later, this one knows.
    """
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}).eval()


def replaced(masks: Tensor, channels: Sequence[int], given: Tensor) -> Tensor:
    """Some masks given anew; they take their pixels from the others.

    Args:
        masks: ``bool`` or ``float [K, H, W]``.
        channels: n of 0..K-1.
        given: ``bool [n, H, W]``, which do not overlap.

    Returns:
        ``[K, H, W]`` of the type of ``masks``, which stay as they are.
    """
    masks = masks * ~given.any(0)  # [K, H, W]
    masks[list(channels)] = given.to(masks.dtype)
    return masks


def cleared(masks: Tensor, channels: Sequence[int]) -> Tensor:
    """``[K, H, W]`` with some masks emptied; ``masks`` stay as they are."""
    masks = masks.clone()
    masks[list(channels)] = 0
    return masks


def without(values: Tensor, channel: int) -> Tensor:
    """``[K, ...]`` less one of its channels: ``[K-1, ...]``."""
    return torch.cat([values[:channel], values[channel + 1 :]])


def with_room(values: Tensor, new: int) -> Tensor:
    """``[K, ...]`` and zeros for objects that are about to be given: ``[K+new, ...]``."""
    return torch.cat([values, values.new_zeros(new, *values.shape[1:])])


def without_graph(method: Method) -> Method:
    """Neither gradients nor inference mode, whatever the caller uses: online tuning needs tensors that can learn."""

    @wraps(method)
    def guarded(*args: Any, **options: Any) -> Any:
        plain = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
        with plain, torch.no_grad():
            return method(*args, **options)

    return guarded  # type: ignore[return-value]


def whole_or_not_at_all(method: Method) -> Method:
    """A call that ends early (Ctrl-C, no memory left, a bad mask) leaves the segmenter as it was before.

    What a hook assigns is taken back, and what it puts into or out of a list, dictionary or deque of its own. It may
    write into no tensor that was there before. An object behind an attribute must bear to be told the same thing
    twice, as :class:`~vos_tutorial.models.stm.Memory` does.
    """

    @wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:
        containers = (list, dict, deque)
        before = {name: copy.copy(v) if isinstance(v, containers) else v for name, v in vars(self).items()}
        try:
            return method(self, *args, **options)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return guarded  # type: ignore[return-value]


class ObjectSegmenter(ABC):
    """Objects in channels, ids at the door; see :class:`~vos_tutorial.propagation.Segmenter` for the five calls.

    The hooks get frames ``[3, H, W]`` on the network's device, in its precision and at its size, masks
    ``bool [n, H, W]`` that do not overlap, and channels counted from 0 without the background. They run without
    gradients, and what they change is taken back if they raise (:func:`whole_or_not_at_all`).

    Args:
        network: what the method asks, left as it is (:func:`evaluating`); None for methods without one.

    Attributes:
        objects: the ids that are followed, in the order of their channels.
        lines: frames whose shorter side has more pixels are shrunk to so many for the network, and probabilities
            come back full size; None never resizes. It holds from the next ``begin`` on.
        enlarge: frames of fewer lines are enlarged towards ``lines``, at most so many times; 1 leaves them as they
            are. It holds from the next ``begin`` on.
    """

    def __init__(self, network: nn.Module | None = None) -> None:
        self.objects: list[int] = []
        self.lines: int | None = None
        self.enlarge = 1.0
        self._size: tuple[int, int] | None = None  # H, W of the clip
        self._seen: tuple[int, int] | None = None  # h, w of what the network sees, if that is not H, W
        self._floats = next((p for p in network.parameters() if p.is_floating_point()), None) if network else None

    # ------------------------------------------------------------------------------------ what a method says

    @abstractmethod
    def _start(self, frame: Tensor) -> None:
        """Forget the last clip; ``frame`` is the first one of the next, and no object is known yet."""

    @abstractmethod
    def _add(self, frame: Tensor, masks: Tensor) -> None:
        """``n >= 1`` new objects, whose channels come last; they take their pixels from the known ones."""

    @abstractmethod
    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        """The true masks of some known objects in the last frame; they take their pixels from the others."""

    @abstractmethod
    def _clear(self, channels: Sequence[int]) -> None:
        """Nothing of some known objects can be seen in the last frame; what earlier ones told of them stays."""

    @abstractmethod
    def _remove(self, channel: int) -> None:
        """Forget one object; the channels behind it move up. There is at least one other."""

    @abstractmethod
    def _predict(self, frame: Tensor) -> Tensor:
        """The next frame: probabilities ``float [K+1, H, W]`` of the K >= 1 objects, background first."""

    # --------------------------------------------------------------------------------------- the five calls

    @whole_or_not_at_all
    @without_graph
    def begin(self, frame: FrameLike, mask: MaskLike) -> None:
        """See :meth:`vos_tutorial.propagation.Segmenter.begin`."""
        picture = as_frame(frame)
        height, width = picture.shape[1:]
        self.objects, self._size = [], (height, width)
        seen = working_size(self.lines, self.enlarge, height, width)
        self._seen = seen if seen != self._size else None
        ids, picture = self._ids(mask), self._inside(picture)
        self._start(picture)
        self._give(picture, ids)

    @whole_or_not_at_all
    @without_graph
    def step(self, frame: FrameLike) -> Tensor:
        """See :meth:`vos_tutorial.propagation.Segmenter.step`."""
        picture = self._frame(frame)
        device = frame.device if isinstance(frame, Tensor) else picture.device
        if not self.objects:  # nothing to follow: all background
            return torch.ones(1, *picture.shape[1:], device=device)
        probabilities = self._predict(self._inside(picture)).float()  # [K+1, h, w]
        if self._seen is not None:
            probabilities = resize_probabilities(probabilities, *picture.shape[1:])  # [K+1, H, W]
        return probabilities.to(device)

    @whole_or_not_at_all
    @without_graph
    def introduce(self, frame: FrameLike, mask: MaskLike) -> None:
        """See :meth:`vos_tutorial.propagation.Segmenter.introduce`."""
        picture, ids = self._inside(self._frame(frame)), self._ids(mask)
        if not self.objects:  # nothing was followed until now, so the clip begins here
            self._start(picture)
        self._give(picture, ids)

    @whole_or_not_at_all
    @without_graph
    def correct(self, frame: FrameLike, mask: MaskLike, absent: Sequence[int] = ()) -> None:
        """See :meth:`vos_tutorial.propagation.Segmenter.correct`."""
        picture, ids = self._inside(self._frame(frame)), self._ids(mask)
        given = object_ids(ids)
        unknown = [i for i in [*given, *absent] if i not in self.objects]
        if unknown or not (given or absent):
            known = ", ".join(map(str, self.objects)) or "none"
            what = f"object {unknown[0]} is not followed yet" if unknown else "the mask holds no object"
            raise TutorialError(f"{what}; correct one of {known}, or introduce a new object.")
        both = sorted(set(given) & set(absent))
        if both:
            raise TutorialError(f"object {both[0]} is absent and has a mask; leave out one of the two.")
        if absent:
            self._clear([self.objects.index(i) for i in absent])
        if given:
            self._correct(picture, [self.objects.index(i) for i in given], ids_to_onehot(ids, given))

    @whole_or_not_at_all
    @without_graph
    def remove(self, object_id: int) -> None:
        """See :meth:`vos_tutorial.propagation.Segmenter.remove`."""
        try:
            channel = self.objects.index(operator.index(object_id))
        except (TypeError, ValueError):
            known = ", ".join(map(str, self.objects)) or "none"
            raise TutorialError(f"object {object_id!r} is not followed; the objects are {known}.") from None
        del self.objects[channel]
        if self.objects:
            self._remove(channel)

    # ------------------------------------------------------------------------------------------- at the door

    def _give(self, picture: Tensor, ids: Tensor) -> None:
        new = [i for i in object_ids(ids) if i not in self.objects]
        if new:
            self.objects += new
            self._add(picture, ids_to_onehot(ids, new))

    def _frame(self, frame: FrameLike) -> Tensor:
        picture = as_frame(frame)
        if self._size is None:
            raise TutorialError(f"{type(self).__name__} has no clip yet; call begin(frame, mask) first.")
        if tuple(picture.shape[1:]) != self._size:
            raise TutorialError(
                f"this frame is {picture.shape[1]}x{picture.shape[2]}, the clip began with "
                f"{self._size[0]}x{self._size[1]}; begin a new clip, or resize the frame."
            )
        return picture

    def _ids(self, mask: MaskLike) -> Tensor:
        assert self._size is not None
        ids = as_mask(mask)
        require_same_size(ids, self._size)
        if self._seen is not None:
            ids = resize_objects(ids, *self._seen)  # [h, w]
        return ids.to(self._floats.device) if self._floats is not None else ids

    def _inside(self, picture: Tensor) -> Tensor:
        """Where, how and at which size the network works; a copy if it came from inference mode."""
        if self._seen is not None:
            picture = resize_frame(picture, *self._seen)  # [3, h, w]
        if self._floats is not None:
            picture = picture.to(self._floats.device, self._floats.dtype)
        return picture.clone() if picture.is_inference() else picture
