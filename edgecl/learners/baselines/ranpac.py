"""RanPAC: ridge regression on a random non-linear projection of the features, from a streaming Gram matrix.

McDonnell et al., RanPAC: random projections and pre-trained models for continual learning, NeurIPS 2023. There each task
gives a fifth of its pictures to choose the ridge by, and has them back afterwards. A stream need not say where a task ends:
here every fifth sample of the stream may be held out, in a reservoir of bounded size; the ridge is the one with the least
squared error on it, and the map is then solved with the held-out samples counted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgecl.learners.baselines.vectors import Map, Rows, VectorLearner
from edgecl.learners.parts import spaces
from edgecl.learners.parts.replay import Reservoir
from edgecl.learners.parts.settings import real, whole
from edgecl.types import Floats, Ints

_WAITING = 64  # samples between two updates of the Gram matrix
_EVERY = 5  # one of so many may be held out
_RIDGES = 10.0 ** np.arange(-4, 1)  # as a share of the projections' mean square


@dataclass(frozen=True)
class Config:
    space: str = "auto"  # or plain, unit_sqrt
    projections: int = 2000
    held_out: int = 256  # samples to choose the ridge by, at most
    ridge: float = 0.0  # as a share of the projections' mean square; 0: chosen on what is held out

    def __post_init__(self) -> None:
        spaces.check("space", self.space)
        whole("projections", self.projections, 1)
        whole("held_out", self.held_out, 1)
        real("ridge", self.ridge, 0)


class Ranpac(VectorLearner):
    """Answers the class with the largest regressed indicator."""

    config: Config

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        m = config.projections
        self._projection = np.random.default_rng([seed, 0]).standard_normal((self.d, m), np.float32)
        self._gram = np.zeros((m, m), np.float32)
        self._sums = np.zeros((m, k), np.float32)
        self._rows, self._labels = Rows(_WAITING, self.d), np.zeros(_WAITING, np.int64)
        self._held_out = Reservoir(config.held_out, np.random.default_rng([seed, 1]))

    def _lift(self, z: Floats) -> Floats:
        h: Floats = z @ self._projection
        return np.maximum(h, 0, out=h)

    def _add(self, z: Floats, y: Ints) -> None:
        for row, c in zip(z, y, strict=True):
            self._counts[c] += 1
            if self._counts.sum() % _EVERY:
                self._count(row, c)
            elif (evicted := self._held_out.add(row, int(c))) is not None:
                self._count(*evicted)

    def _count(self, row: Floats, c: int) -> None:
        self._labels[self._rows.n] = c
        if self._rows.append(row):
            self._gram, self._sums = self._with(self._gram, self._sums, self._rows.waiting, self._labels)
            self._rows.clear()

    def _with(self, gram: Floats, sums: Floats, rows: Floats, labels: Ints) -> tuple[Floats, Floats]:
        """The statistics with these samples counted in."""
        h = self._lift(rows)
        return gram + h.T @ h, sums + h.T @ np.eye(self.k, dtype=np.float32)[labels]

    def _solve(self) -> Map:
        gram, sums = self._with(self._gram, self._sums, self._rows.waiting, self._labels[: self._rows.n])
        ridge, (x, y) = self.config.ridge, self._held_out.all(self.shape)
        if not ridge:
            ridge = self._choose(gram, sums, x, y)
        if len(y):
            gram, sums = self._with(gram, sums, x, y)
        return _regress(gram, sums, ridge), np.zeros(self.k, np.float32)

    def _choose(self, gram: Floats, sums: Floats, x: Floats, y: Ints) -> float:
        """The ridge with the least squared error on what is held out; the middle one while nothing is.

        Downhill from the middle one, because each costs as much as the final map: the error falls, and then rises.
        """
        at = len(_RIDGES) // 2
        if not len(y) or not gram.any():
            return float(_RIDGES[at])
        h, wanted = self._lift(x), np.eye(self.k, dtype=np.float32)[y]

        @cache
        def error(i: int) -> float:
            if not 0 <= i < len(_RIDGES):
                return np.inf
            return float(np.square(h @ _regress(gram, sums, _RIDGES[i]) - wanted).sum())

        while error(best := min((at, at + 1, at - 1), key=error)) < error(at):
            at = best
        return float(_RIDGES[at])

    def _held(self) -> int:
        """Without the map, which follows from the statistics."""
        statistics = self._gram.nbytes + self._sums.nbytes + self._counts.nbytes
        return statistics + self._projection.nbytes + self._rows.nbytes + self._labels.nbytes + self._held_out.nbytes


def _regress(gram: Floats, sums: Floats, ridge: float) -> Floats:
    """(m, k): the least squares map from the Gram matrix (m, m) and the class sums (m, k)."""
    m = len(gram)
    damped = gram.copy()
    damped.flat[:: m + 1] += np.float32(ridge * max(float(gram.trace()) / m, 1e-12))
    out: Floats = np.linalg.solve(damped, sums)
    return out
