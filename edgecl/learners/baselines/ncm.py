"""Nearest class mean: one running mean per class (Mensink et al., Distance-based image classification, TPAMI 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.learners.baselines.vectors import Map, VectorLearner
from edgecl.learners.parts import spaces
from edgecl.types import Floats, Ints


@dataclass(frozen=True)
class Config:
    space: str = "auto"  # or plain, unit_sqrt

    def __post_init__(self) -> None:
        spaces.check("space", self.space)


class Ncm(VectorLearner):
    """Answers the class whose mean is nearest in the Euclidean distance. Nothing is random; the order does not matter."""

    config: Config

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._means = np.zeros((k, self.d), np.float32)

    def _add(self, z: Floats, y: Ints) -> None:
        for row, c in zip(z, y, strict=True):
            self._counts[c] += 1
            self._means[c] += (row - self._means[c]) / self._counts[c]

    def _solve(self) -> Map:
        return self._means.T.copy(), -0.5 * np.einsum("kd,kd->k", self._means, self._means)

    def _held(self) -> int:
        return self._means.nbytes + self._counts.nbytes
