"""A page that holds a MaskPainter, with the real Python behind it and no Jupyter between them."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vos_tutorial.course.widgets import MaskPainter
from vos_tutorial.course.widgets.mask_painter import ids_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

LINE = """
window.kernel = {
  gone: false, // a test may cut the line
  send(content, callbacks, buffers = []) {
    if (window.kernel.gone) return;
    const text = (b) => btoa(String.fromCharCode(...new Uint8Array(b.buffer, b.byteOffset, b.byteLength)));
    window.toPython({ content, buffers: buffers.map(text) }).then((said) => window.fromPython(said, this));
  },
};
window.fromPython = (said, model = window.hosted.model) => {
  const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  for (const { trait, binary, value, content, buffers } of said) {
    if (trait === undefined) model.tell(content, buffers.map(view));
    else {
      model.set(trait, binary ? view(value) : value);
      delete model.changed[trait]; // it comes from there
    }
  }
};
"""
SAVES = """() => {
  const { model } = window.hosted;
  const save = model.save_changes;
  model.save_changes = () => {
    const changed = { ...model.changed };
    save();
    if (!window.kernel.gone) window.toPython({ changed }).then((said) => window.fromPython(said));
  };
}"""


class Line:
    """Messages and traits of a painter, both ways. ``pump`` brings to the page what a thread said meanwhile."""

    def __init__(self, painter: MaskPainter) -> None:
        self.painter = painter
        self.heard: list[dict[str, Any]] = []  # from the page
        self.page: Page
        self._said: list[dict[str, Any]] = []
        self._runs = 0  # that were waited for
        self._lock = threading.Lock()
        painter.send = self._send  # type: ignore[method-assign]
        names = [name for name in painter.keys if name in painter._own_traits()]
        painter.observe(self._changed, names)

    def _send(self, content: dict[str, Any], buffers: Sequence[bytes] | None = None) -> None:
        texts = [base64.b64encode(b).decode() for b in buffers or ()]
        with self._lock:
            self._said.append({"content": content, "buffers": texts})

    def _changed(self, change: Any) -> None:
        value = change.new
        binary = isinstance(value, bytes)
        with self._lock:
            self._said.append(
                {
                    "trait": change.name,
                    "binary": binary,
                    "value": base64.b64encode(value).decode() if binary else value,
                }
            )

    def to_python(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """A message of the page; what Python says to it."""
        if "changed" in message:
            for name, value in message["changed"].items():
                setattr(self.painter, name, value)
        else:
            self.heard.append(message["content"])
            buffers = [memoryview(base64.b64decode(text)) for text in message["buffers"]]
            self.painter._receive(None, message["content"], buffers)
        return self.take()

    def take(self) -> list[dict[str, Any]]:
        with self._lock:
            said, self._said = self._said, []
        return said

    def pump(self) -> None:
        """Bring to the page what was said since."""
        if said := self.take():
            self.page.evaluate("(said) => window.fromPython(said)", said)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait, and bring to the page what is said meanwhile."""
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it never came"
            self.pump()
            self.page.wait_for_timeout(20)  # the page is heard

    def hears(self, kind: str, times: int = 1) -> None:
        """Until the page has sent this so many times."""
        self.until(lambda: sum(said["kind"] == kind for said in self.heard) >= times)

    def wait(self) -> None:
        """Until the method is done that the page has started: once for each start."""
        self._runs += 1
        self.hears("propagate", self._runs)
        self.until(lambda: self.painter.wait(0))
        self.pump()

    def attach(self, page: Page) -> Page:
        """To be called before the page is opened."""
        self.page = page
        page.expose_function("toPython", self.to_python)
        page.add_init_script(LINE)
        return page

    def seen(self) -> np.ndarray:
        """The ids that the page has for its frame, ``uint8 [H, W]``."""
        words = self.page.evaluate("() => document.querySelector('.vp-canvas').painted()")
        return ids_of(np.array(words, "<u4").tobytes(), self.painter.project.video.size)


class Walks:
    """A method for tests: every object goes ``step`` pixels to the right in each frame, less and less surely.

    Args:
        step: pixels.
        gate: called before each step, for tests that stop it there.
    """

    def __init__(self, step: int = 3, gate: Callable[[], object] = lambda: None) -> None:
        self.step_by, self.gate, self.steps = step, gate, 0
        self._masks = torch.zeros(0)  # bool [K, H, W]
        self._ids: list[int] = []
        self._sure = 1.0

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        self._ids, self._sure = sorted(set(mask.unique().tolist()) - {0, 255}), 1.0
        self._masks = torch.stack([mask == o for o in self._ids])

    def step(self, frame: Tensor) -> Tensor:
        self.gate()
        self.steps += 1
        self._sure *= 0.97
        self._masks = self._masks.roll(self.step_by, 2)
        objects = self._masks * self._sure
        return torch.cat([1 - objects.sum(0, keepdim=True), objects])

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        new = sorted(set(mask.unique().tolist()) - {0, 255, *self._ids})
        self._ids += new
        self._masks = torch.cat([self._masks, torch.stack([mask == o for o in new])])

    def correct(self, frame: Tensor, mask: Tensor, absent: Sequence[int] = ()) -> None:
        for channel, o in enumerate(self._ids):
            if (mask == o).any() or o in absent:
                self._masks[channel] = mask == o

    def remove(self, object_id: int) -> None:
        keep = [o != object_id for o in self._ids]
        self._masks = self._masks[torch.tensor(keep)]
        self._ids = [o for o in self._ids if o != object_id]
