"""A folder as the place: a USB stick, a network drive. It may be pulled out at any moment; what is there is whole or not there.

Bundles lie in `edgecl-heads/DIGEST.bundle`, notes on a device's keys in `edgecl-heads/KEY.succession`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edgecl.errors import PictureError, TransferError
from edgecl.files import half_written, write_whole
from edgecl.pictures.decode import open_regular
from edgecl.sharing.transport.base import Entry, Transport
from edgecl.text import printable

_INSIDE, _END, _NOTE = "edgecl-heads", ".bundle", ".succession"


class Folder(Transport):
    """path: the stick's or drive's folder, which must be there."""

    def __init__(self, path: Path) -> None:
        """Raises TransferError."""
        if not path.is_dir():
            raise TransferError(f"{printable(path)} is no folder that is there; is the stick mounted?")
        self.path, self.where = path / _INSIDE, printable(path)

    def _list(self) -> Iterator[Entry]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise TransferError(f"{self.where} cannot be read: {error.strerror}") from error
        for name in names:
            if name.endswith(_END):
                try:
                    facts = os.stat(self.path / name, follow_symlinks=False)
                except OSError:  # gone meanwhile, or a bad spot on the stick: the others can still be taken
                    continue
                if stat.S_ISREG(facts.st_mode):
                    yield Entry(name.removesuffix(_END), facts.st_size)

    def _read(self, digest: str, most: int) -> bytes:
        try:
            with open_regular(self.path / f"{digest}{_END}") as file:
                return file.read(most)
        except (OSError, PictureError) as error:
            raise TransferError(f"bundle {digest[:12]} in {self.where} cannot be read: {error}") from error

    def _write(self, digest: str, data: bytes) -> None:
        self._put(self.path / f"{digest}{_END}", data)

    def _read_note(self, key: str, most: int) -> bytes | None:
        place = self.path / f"{key}{_NOTE}"
        try:
            if not place.exists():
                return None
            with open_regular(place) as file:
                return file.read(most)
        except (OSError, PictureError) as error:
            raise TransferError(f"the note on {key[:12]} in {self.where} cannot be read: {error}") from error

    def _write_note(self, key: str, data: bytes) -> None:
        self._put(self.path / f"{key}{_NOTE}", data)

    def _put(self, place: Path, data: bytes) -> None:
        for left in half_written(place):
            with contextlib.suppress(OSError):
                left.unlink()
        try:
            write_whole(place, data)
        except OSError as error:
            raise TransferError(
                f"{self.where} cannot be written: {error.strerror}; what was there is still there, nothing half was left"
            ) from error
