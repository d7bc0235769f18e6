"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_HALF = ".part"


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, in place of what is there: all of it or nothing, also when the power goes. Raises OSError.

    The folder is made. Readers see the old file or the new one; of two writers one wins, whole.
    """
    temporary = path.with_name(f"{_start(path)}{secrets.token_hex(8)}{_HALF}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def private_file(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside `path` with `data` on the disk, for its owner's eyes; it is gone afterwards unless it was renamed."""
    temporary = path.with_name(f"{_start(path)}{secrets.token_hex(8)}{_HALF}")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_once(path: Path, data: bytes) -> None:
    """Put `data` there for its owner's eyes, unless another process was quicker: then what it wrote stays. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with private_file(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            if not path.exists():
                temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def half_written(path: Path) -> list[Path]:
    """What power cuts have left of attempts to write `path`."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:
        return []
    return [p for p in beside if p.name.startswith(_start(path)) and p.name.endswith(_HALF)]


def _start(path: Path) -> str:
    return f".{path.name}-"
