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

from edgecl.errors import MissingDependency
from edgecl.types import Floats, Ints

EXACT = 2000  # rows; a product with more costs over half a millisecond a query, and the candidates' search never that much
PROBES = 40  # cells of the candidates' search that are looked into; 32 to 64 agree alike on crowded tasks (docs/benchmarks.md)
_BLOCK = 4096  # rows converted at a time


class Index:
    """Built once over all rows; `search` answers for a batch.

    kind: "exact" or "two-stage", what really runs.
    """

    def __init__(
        self,
        rows: NDArray[Any],
        bias: NDArray[Any],
        centres: Floats,
        whiten: Callable[[Floats], Floats],
        dimensions: int = 128,
        candidates: int = 64,
        exact: int | None = None,
    ) -> None:
        """rows (m, D), bias (m,).   centres (m, d): where each row wins, in the space of pictures.   whiten: linear map of
        that space after which distances compare rows; `dimensions` of it and `candidates` make the first stage.
        exact: rows up to which the search is exact; None takes EXACT.
        """
        self._bias = np.asarray(bias, np.float32)
        self._candidates = candidates
        self.kind = "exact" if len(rows) <= (EXACT if exact is None else exact) else "two-stage"
        if self.kind == "exact":
            self._rows = np.ascontiguousarray(rows, np.float32)
            return
        try:
            import faiss
        except ImportError as error:
            raise MissingDependency(
                f"{len(rows)} classes or components are searched with FAISS, which is not installed; pip install 'edgecl[cpu]'"
            ) from error
        faiss.omp_set_num_threads(1)  # for one query at a time, waking a second thread costs more than it does
        self._middle = centres.mean(0)
        sample = np.random.default_rng(0).permutation(len(rows))[:20_000]
        white = whiten(centres[sample] - self._middle).astype(np.float64)
        turn = np.linalg.eigh(white.T @ white)[1][:, ::-1][:, :dimensions].astype(np.float32)
        self._down = np.ascontiguousarray(whiten(np.eye(centres.shape[1], dtype=np.float32)) @ turn)
        points = np.empty((len(rows), self._down.shape[1]), np.float32)
        self._unit = (np.maximum(rows.max(0), -rows.min(0)) + 1e-12).astype(np.float32)
        self._rows = np.empty(rows.shape, np.float16)
        for block in (slice(at, at + _BLOCK) for at in range(0, len(rows), _BLOCK)):  # a copy of everything may not fit
            points[block] = (centres[block] - self._middle) @ self._down
            self._rows[block] = rows[block] / self._unit  # columns within -1..1 lose nothing in 16 bits that matters
        self._coarse = faiss.IndexFlatL2(points.shape[1])  # kept: the next line holds no reference to it
        self._near = faiss.IndexIVFFlat(self._coarse, points.shape[1], int(2 * len(rows) ** 0.5))
        self._near.cp.seed, self._near.nprobe = 0, PROBES
        self._near.train(points)
        self._near.add(points)

    def search(self, queries: Floats, pictures: Floats) -> Ints:
        """The best row (n,) for queries (n, D); pictures (n, d) are the same points in the space of the centres."""
        best: Ints
        if self.kind == "exact":
            scores = queries @ self._rows.T
            scores += self._bias
            best = scores.argmax(1)
            return best
        found = self._near.search((pictures - self._middle) @ self._down, self._candidates)[1]
        best = np.empty(len(queries), np.int64)
        for i, near in enumerate(found):
            ids = near[near >= 0]
            best[i] = ids[(self._rows[ids].astype(np.float32) @ (queries[i] * self._unit) + self._bias[ids]).argmax()]
        return best
