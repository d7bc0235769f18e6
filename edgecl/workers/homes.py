"""Devices' homes as they were before an op, to go back to when the worker dies in the middle of it.

They are kept in memory by the process that hands out the work: it alone goes back to them, and reading is all that they
cost. A worker could not make them: SQLite's locks are forgotten by a whole process when it closes any other handle on the file,
and workers have banks open. Where two of them share an idle bank, one may take the last of its log into the file meanwhile: so
a file is read before its log, which then mends what was read half-way; a log that is gone in between is a reason to read again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgecl.errors import BankBusy

REBUILT = ("cache", "rom")  # of a home: large, and it can be made again
_TRIES = 20


@dataclass(frozen=True)
class Home:
    """A home at one moment. files: path inside it -> bytes and rights; None for a folder. No entry at all: it did not exist."""

    path: Path
    files: dict[str, tuple[bytes, int] | None] | None


def read_home(path: Path) -> Home:
    """The home as it is. Raises BankBusy when somebody keeps changing it, OSError where it cannot be read."""
    for _ in range(_TRIES):
        try:
            return Home(path, _read(path) if path.exists() else None)
        except FileNotFoundError:
            continue
    raise BankBusy(f"{path} changes while it is read; only one op at a time may work on a home: name it when you submit the op")


def restore(home: Home) -> None:
    """Make the home again what it was. Nobody may have its bank open."""
    if home.path.exists():
        for entry in os.scandir(home.path):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in REBUILT:
                    shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    if home.files is None:
        if home.path.exists() and not any(home.path.iterdir()):
            home.path.rmdir()
        return
    home.path.mkdir(parents=True, exist_ok=True)
    for name, kept in home.files.items():
        if kept is None:
            (home.path / name).mkdir()
            continue
        data, rights = kept
        with os.fdopen(os.open(home.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights), "wb") as file:
            file.write(data)


def _read(folder: Path, under: str = "") -> dict[str, tuple[bytes, int] | None]:
    """Files by name, so that a log comes after its file; SQLite's index of a log is made again by its reader."""
    found: dict[str, tuple[bytes, int] | None] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{under}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if name not in REBUILT:
                found |= {name: None, **_read(Path(entry.path), f"{name}/")}
        elif entry.is_file() and not name.endswith("-shm"):
            found[name] = (Path(entry.path).read_bytes(), entry.stat().st_mode & 0o777)
    return found
