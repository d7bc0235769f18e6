"""What has come of bundles that are not whole yet, in `incoming/`: a transfer that breaks goes on where it stopped.

A file per bundle and sender, grown as bytes arrive. It is not synced: what a power cut tears is found by its mark, and sent
again. Nothing here is believed; what is whole is checked as any bundle is, and leaves when it is in the bank.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType

from edgecl.errors import BankFull, PeerRefused, ProtocolError
from edgecl.sharing.bundle import MAX_BYTES
from edgecl.sharing.chunks import Want, name

_END = ".part"


class Inbox:
    """The folder `incoming` of a home, made on first need.

    most: bytes that lie in it at one time, or are declared and on their way; for more, the oldest that nobody is writing gives
    way, else what is new.
    """

    def __init__(self, folder: Path, most: int = 4 * MAX_BYTES) -> None:
        self.folder, self._most = folder, most
        self._open: dict[Path, int] = {}  # that are being written, and how large they become
        self._free = 0  # bytes that may come before it is looked at again what lies there
        self._lock = threading.Lock()

    def begun(self, digest: str, sender: str) -> Want:
        """What lies here of that bundle, from that sender."""
        try:
            data = self._path(digest, sender).read_bytes()
        except OSError:
            return Want()
        return Want(len(data), name(data)) if 0 < len(data) <= MAX_BYTES else Want()

    def open(self, digest: str, size: int, sender: str, offset: int) -> Arrival:
        """Go on with a bundle behind its first `offset` bytes.

        Raises ProtocolError for an offset that is not here, PeerRefused when that sender is sending it already or too much is
        coming in at one time, BankFull.
        """
        path = self._path(digest, sender)
        with self._lock:
            if path in self._open:
                raise PeerRefused(f"bundle {digest[:12]} is being sent by the same device already; try again later", "busy")
            if self._free < size:
                self._make_room(size, path)
            self._free -= size
            self._open[path] = size
        try:
            return Arrival(self, path, digest, size, offset)
        except BaseException:
            self.release(path)
            raise

    def release(self, path: Path) -> None:
        """Nobody writes there any more."""
        with self._lock:
            self._open.pop(path, None)

    def forget(self, digest: str, sender: str) -> None:
        """It is in the bank, or refused."""
        with contextlib.suppress(OSError):
            self._path(digest, sender).unlink()

    def _path(self, digest: str, sender: str) -> Path:
        return self.folder / f"{digest}-{sender[:16]}{_END}"

    def _make_room(self, size: int, own: Path) -> None:
        files = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    files.append((facts.st_mtime_ns, facts.st_size, Path(entry.path)))
        idle = [(age, length, path) for age, length, path in sorted(files) if path not in self._open and path != own]
        taken = sum(self._open.values()) + sum(length for _, length, _ in idle)
        for _, length, path in idle:
            if taken + size <= self._most:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                taken -= length
        if taken + size > self._most:
            raise PeerRefused(
                f"{taken:,} bytes are coming in from others, and there is no room for more; try again later", "busy"
            )
        self._free = self._most - taken


class Arrival:
    """A bundle that is coming in; a context manager. `left`: bytes that are still to come."""

    def __init__(self, inbox: Inbox, path: Path, digest: str, size: int, offset: int) -> None:
        self._inbox, self._path, self.digest, self.size = inbox, path, digest, size
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        with _explained(path):
            here = os.fstat(self._file.fileno()).st_size
            if not offset <= min(here, size):
                self._file.close()
                raise ProtocolError(f"bundle {digest[:12]} goes on behind byte {offset:,}, but {here:,} of {size:,} are here")
            self._file.truncate(offset)
            self._file.seek(offset)
        self.left = size - offset

    def append(self, data: bytes) -> None:
        """Raises ProtocolError for more than was declared, BankFull."""
        if len(data) > self.left:
            raise ProtocolError(f"bundle {self.digest[:12]} was declared with {self.size:,} bytes, but more of it comes")
        with _explained(self._path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        self.left -= len(data)

    def whole(self) -> bytes:
        """The bytes, all of them here. Raises ProtocolError when they are another bundle's, which are then forgotten."""
        self._file.seek(0)
        data = self._file.read()
        if self.left or hashlib.sha256(data).hexdigest() != self.digest:
            with contextlib.suppress(OSError):
                self._path.unlink()
            raise ProtocolError(f"what was sent as bundle {self.digest[:12]} is not that bundle; nothing of it was kept")
        return data

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._inbox.release(self._path)


@contextlib.contextmanager
def _explained(path: Path):  # type: ignore[no-untyped-def]
    try:
        yield
    except OSError as error:
        raise BankFull(f"{path.parent} cannot take what comes in: {error.strerror}; nothing was changed") from error
