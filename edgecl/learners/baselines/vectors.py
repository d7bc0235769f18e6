"""What the closed-form baselines do alike: one pass over feature vectors, statistics per class, a map solved when asked."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError
from edgecl.learners.parts import spaces
from edgecl.learners.parts.task_aware import TaskAware, last
from edgecl.types import Floats, Ints

Map = tuple[NDArray[Any], NDArray[Any]]  # (d, k), (k,): scores are z @ w + b


class VectorLearner(TaskAware):
    """A leaf implements `_add`, `_solve` and `_held`. The map is solved when it is asked for, once a change."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        if len(shape) != 1:
            raise ConfigError(
                f"{type(self).__name__} learns from feature vectors, these inputs are of shape {shape}; give a ROM that makes "
                f"features of the pictures (--rom default)"
            )
        self.d = shape[0]
        self._space = spaces.choose(config.space, shape)
        self._counts = np.zeros(k, np.int64)
        self._map: Map | None = None

    def _observe(self, x: Any, y: Ints) -> None:
        self._map = None
        self._add(spaces.encode(x, self._space), y)

    def _scores(self, x: Any) -> Floats:
        if not self._counts.any():
            return np.zeros((len(x), self.k), np.float32)
        if self._map is None:
            self._map = self._solve()
        w, b = self._map
        scores = (self._lift(spaces.encode(x, self._space)) @ w + b).astype(np.float32)
        return last(scores, self._counts == 0)

    def _lift(self, z: Floats) -> Floats:
        """What the map is applied to."""
        return z

    @abstractmethod
    def _add(self, z: Floats, y: Ints) -> None:
        """Count the rows z (n, d) in, `_counts` included."""

    @abstractmethod
    def _solve(self) -> Map:
        """The map from what has been counted; changes nothing."""


class Rows:
    """Rows that wait to be added to a sum of outer products: many rank-one updates at the price of one GEMM."""

    def __init__(self, capacity: int, d: int) -> None:
        self._rows = np.empty((capacity, d), np.float32)
        self.n = 0

    def append(self, row: Floats) -> bool:
        """True when full: take `waiting`, then `clear`."""
        self._rows[self.n] = row
        self.n += 1
        return self.n == len(self._rows)

    @property
    def waiting(self) -> Floats:
        """(n, d)."""
        return self._rows[: self.n]

    def clear(self) -> None:
        self.n = 0

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes
