"""The flash of a device in a process with many: how much it holds, what is written to it, and a power cut in the middle.

    flash = Flash(home, size=64 << 20)
    with PowerCut(flash, step=120) as cut, EdgeDevice(home, rom=rom, disk=flash) as device:
        device.import_bundles(bundles)  # as if the process had died there: what it does from then on is void
    cut.restore()

The product's own code runs on it, through the seam `edgecl.bank.disk.Disk`. Nothing forks and nothing is patched, so other
devices of the process notice nothing.

| cut                                      | what is left                                                              |
|------------------------------------------|---------------------------------------------------------------------------|
| `PowerCut(flash, step=k)`                | the files at the k-th step of SQLite's machine                            |
| `cut_in_commit(flash, commit=k, seed=s)` | some sectors of the k-th commit, on their way into the log or to the file |

What is at which step depends on what a connection has in memory: for the same cut each time, open the device inside the cut.
faults.py has the cuts that kill a process, at every system call.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from edgecl.bank.disk import Disk
from edgecl.errors import EdgeclError
from firmware_sim.wal import Log

BANK = "bank.sqlite"
LOG, INDEX = f"{BANK}-wal", f"{BANK}-shm"
DERIVED = frozenset({"cache", "rom"})  # in a home, but made again when they are gone
_SECTOR = 512  # bytes that are written whole or not at all
_UNBOUNDED = 0xFFFFFFFE  # pages; SQLite's own default


class Flash(Disk):
    """What the home of one device lies on.

    size: bytes for all of the home but DERIVED; None: no bound. The bank's log takes none of it: it is room that is needed
    while writing, which `HeadBank.put` leaves free.   written: bytes so far, by transactions of the bank: into the log, and
    from there into the file. What `gc` moves to make the file smaller is not in it.
    """

    def __init__(self, home: Path, size: int | None = None) -> None:
        self.home, self.size = home, size
        self.written = 0
        self.cut: PowerCut | None = None

    def free(self, folder: Path) -> int:
        return super().free(folder) if self.size is None else max(0, self.size - self.taken())

    def taken(self) -> int:
        """Bytes of the home's files, as `size` counts them."""
        return sum(path.stat().st_size for path in _files(self.home) if path.name not in (LOG, INDEX))

    def opened(self, db: sqlite3.Connection) -> None:
        path = self.home / BANK
        pages = _UNBOUNDED
        if self.size is not None:
            others = self.taken() - (path.stat().st_size if path.exists() else 0)
            pages = max(1, (self.size - others) // _page_size(path))
        db.execute(f"PRAGMA max_page_count = {pages}")  # never below what the file has already
        db.set_progress_handler(self._reporter(db), 1)

    def _reporter(self, db: sqlite3.Connection) -> Callable[[], bool]:
        """What SQLite asks at each step whether to stop. The step after a commit comes before its checkpoint."""
        was_inside = False

        def report() -> bool:
            nonlocal was_inside
            inside, cut = db.in_transaction, self.cut
            if inside and not was_inside and cut is not None:
                cut.begun()
            committed = was_inside and not inside
            was_inside = inside
            if committed and (log := Log.read(self.home / LOG)) is not None:
                self.written += log.written_last()
            return cut is not None and cut.step(committed)

        return report


class PowerCut:
    """The power goes at the `step`-th step, from 1, of SQLite's machine over the bank of `flash`. A context manager.

    struck: whether it has come to that; every later statement of the bank then fails, and EdgeclError out of the body ends
    there. A link must ask `struck` and carry nothing more.   steps: seen so far.
    """

    def __init__(self, flash: Flash, step: int) -> None:
        self._flash, self._step = flash, step
        self.struck, self.steps = False, 0
        self._copy = set_aside(flash.home)

    def __enter__(self) -> PowerCut:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._flash.cut = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        self._flash.cut = None
        return self.struck and isinstance(error, EdgeclError)

    def restore(self) -> None:
        """`put_back`, where the cut has struck. The device is closed."""
        if self.struck:
            put_back(self._flash.home)

    def begun(self) -> None:
        """A transaction has begun."""

    def step(self, committed: bool) -> bool:
        """Whether the power is gone. committed: whether a commit has just reached the log."""
        if not self.struck:
            self.steps += 1
            if self._due(committed):
                self.struck = True
                self._take()
        return self.struck

    def _due(self, committed: bool) -> bool:
        return self.steps == self._step

    def _take(self) -> None:
        """Copy the home as it is."""
        self._copy.mkdir(parents=True)
        for entry in _entries(self._flash.home):
            there = self._copy / entry.name
            if entry.is_dir() and not entry.is_symlink():
                shutil.copytree(entry, there, symlinks=True)
            elif entry.name != INDEX:  # SQLite's alone, and void without its process
                shutil.copy2(entry, there, follow_symlinks=False)


def put_back(home: Path) -> None:
    """Put what a power cut has left in place of the home. Nobody may have its bank open, in any process."""
    copy = set_aside(home)
    home.mkdir(parents=True, exist_ok=True)
    for entry in _entries(home):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for entry in sorted(copy.iterdir()):
        entry.rename(home / entry.name)
    copy.rmdir()


def set_aside(home: Path) -> Path:
    """Where a power cut leaves what is to be put back."""
    return home.with_name(f".{home.name}-cut")


class _TornCommit(PowerCut):
    """See `cut_in_commit`."""

    def __init__(self, flash: Flash, commit: int, seed: int) -> None:
        super().__init__(flash, 0)
        self._left, self._rng = commit, random.Random(seed)
        self._before = b""  # the log when the transaction began

    def begun(self) -> None:
        log = self._flash.home / LOG
        self._before = log.read_bytes() if log.exists() else b""

    def _due(self, committed: bool) -> bool:
        self._left -= committed and (self._flash.home / LOG).exists()  # a bank is made without a log
        return committed and not self._left

    def _take(self) -> None:
        super()._take()
        after = (self._copy / LOG).read_bytes()
        log = Log(after)
        start, end = log.last()
        if self._rng.random() < 0.5:  # in the checkpoint: the log is synced, and copied page by page
            bank = self._copy / BANK
            bank.write_bytes(_torn(bank.read_bytes(), log.applied(bank.read_bytes()), 0, self._rng))
        elif not start and self._rng.random() < 0.2:  # SQLite syncs a new log's header before it writes what follows
            (self._copy / LOG).write_bytes(after[: self._rng.randrange(33)] + self._before[32:])
        else:
            (self._copy / LOG).write_bytes(_torn(self._before, after[:end], start or 32, self._rng))


def cut_in_commit(flash: Flash, commit: int, seed: int) -> PowerCut:
    """The power goes while the `commit`-th commit, from 1, is on its way to the flash.

    As a dead board leaves it: the log cut off at a byte, or with sectors that are not there; or all of the log, and in the
    bank's file some sectors as before and some as after. What SQLite has synced before is there.
    """
    return _TornCommit(flash, commit, seed)


def _torn(before: bytes, after: bytes, start: int, rng: random.Random) -> bytes:
    """`before` on its way to `after`: all up to `start`, and of the rest all up to a byte, or some of its sectors."""
    if rng.random() < 0.5:
        at = rng.randint(start, len(after))
        return after[:at] + before[at:]
    torn = bytearray(after)
    share = rng.random()
    for at in range(start - start % _SECTOR, len(torn), _SECTOR):
        begin, end = max(at, start), min(at + _SECTOR, len(torn))
        if rng.random() < share:
            torn[begin:end] = before[begin:end].ljust(end - begin, b"\0")
    return bytes(torn) + before[len(torn) :]


def _page_size(path: Path) -> int:
    """Of an SQLite file; of what is none, or not yet, that which SQLite would give it."""
    if path.exists():
        with path.open("rb") as file:
            size = int.from_bytes(file.read(18)[16:], "big")
        if size >= 512 and size.bit_count() == 1:
            return size
    return 4096


def _entries(home: Path) -> list[Path]:
    return [path for path in sorted(home.iterdir()) if path.name not in DERIVED]


def _files(home: Path) -> Iterator[Path]:
    for entry in _entries(home) if home.exists() else ():
        if not entry.is_dir():
            yield entry
        else:
            yield from (Path(folder) / name for folder, _, names in os.walk(entry) for name in names)
