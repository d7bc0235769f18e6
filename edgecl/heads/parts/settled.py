"""A stretch of work that Ctrl-C must not cut: it is short, and what took minutes is lost without it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def settled(say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C inside is answered with a sentence and otherwise let pass; outside the main thread no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def later(number: int, frame: Any) -> None:
        say("stopping; what was learned is being put in order first ...")

    before = signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
