"""The default mapper, asked about pictures that its anchors were made from, as if each had been left out.

It keeps what solves for the covariance, which a mapper that only serves does without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.space import unit_sqrt, unpack
from edgecl.types import Floats, Ints


class LeftOut(Mahalanobis):
    """Not a mapper of its own: the same anchors, the same answers."""

    def left_out(self, features: Floats, own: Sequence[str], counts: Floats) -> Ints:
        """The task of pictures that the anchors of `own` (n,) were made from, each as if left out of its class mean.

        A mean of few pictures lies nearer to each of them than to any new one: asked plainly, a task keeps its old pictures
        and loses half of its new ones to a twin. features: (n, d).   counts: (n,), pictures that each one's class had.
        Returns (n,), indices of `tasks`.
        """
        if not len(features):
            return np.zeros(0, np.int64)
        place = {task: index for index, task in enumerate(self.tasks)}
        z, shown = unit_sqrt(features), np.maximum(counts, 2)
        rows, distances = self._own_rows(z, np.array([place[task] for task in own], np.int64))
        # Without the picture its mean lies further away, by n / (n - 1); a score is half a squared distance.
        handicap = distances / 2 * ((shown / (shown - 1)) ** 2 - 1)
        out: Ints = self._owner[self._index.search(z, z, (rows, handicap.astype(np.float32)))]
        return out

    def _own_rows(self, z: Floats, own: Ints) -> tuple[Ints, Floats]:
        """The nearest row of the tasks `own` (n,) to each of z (n, d), and the squared distance from it, both (n,)."""
        solved = self._solve(z)
        rows, distances = np.empty(len(z), np.int64), np.empty(len(z), np.float32)
        for task in np.unique(own):
            mine, at = np.flatnonzero(own == task), np.flatnonzero(self._owner == task)
            a = self._subspaces[task]
            means = unpack(a["means"], a["means_step"])
            # z'Pz - 2 z'Pm + m'Pm, of which the first does not depend on the row.
            far = -2 * solved[mine] @ means.T - 2 * self._index.bias[at]
            rows[mine] = at[far.argmin(1)]
            distances[mine] = np.maximum(np.einsum("nd,nd->n", solved[mine], z[mine]) + far.min(1), 0)
        return rows, distances

    def _solver(self, roots: Floats, rest: float) -> Callable[[Floats], Floats]:
        self._solve = super()._solver(roots, rest)
        return self._solve
