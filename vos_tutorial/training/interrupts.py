"""Ctrl-C that lets the current step finish."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_listening: list[threading.Event] = []


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, once; a second signal meets the handler that was there before.

    Inside another ``stop_signals`` this is that one's event: the command holds Ctrl-C back until the weights are
    written, and the loop within it stops between two steps.
    """
    if _listening:
        yield _listening[-1]
        return
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: object) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    _listening.append(stop)
    try:
        yield stop
    finally:
        _listening.remove(stop)
        restore()
