"""Both mappers in the published form, for comparison: plain features, no calibration, so nothing is ever unknown.

Source: Ge et al., Lightweight Learner for Shared Knowledge Lifelong Learning, TMLR 2023, and its reference code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.mapping.base import Assignment, Mapper, require
from edgecl.mapping.gmmc import fit, lift, terms
from edgecl.mapping.local import class_means
from edgecl.types import Arrays, Floats, Ints

COMPONENTS, VARIANCE_FLOOR = 25, 1e-6  # the reference's settings
SHARED = 5  # pictures of each class whose features are shared


class _Argmax(Mapper):
    """Scores every row by an inner product in float64; the best row's task is the answer, and always known."""

    _rows: NDArray[np.float64]
    _bias: NDArray[np.float64]
    _owner: Ints

    def row_scores(self, features: Floats) -> NDArray[np.float64]:
        """(n, m) scores of all components or classes."""
        x = features.astype(np.float64)
        out: NDArray[np.float64] = self._query(x) @ self._rows.T + self._bias
        return out

    def _query(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x

    def _assign(self, features: Floats) -> Assignment:
        nothing = np.zeros(len(features), np.float32)
        known = np.ones(len(features), np.bool_)
        return Assignment(self._owner[self.row_scores(features).argmax(1)], nothing, nothing, known)


class GmmcPaper(_Argmax):
    """25 diagonal Gaussians per task on plain features, 1e-6 added to the variances."""

    name = "gmmc-paper"

    @classmethod
    def anchor(cls, features: Floats, labels: Ints, false_reject: float = 0.05, seed: int = 0) -> dict[str, NDArray[Any]]:
        x = features.astype(np.float64)
        counts, means, variances, _ = fit(x, min(COMPONENTS, len(x)), VARIANCE_FLOOR, rounds=100, seed=seed)
        return {
            "counts": counts.astype(np.float32),
            "means": means.astype(np.float32),
            "inverse_deviations": (variances**-0.5).astype(np.float32),
        }

    @classmethod
    def check(cls, arrays: Arrays) -> None:
        require(
            arrays,
            {"counts": "float32 c", "means": "float32 c d", "inverse_deviations": "float32 c d"},
            "a paper GMMC anchor",
            {"counts": (1e-9, 1e9), "means": (-1e12, 1e12), "inverse_deviations": (1e-12, 1e4)},
        )

    @classmethod
    def merge(cls, a: Arrays, b: Arrays, a_counts: Ints, b_counts: Ints, order: Ints) -> dict[str, NDArray[Any]]:
        """All components of both."""
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    def _build(self, anchors: Mapping[str, Arrays]) -> None:
        joined = [
            np.concatenate([a[name] for a in anchors.values()]).astype(np.float64)
            for name in ("counts", "means", "inverse_deviations")
        ]
        counts, means, inverse = joined
        rows, bias = terms(counts / counts.sum(), means, inverse**-2)
        self._rows, self._bias = rows, bias - self.width / 2 * np.log(2 * np.pi)
        self._owner = np.repeat(np.arange(len(anchors)), [len(a["counts"]) for a in anchors.values()])

    def _query(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return lift(x)


class MahalanobisPaper(_Argmax):
    """Class means over all pictures; the pseudo-inverse of the covariance of five residuals a class, centred a second time."""

    name = "mahalanobis-paper"

    @classmethod
    def anchor(cls, features: Floats, labels: Ints, false_reject: float = 0.05, seed: int = 0) -> dict[str, NDArray[Any]]:
        rng, classes = np.random.default_rng(seed), np.unique(labels)
        means = np.stack([features[labels == c].mean(0) for c in classes])
        drawn = [rng.permutation(np.flatnonzero(labels == c))[:SHARED] for c in classes]
        residuals = np.concatenate([features[rows] - means[i] for i, rows in enumerate(drawn)])
        return {"means": means.astype(np.float32), "residuals": residuals.astype(np.float32)}

    @classmethod
    def check(cls, arrays: Arrays) -> None:
        bounds = {"means": (-1e12, 1e12), "residuals": (-1e12, 1e12)}
        require(arrays, {"means": "float32 c d", "residuals": "float32 s d"}, "a paper Mahalanobis anchor", bounds)

    @classmethod
    def merge(cls, a: Arrays, b: Arrays, a_counts: Ints, b_counts: Ints, order: Ints) -> dict[str, NDArray[Any]]:
        """Means by their counts, the residuals of both."""
        share = (a_counts / (a_counts + b_counts))[:, None]
        means = share * class_means(a["means"], a_counts) + (1 - share) * class_means(b["means"], b_counts)[order]
        return {"means": means.astype(np.float32), "residuals": np.concatenate([a["residuals"], b["residuals"]])}

    def _build(self, anchors: Mapping[str, Arrays]) -> None:
        means = np.concatenate([a["means"] for a in anchors.values()]).astype(np.float64)
        residuals = np.concatenate([a["residuals"] for a in anchors.values()]).astype(np.float64)
        centred = residuals - residuals.mean(0)
        # Below this part of the largest variance lies float32's rounding: NumPy's own bound lets such directions in, and they
        # would outweigh all others.
        inverse = np.linalg.pinv(centred.T @ centred / len(centred), rcond=1e-10, hermitian=True)
        self._rows = means @ inverse
        self._bias = -0.5 * np.einsum("md,md->m", self._rows, means)
        self._owner = np.repeat(np.arange(len(anchors)), [len(a["means"]) for a in anchors.values()])
