"""The device's memory head on a stream: keys written on a surprise, one scatter, no replay (`edgecl.heads.memory_head`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.errors import ConfigError
from edgecl.heads.base import Head
from edgecl.heads.memory_head import Config as HeadConfig
from edgecl.heads.memory_head import Memory, by_class
from edgecl.learners.base import Learner
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints

_WIDE = 16  # features; with fewer their size means something, and square roots would bend it


@dataclass(frozen=True)
class Config:
    keys_per_class: int = 8  # at most
    sample: int = 512  # rows kept for temperature and noise; the keys are not learned from them
    space: str = "auto"  # unit_sqrt, identity, or auto: unit_sqrt for more than 16 features

    def __post_init__(self) -> None:
        if self.space not in ("auto", "unit_sqrt", "identity"):
            raise ConfigError(f"memory has no space '{self.space}'; known are auto, unit_sqrt and identity")
        HeadConfig(keys_per_class=self.keys_per_class, sample=self.sample)


class MemoryLearner(Learner):
    """`Memory` with numbers for names; classes that have not come yet score below all others."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Config) -> None:
        super().__init__(shape, k, seed, config)
        width = int(np.prod(shape))
        wide = config.space == "unit_sqrt" or (config.space == "auto" and width > _WIDE)
        own = HeadConfig(seed=seed, keys_per_class=config.keys_per_class, sample=config.sample)
        self._memory = Memory(width, own, unit_sqrt if wide else _identity)
        self._head: Head | None = None

    def observe(self, x: Any, y: Ints) -> None:
        self._head = None
        for row, label in zip(np.asarray(x, np.float32).reshape(len(y), -1), y, strict=True):
            self._memory.observe(row, str(label))

    def predict(self, x: Any, task: int | None = None) -> Floats:
        known = np.array([int(name) for name in self._memory.classes], np.int64)
        out = np.zeros((len(x), self.k), np.float32)
        if len(known) < 2:
            out[:, known] = 1
            return out
        self._head = self._head or self._memory.learned("").head
        found = by_class(self._head, self._memory.space(np.asarray(x, np.float32).reshape(len(x), -1)))
        out[:] = found.min(1, keepdims=True, initial=0) - 1
        out[:, known] = found
        return out

    def nbytes(self) -> int:
        return self._memory.nbytes()


def _identity(x: Floats) -> Floats:
    return x
