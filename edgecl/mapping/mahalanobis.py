"""Mahalanobis mapper: one mean per class, one covariance pooled over the tasks present.

The score of a class is -(z - m)'P(z - m)/2; what all classes have in common drops out, and what is left is linear in z:
(P m)'z - m'P m/2, one inner product a class (algorithms: Ge et al., TMLR 2023; the form without P per query is ours).
Departures that make it work on a few hundred pictures: square-rooted unit-length features, the covariance kept per task as
its leading directions and the mean variance of the rest, and shrunk towards a multiple of the identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError
from edgecl.mapping.base import require
from edgecl.mapping.index import Index
from edgecl.mapping.local import BOUNDS, LAYOUT, LocalMapper, all_means, class_means, joined, local_anchor
from edgecl.space import pack, unit_sqrt, unpack
from edgecl.types import Arrays, Floats, Ints

SHRINK = 0.2  # share of the scaled identity in the covariance
_SCATTER = 4.0  # variance over all dimensions; pictures have length one, so in a class it is 2 at most
POOLED = 512  # tasks whose scatter is pooled; more change nothing that could be measured, and cost time


class Mahalanobis(LocalMapper):
    """The default mapper."""

    name = "mahalanobis"

    @classmethod
    def anchor(cls, features: Floats, labels: Ints, false_reject: float = 0.05, seed: int = 0) -> dict[str, NDArray[Any]]:
        arrays, variances, rest = local_anchor(unit_sqrt(features), labels, false_reject)
        return arrays | {"variances": variances, "rest": np.array([rest], np.float32)}

    @classmethod
    def check(cls, arrays: Arrays) -> None:
        more, bounds = {"variances": "float32 r", "rest": "float32 1"}, {"variances": (0.0, 100.0), "rest": (0.0, 100.0)}
        require(arrays, LAYOUT | more, "a Mahalanobis anchor", BOUNDS | bounds)
        # It is pooled: scatter that no pictures have would drown that of all other tasks.
        directions = unpack(arrays["directions"], arrays["directions_step"])
        scatter = float(np.einsum("rd,rd,r->", directions, directions, arrays["variances"]))
        scatter += directions.shape[1] * float(arrays["rest"][0])
        if scatter > _SCATTER:
            raise BundleError(f"a Mahalanobis anchor's scatter must lie in 0 to {_SCATTER:g}, it is {scatter:g}")

    @classmethod
    def merge(cls, a: Arrays, b: Arrays, a_counts: Ints, b_counts: Ints, order: Ints) -> dict[str, NDArray[Any]]:
        """Means weighted by counts; scatters within classes summed, with what the means lie apart."""
        mine, theirs = (unpack(x["means"], x["means_step"]) for x in (a, b))
        mine, theirs = class_means(mine, a_counts), class_means(theirs, b_counts)[order]
        share = (a_counts / (a_counts + b_counts))[:, None]
        means, step = pack((share * mine + (1 - share) * theirs).astype(np.float32))
        directions, arrays = joined(a, b)
        d, k = mine.shape[1], len(mine)
        apart = (mine - theirs) * np.sqrt(a_counts * b_counts / (a_counts + b_counts))[:, None]
        along, total = np.square(apart @ directions.T).sum(0), float(np.einsum("kd,kd->", apart, apart))
        for x, counts in ((a, a_counts), (b, b_counts)):
            free, own = max(int(counts.sum()) - k, 1), unpack(x["directions"], x["directions_step"])
            above = np.maximum(x["variances"] - x["rest"][0], 0)
            along += free * (np.square(directions @ own.T) @ above + x["rest"][0])
            total += free * float(above.sum() + d * x["rest"][0])
        free = max(int(a_counts.sum() + b_counts.sum()) - k, 1)
        rest = max(total - float(along.sum()), 0.0) / max(d - len(directions), 1) / free
        new = {"means": means, "means_step": step, "variances": (along / free).astype(np.float32)}
        return arrays | new | {"rest": np.array([rest], np.float32)}

    @classmethod
    def draw(cls, arrays: Arrays, n: int, seed: int = 0) -> tuple[Floats, Ints]:
        """Plain features (n, d) of pictures as an anchor describes them, and the class (row of its means) of each, in turn."""
        rng, rest = np.random.default_rng(seed), float(arrays["rest"][0])
        means, directions = (unpack(arrays[k], arrays[f"{k}_step"]) for k in ("means", "directions"))
        groups = np.arange(n) % len(means)
        more = np.sqrt(np.maximum(arrays["variances"] - rest, 0))
        around = rng.standard_normal((n, means.shape[1]), np.float32) * np.float32(rest**0.5)
        around += (rng.standard_normal((n, len(directions)), np.float32) * more) @ directions
        z = means[groups] + around
        return (np.sign(z) * z * z).astype(np.float32), groups

    def _make_index(self, anchors: list[Arrays]) -> tuple[Index, Ints]:
        means, owner = all_means(anchors)
        roots, rest = self._covariance(anchors)
        rows = solver(roots, rest)(means)
        bias = -0.5 * np.einsum("md,md->m", rows, means)
        return Index(rows, bias, means, lambda points: _whiten(roots, rest, points)), owner

    def _covariance(self, anchors: list[Arrays]) -> tuple[Floats, float]:
        """The pooled covariance as U'U + a I: U (r, d) and a. Summed in the order of a digest of the names, not of arrival."""
        order = sorted(range(len(anchors)), key=lambda i: hashlib.sha256(self.tasks[i].encode()).digest())[:POOLED]
        some = [anchors[i] for i in order]
        rest = float(np.mean([a["rest"][0] for a in some]))
        roots = np.concatenate(
            [
                unpack(a["directions"], a["directions_step"]) * np.sqrt(np.maximum(a["variances"] - a["rest"][0], 0))[:, None]
                for a in some
            ]
        ) / np.sqrt(len(some))
        size = max(float(np.einsum("rd,rd->", roots, roots)) / self.width + rest, 1e-9)  # mean variance of one dimension
        return np.sqrt(1 - SHRINK) * roots.astype(np.float32), (1 - SHRINK) * rest + SHRINK * size + 1e-9


def solver(roots: Floats, a: float) -> Callable[[Floats], Floats]:
    """x (m, d) -> x (U'U + a I)^-1, through the smaller of the two systems that solve it."""
    r, d = roots.shape
    if r < d:  # Woodbury
        inner = (np.linalg.inv(np.eye(r) + (roots @ roots.T) / a) / a).astype(np.float32)
        return lambda x: np.ascontiguousarray((x - (x @ roots.T) @ inner @ roots) / a, np.float32)
    inverse = np.linalg.inv(roots.T @ roots + a * np.eye(d)).astype(np.float32)
    return lambda x: np.ascontiguousarray(x @ inverse, np.float32)


def _whiten(roots: Floats, a: float, points: Floats) -> Floats:
    """points (m, d) -> (m, d) between which Euclidean distance is Mahalanobis distance."""
    inverse = solver(roots, a)(np.eye(roots.shape[1], dtype=np.float32)).astype(np.float64)
    return points @ np.linalg.cholesky((inverse + inverse.T) / 2).astype(np.float32)
