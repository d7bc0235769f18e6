"""What a memory's keys and scatter say, as an affine map, and how sure one may be of it: the head in closed form.

A key answers for its class by its squared distance under the shrunk scatter, which is affine in the features. Temperature and
noise come from the sample's rows, each left out of key and scatter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.heads.base import lead
from edgecl.heads.parts import discriminant
from edgecl.heads.parts.described import EASY
from edgecl.heads.parts.key_memory import KeyMemory
from edgecl.types import Floats, Ints

KEPT = 3  # wins from which a key counts beside its class's other keys
_SHRINK = 100  # pictures' worth of the scaled identity in the covariance, where there are that many features
_LEAST_SHRINK = 1e-3

Doubles = NDArray[np.float64]


def starts(owner: NDArray[Any]) -> NDArray[Any]:
    """Where the keys of each class begin, (k,); owner: (m,), ascending."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


def read_out(
    memory: KeyMemory, k: int, z: Floats, labels: Ints, made_up: NDArray[np.bool_], most: int, share: float, usual: float
) -> tuple[Doubles, Doubles, Ints, Floats, Floats, Ints]:
    """w (m, d), b (m,), owner (m,), left-out scores (r, k) of rows z (r, d), keys (m, d), wins (m,): keys by their class.

    A key that hardly ever won, or that comes behind its class's `most`, counts to the nearest better one, as if its pictures
    had been learned there; the memory keeps it.
    made_up: (r,) rows that are in no scatter and no key.   usual: lead that all but a `share` of them have; 0: not known.
    """
    owner, wins, keys, scatter = _joined(memory, k, most)
    center = keys.mean(0, dtype=np.float64)
    m, x = keys - center, z - center
    d, free = memory.width, max(int(wins.sum()) - len(wins), 1)
    covariance = scatter / free
    size = max(float(np.trace(covariance)) / d, 1e-3 * float(np.square(m).mean()), 1e-12)
    share = min(0.99, max(_LEAST_SHRINK, min(d, _SHRINK) / free))
    covariance[np.diag_indices(d)] += share / (1 - share) * size
    solved = np.linalg.solve(covariance, np.concatenate([m, x]).T).T
    w = np.ascontiguousarray(solved[: len(m)])
    zw, mm = x @ w.T, np.einsum("md,md->m", w, m)
    dist = np.maximum(np.einsum("rd,rd->r", solved[len(m) :], x)[:, None] - 2 * zw + mm, 0)
    own = np.where(owner == labels[:, None], dist, np.inf).argmin(1)  # the key that a row is most likely in
    i, between = np.arange(len(z)), w @ m.T
    cross = (dist + dist[i, own][:, None] - (mm[:, None] + mm - 2 * between)[own]) / 2
    # A row of the sample is rounded, and so not quite a row of the scatter: no more than nearly all of it may go.
    cross[i, own] = np.minimum(cross[i, own], 0.98 * free * (1 - 1 / np.maximum(wins[own], 2)))
    left = discriminant.leave_out(dist, own, cross, wins.astype(np.float64), free)
    left[made_up] = dist[made_up]  # there is nothing to leave out
    others = np.repeat(1 / wins[None], len(z), 0)
    others[i, own] = np.where(made_up, others[i, own], 1 / np.maximum(wins[own] - 1, 1))
    seen = wins[own] > 1 if (wins[own] > 1).any() else wins[own] > 0
    noise = float(np.mean(left[i, own][seen] / (1 + others[i, own][seen])))  # a mean of c rows lies noise / c too far away
    s = np.maximum.reduceat((noise * others - left) / 2, starts(owner), axis=1)
    temperatures = max(float(s.std()), 1e-9) * np.geomspace(0.02, 4, 40)
    told = seen & ~made_up if usual else seen
    t = min(temperatures, key=lambda t: discriminant.log_loss(s[told] / t, labels[told])) if told.any() else 1.0
    if usual and made_up.any():  # what is made up is easier to tell than pictures are; what they were like the old head knows
        before = max(float(np.quantile(lead(s[made_up]), share)), 1e-9) / usual
        weight = float(made_up.sum()) / float(made_up.sum() + told.sum())
        t = float(before**weight * t ** (1 - weight))
    bias = (noise / wins - mm) / 2 / t - w @ center / t
    held_out = ((s - s.mean(1, keepdims=True)) / t).astype(np.float32)
    held_out[made_up] *= EASY
    return w / t, bias, owner, held_out, keys, wins


def _joined(memory: KeyMemory, k: int, limit: int) -> tuple[Ints, Ints, Floats, Doubles]:
    """owner (m,), wins (m,), keys (m, d) of the keys that count, by their class; and the scatter (d, d) around them."""
    owner, wins, keys = np.array(memory.owner, np.int64), np.array(memory.wins, np.int64), memory.keys.astype(np.float64)
    most = np.zeros(k, np.int64)
    np.maximum.at(most, owner, wins)
    order = np.lexsort((-wins, owner))  # by class, the most wins first
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    counts = (wins >= np.minimum(most[owner], KEPT)) & (place < limit)
    scatter = memory.scatter()
    for key in np.flatnonzero(~counts):
        better = np.flatnonzero(counts & (owner == owner[key]))
        into = better[np.square(keys[better] - keys[key]).sum(1).argmin()]
        total, apart = wins[into] + wins[key], keys[into] - keys[key]
        scatter += wins[into] * wins[key] / total * np.outer(apart, apart)
        keys[into] -= wins[key] / total * apart
        wins[into] = total
    used = np.flatnonzero(counts)
    used = used[np.argsort(owner[used], kind="stable")]
    return owner[used], wins[used], keys[used].astype(np.float32), scatter
