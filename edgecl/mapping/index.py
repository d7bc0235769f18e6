"""Which row answers a query best: argmax of rows . q + bias, over every class or component of every task at once.

Exact while that is cheap. Past `EXACT` rows in two stages: candidates by Euclidean distance between the query's picture and
the rows' centres in a few whitened dimensions (FAISS), then exact scores of the candidates only. Both of the mapper's scores
fall with that distance, which is why few candidates suffice; figures in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats, Ints

EXACT = 4000  # rows; a matrix product over more costs over a millisecond a query
DIMENSIONS, CANDIDATES, PROBES = 64, 64, 16


class Index:
    """Built once over all rows; `search` answers for a batch.

    kind: "exact" or "two-stage", what really runs.
    """

    def __init__(
        self, rows: NDArray[Any], bias: NDArray[Any], centres: Floats, whiten: Callable[[Floats], Floats], exact: int = EXACT
    ) -> None:
        """rows (m, D), bias (m,).   centres (m, d): where each row wins, in the space of pictures.   whiten: linear map of
        that space after which distances compare rows.   exact: rows up to which the search is exact.
        """
        self._bias = np.asarray(bias, np.float32)
        self.kind = "exact" if len(rows) <= exact else "two-stage"
        if self.kind == "exact":
            self._rows = np.ascontiguousarray(rows.T, np.float32)
            return
        import faiss

        self._middle = centres.mean(0)
        sample = np.random.default_rng(0).permutation(len(rows))[:20_000]
        white = whiten(centres[sample] - self._middle).astype(np.float64)
        turn = np.linalg.eigh(white.T @ white)[1][:, ::-1][:, :DIMENSIONS].astype(np.float32)
        self._down = np.ascontiguousarray(whiten(np.eye(centres.shape[1], dtype=np.float32)) @ turn)
        points = np.ascontiguousarray((centres - self._middle) @ self._down)
        self._near = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], int(2 * len(rows) ** 0.5))
        self._near.cp.seed, self._near.nprobe = 0, PROBES
        self._near.train(points)
        self._near.add(points)
        self._unit = (np.abs(rows).max(0) + 1e-12).astype(np.float32)  # columns to -1..1: then 16 bits lose nothing that matters
        self._rows = (rows / self._unit).astype(np.float16)

    def search(self, queries: Floats, pictures: Floats) -> Ints:
        """The best row (n,) for queries (n, D); pictures (n, d) are the same points in the space of the centres."""
        if self.kind == "exact":
            scores = queries @ self._rows
            scores += self._bias
            return scores.argmax(1)
        found = self._near.search((pictures - self._middle) @ self._down, CANDIDATES)[1]
        best = np.empty(len(queries), np.int64)
        for i, candidates in enumerate(found):
            ids = candidates[candidates >= 0]
            best[i] = ids[(self._rows[ids].astype(np.float32) @ (queries[i] * self._unit) + self._bias[ids]).argmax()]
        return best
