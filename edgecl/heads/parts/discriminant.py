"""Shrinkage discriminant analysis in closed form, with every training picture scored exactly as if it had been left out.

With class means m_j, within-class residuals R (n rows) and a ridge g, A = R'R/n + g I, and class j scores
-(z - m_j)'A^-1(z - m_j)/2 less what is common to all classes: affine in z. Leaving a picture out is a rank-one downdate of
A and of its class mean, so it needs no refit. The left-out scores pick g and set the temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats, Ints

# g as a share of the features' total variance: 0.001 had the best leave-one-out accuracy over the benchmark's tasks.
_RIDGE = 1e-3
_RIDGES = _RIDGE * np.geomspace(0.1, 100, 13)
_TRUST = 2.0  # how firmly it is expected: weight of log(g / _RIDGE)^2 against the sum of the log losses

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Discriminant:
    """The fitted map: z (n, d) -> z @ w.T + b, calibrated logits.

    w: (k, d).   b: (k,).   held_out: (n, k) scores of the training rows, each left out.   ridge: as a share of the variance.
    log_loss: of the held-out scores, over the rows whose class has others.
    """

    w: Doubles
    b: Doubles
    held_out: Doubles
    ridge: float
    temperature: float
    log_loss: float


def log_loss(s: Doubles, y: Ints) -> float:
    """Mean negative log probability of the right class under softmax(s); s (n, k), y (n,)."""
    s = s - s.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(s).sum(1)) - s[np.arange(len(y)), y]))


def leave_out(dist: Doubles, y: Ints, cross: Doubles, count: Doubles, n: int | None = None) -> Doubles:
    """(n, k) squared distances v'A^-1 v to the class means -> the same had picture i been in neither means nor A.

    v = z_i - m_j, cross[i, j] = v'A^-1 r_i with r_i = z_i - m_y(i); count: (k,) pictures per class.
    n: pictures in A, where they are more than those that are left out.
    """
    i, c, n = np.arange(len(y)), count[y], n or len(y)
    a = c / np.maximum(c - 1, 1)  # without i, n A loses a r r', and its class mean moves so that v = a r
    room = np.maximum(1 - a * cross[i, y] / n, 1e-9)
    out: Doubles = dist + (a / room / n)[:, None] * cross**2
    out[i, y] = a * a * dist[i, y] / room
    alone = c == 1  # nothing is left of its class: a miss
    out[i[alone], y[alone]] = 2 * out[alone].max(1) + 1e-9
    return out


def fit(features: Floats | Doubles, y: Ints, k: int, ridge: float | None = None) -> Discriminant:
    """Fit rows of features (n, d) with labels (n,) in 0..k-1. Nothing is random.

    ridge: as a share of the variance, where it is known; None picks it by the left-out log loss.
    """
    z = np.array(features, np.float64)
    center = z.mean(0)
    z -= center
    n, i, count = len(y), np.arange(len(y)), np.bincount(y, minlength=k).astype(np.float64)
    means = np.eye(k)[y].T @ z / count[:, None]
    r, size = z - means[y], (z * z).sum(1)
    total = max(float(size.mean()), 1e-12)
    if n <= z.shape[1]:  # A's axes (rows) and the variances along them, from the smaller of the two Gram matrices
        var, u = np.linalg.eigh(r @ r.T / n)
        some = var > 1e-9 * total
        var, axes = var[some], (u[:, some] / np.sqrt(var[some] * n)).T @ r
    else:
        var, columns = np.linalg.eigh(r.T @ r / n)
        axes = columns.T
    zp, mp, zm, mm = z @ axes.T, means @ axes.T, z @ means.T, means @ means.T
    others = 1 / np.maximum(count - np.eye(k)[y], 1)  # one over a class's pictures, i left out
    seen = count[y] > 1 if count.max() > 1 else count[y] > 0
    best: tuple[Any, ...] = (np.inf,)
    for g in (_RIDGES if ridge is None else np.array([ridge])) * total:
        shrink = 1 / (var + g) - 1 / g  # A^-1 = I / g + axes' diag(shrink) axes
        gz, gm = zm / g + (zp * shrink) @ mp.T, mm / g + (mp * shrink) @ mp.T
        dist = np.maximum((size / g + zp**2 @ shrink)[:, None] - 2 * gz + np.diag(gm), 0)
        cross = (dist + dist[i, y][:, None] - (np.diag(gm)[:, None] + np.diag(gm) - 2 * gm)[y]) / 2
        dist = leave_out(dist, y, cross, count)
        noise = np.mean(dist[i, y][seen] / (1 + others[i, y][seen]))
        s = (noise * others - dist) / 2  # a mean of c pictures lies noise / c too far from everything
        for t in max(s.std(), 1e-9) * np.geomspace(0.02, 4, 40):
            loss = log_loss(s[seen] / t, y[seen]) + _TRUST * np.log(g / total / _RIDGE) ** 2 / n
            if loss < best[0]:
                best = loss, g, t, s, (means / g + (mp * shrink) @ axes) / t, (noise / count - np.diag(gm)) / 2 / t
    loss, g, t, s, w, b = best
    held_out = (s - s.mean(1, keepdims=True)) / t
    return Discriminant(w, b - w @ center, held_out, float(g / total), float(t), log_loss(held_out[seen], y[seen]))
