"""The state of a learning in progress, on disk whole or not at all, so that it outlives a power cut.

One safetensors file. Its metadata say what is being learned (`key`, a digest over pictures, labels, ROM and settings) and
a digest over the numbers; a file of another key, or a damaged one, is as good as none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgecl import registry
from edgecl.errors import BankError
from edgecl.files import half_written, write_whole
from edgecl.rom.image import weights_digest
from edgecl.types import Arrays

STEPS = 8


class Checkpoint:
    """A file that holds the newest state of each stage of one learning."""

    def __init__(self, path: Path, key: str, resume: bool) -> None:
        """resume: take up what the file holds for this key; else what is there is overwritten."""
        self.path, self.key = path, key
        self._stages: dict[str, dict[str, Any]] = {}
        self.found = False
        if resume:
            self._stages = self._load()
            self.found = bool(self._stages)

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            with safe_open(self.path, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safetensors has no iterator)
        except (OSError, SafetensorError):
            return {}
        if metadata.get("digest") != weights_digest(tensors):
            return {}
        stages: dict[str, dict[str, Any]] = {}
        for name, value in tensors.items():
            stage, _, leaf = name.partition("|")
            stages.setdefault(stage, {})[leaf] = value
        return stages

    def read(self, stage: str) -> Arrays | None:
        """The newest state of that stage, or None."""
        return self._stages.get(stage)

    def write(self, stage: str, arrays: Mapping[str, Any]) -> None:
        """Keep the stage's state on disk, whole or as it was before. Raises BankError."""
        self._stages[stage] = {name: np.array(value, order="C") for name, value in arrays.items()}  # copies: learning goes on
        tensors = {f"{s}|{name}": value for s, inner in self._stages.items() for name, value in inner.items()}
        try:
            write_whole(self.path, save(tensors, metadata={"key": self.key, "digest": weights_digest(tensors)}))
        except OSError as error:
            raise BankError(
                f"the learning's state cannot be kept in {self.path.parent}: {error.strerror}; make room, then go on with "
                f"--resume"
            ) from error


def of_step(path: Path, number: int) -> Path:
    """Where the state of one of at most STEPS learnings of a head that grows lies, beside `path`."""
    return path.with_name(f"{path.name}.step{number}")


def forget(path: Path) -> None:
    """Remove what a learning has kept at `path`: its state, those of `auto`'s candidates and of steps beside it, and
    half-written ones.
    """
    steps = [of_step(path, number).name.removeprefix(path.name) for number in range(STEPS)]
    for own in ("", *(f".{method}" for method in registry.HEADS), *steps):
        state = path.with_name(path.name + own)
        for left in (state, *half_written(state)):
            with contextlib.suppress(OSError):
                left.unlink()
