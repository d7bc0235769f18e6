"""Things that can be made again, kept as long as they fit under a bound in bytes; those used longest ago go first."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Any

_log = logging.getLogger(__name__)


class Lru:
    """A dictionary bounded in bytes. Not safe with threads: its owner holds the lock.

    bound: bytes.   held: bytes of what is in it, as stated when it was put.   evicted: how many entries have gone.
    """

    def __init__(self, what: str, bound: int = 0, let_go: Callable[[Any], None] = lambda value: None) -> None:
        """what: names the contents where the bound is too small for one use.   let_go: told of each value that goes."""
        self._bound, self.held, self.evicted = bound, 0, 0
        self._what, self._told, self._let_go = what, False, let_go
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @property
    def bound(self) -> int:
        """Set lower, what is too much goes at once."""
        return self._bound

    @bound.setter
    def bound(self, value: int) -> None:
        if value != self._bound:
            self._bound = value
            self._make_room(0, ())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable) -> Any:
        """The value, which now counts as just used; None where there is none."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Hashable, value: Any, size: int, needed: Collection[Hashable] = ()) -> None:
        """Keep `value`, of `size` bytes. `needed` names what must stay beside it.

        Where these alone are larger than the bound they are kept nevertheless, without anything else, and a warning is logged.
        """
        if key in self._entries:
            self._remove(key)
        self._make_room(size, needed)
        self._entries[key] = (value, size)
        self.held += size
        if self.held > self.bound and not self._told:
            self._told = True
            _log.warning(
                "%s: one alone takes %.1f MB, more than the bound of %.1f MB; only the one in use is kept, and every change "
                "makes it anew. Raise session_cache_mb",
                self._what,
                self.held / 1e6,
                self.bound / 1e6,
            )

    def _make_room(self, size: int, needed: Collection[Hashable]) -> None:
        for old in [k for k in self._entries if k not in needed]:
            if self.held + size <= self._bound:
                return
            self._remove(old)
            self.evicted += 1

    def _remove(self, key: Hashable) -> None:
        value, size = self._entries.pop(key)
        self.held -= size
        self._let_go(value)

    def clear(self) -> None:
        """Let everything go."""
        for key in list(self._entries):
            self._remove(key)


def give_back() -> None:
    """Return to the system what making a graph has left behind, 70 MB on lite0; only glibc has a word for it."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
