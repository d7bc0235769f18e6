"""Unknown task: how far a picture lies outside the subspace of the task it was given to.

Local to the task: its means, and the directions in which its own pictures vary. So other tasks, coming and going, never
move it, and a limit calibrated once stays right. Neither published mapper has this.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.space import pack, unpack
from edgecl.types import Floats, Ints

RANK = 16  # directions of variation kept per task
FOLDS = 10  # the limit is calibrated on pictures held out in this many turns


def subspace(z: Floats, groups: Ints, rank: int = RANK) -> tuple[Floats, Floats, Floats, float]:
    """Pictures z (n, d) in groups (n,) -> how they lie.

    Returns means (c, d) of the groups that occur, principal directions of the scatter within groups (r, d), the variance
    along each (r,), and the mean variance per dimension of the rest.
    """
    names, g = np.unique(groups, return_inverse=True)
    share = np.eye(len(names), dtype=np.float32)[g]
    means = (share.T @ z) / share.sum(0)[:, None]
    residuals, free = (z - means[g]).astype(np.float64), max(len(z) - len(names), 1)
    total = float(np.einsum("nd,nd->", residuals, residuals))
    small = len(z) <= z.shape[1]
    values, vectors = np.linalg.eigh(residuals @ residuals.T if small else residuals.T @ residuals)
    values, rows = values[::-1][:rank], vectors[:, ::-1][:, :rank].T
    good = values > 1e-6 * max(total, 1e-9)
    values, rows = values[good], rows[good]
    if small:
        rows = (rows @ residuals) / np.sqrt(values)[:, None]
    rest = max(total - float(values.sum()), 0.0) / max(z.shape[1] - len(values), 1) / free
    return means.astype(np.float32), rows.astype(np.float32), (values / free).astype(np.float32), rest


def strangeness(z: Floats, means: Floats, directions: Floats) -> Floats:
    """z (n, d) -> (n,): the smallest squared distance outside mean + span(directions), over the means."""
    zv, mv = z @ directions.T, means @ directions.T
    far = np.einsum("nd,nd->n", z, z)[:, None] - 2 * z @ means.T + np.einsum("cd,cd->c", means, means)
    flat = np.einsum("nr,nr->n", zv, zv)[:, None] - 2 * zv @ mv.T + np.einsum("cr,cr->c", mv, mv)
    out: Floats = np.maximum((far - flat).min(1), 0).astype(np.float32, copy=False)
    return out


def calibrate(z: Floats, groups: Ints, false_reject: float) -> float:
    """The limit above which `false_reject` of the task's own pictures lie, from pictures held out fold by fold.

    Folds are dealt out group by group, without randomness; means and directions are rounded as they are stored.
    """
    fold = np.empty(len(z), np.int64)
    fold[np.argsort(groups, kind="stable")] = np.arange(len(z)) % FOLDS
    scores = np.zeros(len(z))
    for f in range(min(FOLDS, len(z))):
        held = fold == f
        if held.all():
            break
        means, directions, _, _ = subspace(z[~held], groups[~held])
        scores[held] = strangeness(z[held], unpack(*pack(means)), unpack(*pack(directions)))
    return max(_upper_quantile(scores, false_reject), 1e-5)  # never below the noise of float32


def _upper_quantile(scores: NDArray[Any], share: float) -> float:
    """The value that a new score exceeds with probability `share`.

    By rank, as in conformal prediction; with fewer than 1 / share scores no rank reaches that far, and the predictive
    quantile of a log-normal through them (Student's t, expanded in 1 / degrees of freedom) takes its place.
    """
    n = len(scores)
    rank = int(np.ceil((1 - share) * (n + 1)))
    if rank <= n:
        return float(np.sort(scores)[rank - 1])
    log = np.log(np.maximum(scores, 1e-6))
    spread = max(float(log.std(ddof=1)) if n > 1 else 0.0, 0.05)
    q, free = NormalDist().inv_cdf(1 - share), max(n - 1, 1)
    t = q + (q**3 + q) / (4 * free) + (5 * q**5 + 16 * q**3 + 3 * q) / (96 * free**2)
    return float(np.exp(log.mean() + t * spread * np.sqrt(1 + 1 / n)))
