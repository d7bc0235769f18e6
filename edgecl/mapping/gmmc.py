"""GMMC mapper: a few diagonal Gaussians per task, fitted alone, consolidated by joining them (Ge et al., TMLR 2023).

The log density of a component, weighted by its pictures, is an inner product of [z*z, z] with a stored row; the task of the
best single component is the answer. Departures that make it work on a few hundred pictures: square-rooted unit-length
features, eight components instead of 25, and variances drawn a third of the way to the task's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.mapping.base import require
from edgecl.mapping.index import Index
from edgecl.mapping.local import BOUNDS, LAYOUT, LocalMapper, all_means, joined, local_anchor
from edgecl.space import pack, unit_sqrt, unpack
from edgecl.types import Arrays, Floats, Ints

COMPONENTS = 8
PULL = 1 / 3  # how far a component's variances are drawn to the task's
_FLOOR = 1e-7


class Gmmc(LocalMapper):
    """Gaussian mixtures; needs no labels."""

    name = "gmmc"

    @classmethod
    def anchor(cls, features: Floats, labels: Ints, false_reject: float = 0.05, seed: int = 0) -> dict[str, NDArray[Any]]:
        z = unit_sqrt(features)
        own = z.var(0)
        floor = PULL * (own + 0.1 * own.mean() + _FLOOR)
        counts, _, variances, part = fit(z, min(COMPONENTS, max(1, len(z) // 4)), floor, 1 - PULL, seed=seed)
        # The parts serve as groups for strangeness; a part that no picture is surest of has no mean there, and goes.
        used = np.unique(part)
        arrays, _, _ = local_anchor(z, part, false_reject)
        logs, logs_step = pack(np.log(variances[used]))
        return arrays | {
            "counts": counts[used].astype(np.float32),
            "log_variances": logs,
            "log_variances_step": logs_step,
        }

    @classmethod
    def check(cls, arrays: Arrays) -> None:
        more = {"counts": "float32 c", "log_variances": "int8 c d", "log_variances_step": "float32 c"}
        bounds = {"counts": (1e-9, 1e9), "log_variances_step": (1e-20, 0.5)}
        require(arrays, LAYOUT | more, "a GMMC anchor", BOUNDS | bounds)

    @classmethod
    def draw(cls, arrays: Arrays, n: int, seed: int = 0) -> tuple[Floats, Ints]:
        """Plain features (n, d) of pictures as an anchor describes them, and the component of each, in turn."""
        means, logs = (unpack(arrays[k], arrays[f"{k}_step"]) for k in ("means", "log_variances"))
        groups = np.arange(n) % len(means)
        z = means[groups] + np.random.default_rng(seed).standard_normal((n, means.shape[1])) * np.exp(logs[groups] / 2)
        return (np.sign(z) * z * z).astype(np.float32), groups

    @classmethod
    def merge(cls, a: Arrays, b: Arrays, a_counts: Ints, b_counts: Ints, order: Ints) -> dict[str, NDArray[Any]]:
        """All components of both: mixtures add up."""
        both = [name for name in a if name not in ("directions", "directions_step", "limit")]
        return {name: np.concatenate([a[name], b[name]]) for name in both} | joined(a, b)[1]

    def _make_index(self, anchors: list[Arrays]) -> tuple[Index, Ints]:
        means, owner = all_means(anchors)
        variances = np.exp(np.concatenate([unpack(a["log_variances"], a["log_variances_step"]) for a in anchors]))
        rows, bias = terms(np.concatenate([a["counts"] for a in anchors]), means, variances)
        metric = np.sqrt((1 / variances).mean(0))
        # Its first stage sees less than Mahalanobis' does: each component has variances of its own. Hence more candidates.
        return Index(rows, bias, means, lambda points: points * metric, candidates=512), owner

    def _query(self, z: Floats) -> Floats:
        return lift(z)


def lift(z: NDArray[Any]) -> NDArray[Any]:
    """z (n, d) -> (n, 2 d): what `terms` are the factors of."""
    return np.concatenate([z * z, z], 1)


def terms(counts: NDArray[Any], means: NDArray[Any], variances: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Components -> rows (k, 2 d) and bias (k,): rows . lift(z) + bias is log(count * density(z)) plus d/2 log 2 pi."""
    inverse = 1 / variances
    rows = np.concatenate([-0.5 * inverse, means * inverse], 1)
    return rows, np.log(counts) - 0.5 * (np.log(variances) + means * means * inverse).sum(1)


def fit(
    z: NDArray[Any],
    k: int,
    floor: NDArray[Any] | float,
    keep: float = 1.0,
    rounds: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Ints]:
    """Expectation maximisation of k diagonal Gaussians over z (n, d), from k-means.

    The variances of each round are keep * measured + floor. Stops when the mean log likelihood gains less than `tolerance`.
    Returns counts (k,), means (k, d), variances (k, d), and the component that each picture belongs to most, (n,).
    """
    n, rng, squares = len(z), np.random.default_rng(seed), z * z
    norms = squares.sum(1)
    means = z[((z - z.mean(0)) ** 2).sum(1).argmin()][None]
    near = ((z - means[0]) ** 2).sum(1)
    while len(means) < k and near.sum() > 1e-9:  # far points are likelier to begin a cluster (k-means++)
        means = np.concatenate([means, z[rng.choice(n, p=near / near.sum())][None]])
        near = np.minimum(near, ((z - means[-1]) ** 2).sum(1))
    k = len(means)
    part = np.zeros(n, np.int64)
    for _ in range(10):
        part = (norms[:, None] - 2 * z @ means.T + (means * means).sum(1)).argmin(1)
        means = np.stack([z[part == j].mean(0) if (part == j).any() else means[j] for j in range(k)])
    share, last = np.eye(k, dtype=z.dtype)[part], -np.inf
    counts, variances = share.sum(0), np.ones_like(means)
    for _ in range(rounds):
        counts = share.sum(0) + 1e-6
        means = share.T @ z / counts[:, None]
        variances = keep * np.maximum(share.T @ squares / counts[:, None] - means * means, 0) + floor
        rows, bias = terms(counts, means, variances)
        log = np.concatenate([squares, z], 1) @ rows.T + bias
        top = log.max(1, keepdims=True)
        share = np.exp(log - top)
        now = float((top[:, 0] + np.log(share.sum(1))).mean())
        share /= share.sum(1, keepdims=True)
        if now - last < tolerance:
            break
        last = now
    return counts, means, variances, share.argmax(1)
