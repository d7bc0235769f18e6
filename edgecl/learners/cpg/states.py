"""States of a learning between its phases, by name: in memory, or as files that are there whole or not at all.

A file is safetensors; its metadata have the key of the learning that it belongs to (method, seed, settings), facts as JSON, and
a digest over both. Who reads a state that is not there, is damaged, or belongs to another learning gets an error: a phase never
starts from nothing because its predecessor is missing. A phase whose own state is damaged is run again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgecl.errors import StateError
from edgecl.files import write_whole
from edgecl.rom.image import weights_digest
from edgecl.text import printable
from edgecl.types import Arrays


@dataclass(frozen=True)
class Kept:
    """What is kept under one name. facts: plain JSON values."""

    arrays: Arrays
    facts: Mapping[str, Any]


class States:
    """The states of one learning. folder: None keeps them in memory only."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder, self._key = folder, key
        self._memory: dict[str, Kept] = {}

    def __contains__(self, name: str) -> bool:
        """Whether it was kept, whole, by this learning."""
        try:
            self.get(name)
        except StateError:
            return False
        return True

    def put(self, name: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Keep it, in place of what had that name. Raises StateError where it cannot be written."""
        kept = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        if self._folder is None:
            self._memory[name] = Kept({key: value.copy() for key, value in kept.items()}, dict(facts))
            return
        told = json.dumps(dict(facts), sort_keys=True)
        metadata = {"key": self._key, "facts": told, "digest": weights_digest(kept) + "/" + told}
        try:
            write_whole(self._path(name), save(kept, metadata=metadata))
        except OSError as error:
            raise StateError(
                f"the state '{name}' cannot be kept in {printable(self._folder)}: {error.strerror}; make room and start "
                f"again: it goes on from the last state that was kept"
            ) from error

    def get(self, name: str) -> Kept:
        """The state of that name. Raises StateError where there is none, or not what was put there."""
        if self._folder is None:
            if name not in self._memory:
                raise StateError(f"the state '{name}' of this learning is missing, and what comes next starts from it")
            return self._memory[name]
        where = printable(self._path(name))
        try:
            with safe_open(self._path(name), framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safetensors has no iterator)
        except FileNotFoundError:
            raise StateError(f"{where} is missing, and what comes next starts from it; start the learning afresh") from None
        except (OSError, SafetensorError) as error:
            raise StateError(f"{where} cannot be read: {printable(str(error), 120)}; remove it, and start again") from error
        if metadata.get("key") != self._key:
            raise StateError(f"{where} belongs to a learning with other settings, samples or seed; choose another folder")
        told = metadata.get("facts", "")
        if metadata.get("digest") != weights_digest(arrays) + "/" + told:
            raise StateError(f"{where} is damaged: its numbers are not those of its digest; remove it, and start again")
        return Kept(arrays, json.loads(told))

    def drop(self, name: str) -> None:
        """Forget it, if it is there."""
        self._memory.pop(name, None)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(name).unlink()

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.safetensors"
