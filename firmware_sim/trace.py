"""What happened, one JSON object a line, in the order of virtual time: the same bytes for the same scenario, whoever ran it."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from edgecl.errors import DataError
from edgecl.text import printable

Event = dict[str, Any]
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Trace:
    """Writes the events of a run to `path`; a context manager.

    Events may come a little out of order, as operations end that began together; `flush(t)` says that nothing earlier than t
    comes any more. heard: called with each event as it is written.
    """

    def __init__(self, path: Path, heard: Callable[[Event], None] = lambda event: None) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._heard = heard
        self._waiting: list[tuple[float, int, int, Event]] = []
        self._serial = 0
        self.written = 0

    def emit(self, t: float, agent: int, name: str, event: str, **more: Any) -> None:
        """Note an event of an agent (index and name) at virtual second t."""
        self._serial += 1
        t = round(t, 6)
        heapq.heappush(self._waiting, (t, agent, self._serial, {"t": t, "agent": name, "event": event, **more}))

    def head(self, event: Event) -> None:
        """The first line."""
        self._write(event)

    def flush(self, t: float) -> None:
        """Write what happened before t."""
        waiting = self._waiting
        while waiting and waiting[0][0] < t:
            self._write(heapq.heappop(waiting)[3])

    def _write(self, event: Event) -> None:
        self._file.write(_dumps(event) + "\n")
        self.written += 1
        self._heard(event)

    def close(self) -> None:
        """Write all there is."""
        self.flush(float("inf"))
        self._file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read(path: Path) -> Iterator[Event]:
    """The events in a file. Raises DataError where it is no trace; a last line that was cut off is left out."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n"):
                    return
                event = json.loads(line)
                if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                    raise DataError(f"{printable(path)}, line {number}, is no event of a simulation")
                yield event
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} cannot be read as a trace: {error}") from error
