"""Labelled pictures as they come: a line on a stream for each, or files that appear in a folder per class.

Nothing is decoded here, and nothing waits for more than it needs: a line is given as soon as it is whole, a file as soon as
nobody writes it any more.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecl.errors import DataError
from edgecl.pictures.folders import class_name, pictures_below
from edgecl.text import printable

LONGEST_LINE = 1 << 16  # bytes


@dataclass(frozen=True)
class Labelled:
    """A picture's file and its class; or the error that says why there is none."""

    path: Path
    label: str
    error: DataError | None = None


def lines(stream: int, wait: float = 0.2) -> Iterator[Labelled | None]:
    """What each line of a file descriptor says, in order, as they come; None whenever nothing has come for `wait` seconds.

    A line is `{"path": ..., "label": ...}`, or the path, a tab and the label. Empty lines are passed over. A line of more than
    LONGEST_LINE bytes is not kept in memory: it is an error like every other line that cannot be read.
    """
    held, number, too_long = b"", 0, False
    while True:
        ready, _, _ = select.select([stream], [], [], wait)
        if not ready:
            yield None
            continue
        piece = os.read(stream, LONGEST_LINE)
        *whole, held = (held + piece).split(b"\n") if piece else (held, b"")
        for line in whole:
            number += 1
            if too_long or len(line) > LONGEST_LINE:
                yield _bad(number, f"has more than {LONGEST_LINE:,} bytes")
            elif line.strip():
                yield _labelled(line.removesuffix(b"\r"), number)
            too_long = False
        if not piece:
            return
        if len(held) > LONGEST_LINE:
            held, too_long = b"", True


def _labelled(line: bytes, number: int) -> Labelled:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return _bad(number, "is no UTF-8 text")
    path: object
    label: object
    if text.lstrip().startswith("{"):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return _bad(number, f"is no JSON: {printable(text, 80)}")
        path, label = said.get("path"), said.get("label")
    else:
        path, _, label = text.rpartition("\t")
    if not isinstance(path, str) or not isinstance(label, str) or not path or not label:
        return _bad(number, f'has no path and label: {printable(text, 80)}; write {{"path": ..., "label": ...}}')
    try:
        return Labelled(Path(path), class_name(label.strip(), f"line {number}"))
    except DataError as error:
        return Labelled(Path(path), "", error)


def _bad(number: int, why: str) -> Labelled:
    return Labelled(Path(), "", DataError(f"line {number} {why}"))


class Watch:
    """A folder with a folder per class, looked at again and again: what has appeared since the last look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, tuple[int, int, int]] = {}  # as it was at the last look
        self._given: dict[Path, tuple[int, int, int]] = {}  # as it was when it was given
        self._named: set[str] = set()  # folders that were said to be no class

    def look(self) -> list[Labelled]:
        """Pictures that are new or were changed, and are the same as at the last look: nobody writes them. By class and name.

        So each look finds what the one before it saw first. A folder whose name cannot be a class is given once, as an error;
        hidden files, and files without a picture's ending, are left alone. Raises DataError where the folder cannot be listed.
        """
        found: list[Labelled] = []
        now: dict[Path, tuple[int, int, int]] = {}
        for folder in self._folders():
            try:
                label = class_name(folder.name, f"the folder {printable(folder)}")
            except DataError as error:
                if folder.name not in self._named:
                    found.append(Labelled(folder, "", error))
                self._named.add(folder.name)
                continue
            for path in pictures_below(folder):
                try:
                    about = path.stat()
                except OSError:  # gone again
                    continue
                now[path] = (about.st_size, about.st_mtime_ns, about.st_ino)
                if self._seen.get(path) == now[path] != self._given.get(path):
                    found.append(Labelled(path, label))
                    self._given[path] = now[path]
        self._seen = now
        self._given = {path: stamp for path, stamp in self._given.items() if path in now}
        return found

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as entries:
                return sorted(Path(e.path) for e in entries if not e.name.startswith(".") and e.is_dir())
        except OSError as error:
            raise DataError(
                f"{printable(self.folder)} cannot be watched: {error.strerror}; give a folder with one folder a class"
            ) from None
