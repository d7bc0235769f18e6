"""The device's memory head on a stream: keys written on a surprise, one scatter, no replay (`edgecl.heads.memory_head`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.heads import memory_head as head
from edgecl.heads.base import Head
from edgecl.learners.parts import spaces
from edgecl.learners.parts.settings import whole
from edgecl.learners.parts.task_aware import TaskAware, last
from edgecl.types import Floats, Ints


@dataclass(frozen=True)
class Config:
    keys_per_class: int = 8  # at most
    sample: int = 512  # rows kept for temperature and noise; the keys are not learned from them
    space: str = "auto"  # what inputs are compared in

    def __post_init__(self) -> None:
        whole("keys_per_class", self.keys_per_class, 1)
        whole("sample", self.sample, 1)
        spaces.check("space", self.space)


class MemoryLearner(TaskAware):
    """`Memory` with numbers for names; classes that have not come yet score below all others."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Config) -> None:
        super().__init__(shape, k, seed, config)
        own = head.Config(seed=seed, keys_per_class=config.keys_per_class, sample=config.sample)
        self._memory = head.Memory(math.prod(shape), own, space=_as_it_is)
        self._space = spaces.choose(config.space, shape)
        self._read_out: Head | None = None

    def _observe(self, x: Any, y: Ints) -> None:
        self._read_out = None
        for row, label in zip(spaces.encode(x, self._space), y.tolist(), strict=True):
            self._memory.observe(row, str(label))

    def _scores(self, x: Any) -> Floats:
        known = np.array([int(name) for name in self._memory.classes], np.int64)
        out = np.zeros((len(x), self.k), np.float32)
        if len(known) > 1:
            self._read_out = self._read_out or self._memory.learned("").head
            out[:, known] = head.by_class(self._read_out, spaces.encode(x, self._space))
        return last(out, ~np.isin(np.arange(self.k), known))

    def _held(self) -> int:
        return self._memory.nbytes()


def _as_it_is(z: Floats) -> Floats:
    return z
