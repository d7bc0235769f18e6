"""Copies of devices' homes from before an op, to go back to when the worker dies in the middle of it.

They are made by the process that hands out the work, before it hands it out, and never by a worker: SQLite's locks are
forgotten by a whole process when that process closes any other handle on the file, and workers have banks open.
Where two processes share an idle bank, one may take the last of its log into the file meanwhile: so the file is copied
before its log, which then mends what was copied half-way, and a log that is gone in between is a reason to copy again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from edgecl.errors import BankBusy, BankFull

REBUILT = ("cache", "rom")  # of a home: large, and it can be made again
_TRIES = 20


class Journal:
    """Keeps copies in `folder`, best on the disk where the homes are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, number: int, homes: Sequence[Path]) -> None:
        """Copy the homes, as they are before op `number`. A home that is not there yet is remembered as such.

        Raises BankFull where the copies have no room, BankBusy when somebody else keeps changing a home.
        """
        for i, home in enumerate(homes):
            for _ in range(_TRIES):
                copy = self._copy(number, i)
                try:
                    if home.exists():
                        _copy_folder(home, copy)
                    break
                except FileNotFoundError:
                    shutil.rmtree(copy, ignore_errors=True)
                except OSError as error:
                    self.drop(number)
                    raise BankFull(f"{home} cannot be copied to {copy} before work on it: {error}; free some space") from error
            else:
                raise BankBusy(f"{home} changes while it is copied; only one op at a time may work on a home")

    def restore(self, number: int, homes: Sequence[Path]) -> None:
        """Put the homes back to what they were before op `number`. The copies stay."""
        for i, home in enumerate(homes):
            if home.exists():
                for entry in os.scandir(home):
                    if entry.name in REBUILT:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
            copy = self._copy(number, i)
            if copy.exists():
                _copy_folder(copy, home)
            elif home.exists() and not any(home.iterdir()):
                home.rmdir()

    def drop(self, number: int) -> None:
        """The op is done: forget its copies."""
        shutil.rmtree(self._folder(number), ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self.folder / f"{number}"

    def _copy(self, number: int, i: int) -> Path:
        return self._folder(number) / f"{i}"


def _copy_folder(source: Path, target: Path) -> None:
    """Copy files with their rights (a key stays its owner's), by name; SQLite's index of a log is made again by its reader."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.name in REBUILT or entry.name.endswith("-shm"):
            continue
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(Path(entry.path), target / entry.name)
        elif entry.is_file():
            shutil.copyfile(entry.path, target / entry.name)
            os.chmod(target / entry.name, entry.stat().st_mode & 0o777)
