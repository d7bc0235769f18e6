"""A worker that is this very process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from edgecl.workers import calls
from edgecl.workers.base import Worker


class Here(Worker):
    """Runs what it is told, then and there."""

    def __init__(self, start: str, settings: Mapping[str, Any]) -> None:
        self._start, self._settings = start, settings
        self._host: Any = None

    def start(self) -> None:
        self._host = calls.begin(self._start, self._settings)

    def call(self, text: str) -> str:
        return calls.answer(self._host, text)

    @property
    def pid(self) -> int:
        return os.getpid()

    def stop(self) -> None:
        host, self._host = self._host, None
        calls.end(host)
