"""Streaming linear discriminant analysis: running class means and one covariance that all classes share.

The covariance is that of the residuals within the classes, kept exactly (Welford's update, class by class), so that the order
of the samples does not matter. Hayes and Kanan, Lifelong machine learning with deep streaming linear discriminant analysis,
CVPR workshops 2020. We depart in two points: their update weighs a residual by all samples seen, so that a class's first
sample counts its distance from zero; and their shrinkage is towards the unit matrix, ours towards the mean variance, so that
the features' scale does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.learners.baselines.vectors import Map, Rows, VectorLearner
from edgecl.learners.parts import spaces
from edgecl.learners.parts.settings import real
from edgecl.types import Floats, Ints

_WAITING = 64  # residuals between two updates of the covariance


@dataclass(frozen=True)
class Config:
    space: str = "auto"  # or plain, unit_sqrt
    shrinkage: float = 3e-2  # share of the mean variance in the covariance

    def __post_init__(self) -> None:
        spaces.check("space", self.space)
        real("shrinkage", self.shrinkage, 0, 1, above=True)


class Slda(VectorLearner):
    """Answers the class of the largest discriminant, all classes taken to be equally likely. Nothing is random."""

    config: Config

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._means = np.zeros((k, self.d), np.float32)
        self._scatter = np.zeros((self.d, self.d), np.float32)
        self._residuals = Rows(_WAITING, self.d)

    def _add(self, z: Floats, y: Ints) -> None:
        for row, c in zip(z, y, strict=True):
            before = int(self._counts[c])
            self._counts[c] = before + 1
            residual = row - self._means[c]
            self._means[c] += residual / (before + 1)
            if before and self._residuals.append(residual * np.float32((before / (before + 1)) ** 0.5)):
                self._scatter += self._residuals.waiting.T @ self._residuals.waiting
                self._residuals.clear()

    def _solve(self) -> Map:
        rest = self._residuals.waiting
        covariance = (self._scatter + rest.T @ rest).astype(np.float64) / self._counts.sum()
        share = self.config.shrinkage
        variance = max(float(covariance.trace()) / self.d, 1e-12)
        covariance *= 1 - share
        covariance.flat[:: self.d + 1] += share * variance
        w = np.linalg.solve(covariance, self._means.T.astype(np.float64))
        return w.astype(np.float32), (-0.5 * np.einsum("dk,kd->k", w, self._means)).astype(np.float32)

    def _held(self) -> int:
        """Without the map, which follows from the statistics."""
        return self._means.nbytes + self._counts.nbytes + self._scatter.nbytes + self._residuals.nbytes
