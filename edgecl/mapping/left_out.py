"""The default mapper, asked about pictures that its anchors were made from, each as if it had been left out of its own.

A picture r away from the mean of its class, of n: without it the mean lies n / (n - 1) times as far, and the pooled covariance
lacks a rank-one part along r (as much of it as lies in the task's stored directions), which moves the distances to all means.
Both are exact for what is stored, but for the choice of the directions; so no anchor is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecl.mapping.index import Index
from edgecl.mapping.local import all_means
from edgecl.mapping.mahalanobis import POOLED, SHRINK, Mahalanobis, solver
from edgecl.space import unit_sqrt, unpack
from edgecl.types import Arrays, Floats, Ints

_BLOCK = 1024  # pictures compared with all rows at once
_ROOM = 0.05  # of the covariance along a picture, at least, stays without it


class LeftOut(Mahalanobis):
    """Not a mapper of its own: the same anchors and answers. It keeps what one that only serves can do without."""

    def left_out(self, features: Floats, own: Sequence[str], counts: Floats) -> Ints:
        """The task of pictures that the anchors of `own` (n,) were made from, each as if left out, as indices of `tasks` (n,).

        A mean of few pictures lies nearer to each of them than to any new one: asked plainly, a task keeps its old pictures
        and loses half of its new ones to a twin. features: (n, d).   counts: (n,), pictures that each one's class had.
        """
        place = {task: index for index, task in enumerate(self.tasks)}
        indices = np.array([place[task] for task in own], np.int64)
        z, best = unit_sqrt(features), np.empty(len(features), np.int64)
        for index in np.unique(indices):
            at = np.flatnonzero(indices == index)
            for rows in np.split(at, range(_BLOCK, len(at), _BLOCK)):
                best[rows] = self._owner[self._best(z[rows], index, np.maximum(counts[rows], 2))]
        return best

    def _best(self, z: Floats, own: int, counts: Floats) -> Ints:
        """The nearest row (n,) to each of z (n, d), all of the task `own`."""
        a = self._subspaces[own]
        means, directions = (unpack(a[part], a[f"{part}_step"]) for part in ("means", "directions"))
        first = int(np.searchsorted(self._owner, own))
        scores = z @ self._rows.T + self._bias
        near = scores[:, first : first + len(means)].argmax(1)
        r, i = z - means[near], np.arange(len(z))
        along, seen = r @ directions.T, self._solve(directions)
        solved = along @ seen  # P times the part of r that lies in the directions
        free = max(len(means) * float(counts.mean() - 1), 1.0)
        more = counts / (counts - 1)
        weight = more * (1 - SHRINK) / free / min(len(self.tasks), POOLED)
        weight /= np.maximum(1 - weight * np.einsum("nr,nr->n", along, along @ (seen @ directions.T)), _ROOM)
        # Twice the score is what the squared distance lacks to z'Pz, which all rows share.
        cross = np.einsum("nd,nd->n", z, solved)[:, None] - along @ (seen @ self._means.T)
        moved: Floats = scores - weight[:, None] / 2 * cross**2
        distance = np.einsum("nd,nd->n", r, self._solve(r))
        distance_without = more**2 * (distance + weight * np.einsum("nd,nd->n", r, solved) ** 2)
        moved[i, first + near] = scores[i, first + near] - (distance_without - distance) / 2
        out: Ints = moved.argmax(1)
        return out

    def _make_index(self, anchors: list[Arrays]) -> tuple[Index, Ints]:
        self._means, owner = all_means(anchors)
        self._solve = solver(*self._covariance(anchors))
        self._rows = self._solve(self._means)
        self._bias: Floats = -0.5 * np.einsum("md,md->m", self._rows, self._means)
        return Index(self._rows, self._bias, self._means, lambda points: points, exact=len(owner)), owner
