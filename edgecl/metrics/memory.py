"""What a stretch of work added to this process's memory."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import TracebackType

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The most bytes in memory during a `with` block, above those at its beginning.

    Of the whole process, as the system counts pages: what other threads take counts, and what an earlier block has given back
    to the allocator but not to the system is used again unseen, so the first block of a process says most. Where the system
    keeps no mark that can be set back (Linux does), it is the growth of the process's record, 0 if an earlier peak was higher.
    """

    growth = 0  # bytes, after the block

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):
            _REFS.write_text("5")  # sets the mark back to what is in memory now
        self._before = _status("VmRSS") or _record()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.growth = max(0, (_status("VmHWM") or _record()) - self._before)


def _status(key: str) -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _record() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
