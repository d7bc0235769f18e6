"""What lies on the disk of a teaching under way: one task's folder with a lock, and the state behind its newest heads.

A state is one safetensors file, there whole or not at all, named by what it led to: the digest of the bundle's contents without
its signature, so that a device that changes its key keeps it, or `waiting` where there is no bundle yet. It is written before
the bundle is put in force: after a power cut the state of whichever bundle is in force is there. It holds features of pictures
and never leaves the device. A damaged file, or one of another ROM, is as good as none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgecl.bank.bank import HeadBank
from edgecl.errors import BankBusy, BankError, BankFull, BankReadOnly, PictureError
from edgecl.files import write_whole
from edgecl.pictures.decode import open_regular
from edgecl.rom.image import weights_digest
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.types import Arrays, Ints

fcntl: ModuleType | None
try:
    import fcntl
except (
    ImportError
):  # a system without it has the bank's own check alone: the later of two teachings is then refused as it commits
    fcntl = None

FORMAT = 1
WAITING = "waiting"
_ENDING = ".safetensors"
_MAX_BYTES = 1 << 30  # far above any state; a larger file is none
_TAUGHT = "taught"
_ARRAY = "memory/"


@dataclass(frozen=True)
class State:
    """A memory under way.

    settings: of its method.   classes: of its memory.   arrays: as `Memory.state` gives them.   taught: (n,) int64, marks of
    the pictures that it has learned, oldest first.
    """

    method: str
    rom_id: str
    settings: Mapping[str, Any]
    classes: Sequence[str]
    arrays: Arrays
    taught: Ints


def name_of(bundle: Bundle | None) -> str:
    """Under which the state that led to `bundle` is kept."""
    if bundle is None:
        return WAITING
    return digest(replace(bundle, signer="", sequence=0, signature="").to_bytes())


class TaskFolder:
    """The states of one task, in `folder`, which is made on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[None]:
        """Nobody else teaches this task meanwhile; the lock goes with the process that holds it.

        Raises BankBusy where somebody does, BankReadOnly or BankFull where the folder cannot be used.
        """
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BankBusy(
                        f"'{task}' is being taught by another process already; nothing was changed. Give it the pictures, or "
                        f"try again when it is done"
                    ) from None
            yield
        finally:
            os.close(handle)

    def read(self, name: str) -> State | None:
        """The state of that name; None where there is none, or it cannot be believed."""
        try:
            with open_regular(self._path(name)) as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                return None
            length = int.from_bytes(data[:8], "little")
            said = json.loads(data[8 : 8 + length])["__metadata__"]
            tensors = load(data)
            if said["digest"] != _digest(tensors, said["about"]):
                return None
            about = json.loads(said["about"])
            if about.pop("format") != FORMAT:
                return None
            taught = tensors.pop(_TAUGHT)
            if taught.dtype != np.int64 or taught.ndim != 1:
                return None
            arrays = {key.removeprefix(_ARRAY): value for key, value in tensors.items()}
            return State(**about, arrays=arrays, taught=taught)
        except (PictureError, OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def has(self, name: str) -> bool:
        """Whether there is a file of that name, whatever it holds."""
        return self._path(name).exists()

    def write(self, name: str, state: State) -> None:
        """Keep it, whole or not at all. Raises BankFull, BankReadOnly or BankError; what was there is still there then."""
        about = {"format": FORMAT, "method": state.method, "rom_id": state.rom_id}
        text = json.dumps(about | {"settings": dict(state.settings), "classes": list(state.classes)})
        tensors = {f"{_ARRAY}{name}": np.array(value, order="C") for name, value in state.arrays.items()}
        tensors[_TAUGHT] = state.taught
        data = save(tensors, metadata={"about": text, "digest": _digest(tensors, text)})
        with self._explained():
            write_whole(self._path(name), data)

    def keep(self, *names: str) -> None:
        """Remove all states but these, and what power cuts have left half-written."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.name != "lock" and path.name not in {f"{name}{_ENDING}" for name in names}:
                    path.unlink()

    def drop(self, name: str) -> None:
        """Remove that state."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_ENDING}"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"what is being taught cannot be kept in {self.folder} ({error.strerror}); the bank is as it was"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BankFull(f"{what}. Free some space, then commit again") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise BankReadOnly(f"{what}. Make the folder writable for this user") from error
            raise BankError(f"{what}. Check the folder and the disk") from error


def sweep(root: Path, bank: HeadBank) -> int:
    """Remove the states, in the folders of tasks below `root`, of bundles that the bank holds no more; returns their bytes.

    They hold features of pictures, and nobody can go on from them. What waits for its first bundle stays, and so do the states
    of a task that is being taught.
    """
    freed = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        states = TaskFolder(folder)
        with contextlib.suppress(BankError, OSError), states.locked(folder.name):
            digests = [named for task, named in bank.generations() if task == folder.name]
            before = sum(path.stat().st_size for path in folder.iterdir())
            states.keep(WAITING, *(name_of(from_bytes(bank.get(named))) for named in digests))
            freed += before - sum(path.stat().st_size for path in folder.iterdir())
    return freed


def _digest(tensors: Arrays, about: str) -> str:
    return hashlib.sha256(f"{weights_digest(tensors)}{about}".encode()).hexdigest()
