"""What the default forms of both mappers share: the stored subspace of a task, its limit, and the search for the task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError
from edgecl.mapping.base import Assignment, Mapper
from edgecl.mapping.index import Index
from edgecl.mapping.strangeness import calibrate, strangeness, subspace
from edgecl.space import pack, unit_sqrt, unpack
from edgecl.types import Arrays, Floats, Ints

LAYOUT = {  # of the part that both anchors have: c groups, r directions, d features
    "means": "int8 c d",
    "means_step": "float32 c",
    "directions": "int8 r d",
    "directions_step": "float32 r",
    "limit": "float32 1",
}

BOUNDS = {  # features have length one
    "means_step": (1e-20, 0.01),
    "directions_step": (1e-20, 0.01),
    "limit": (1e-6, 3e38),
}


def local_anchor(z: Floats, groups: Ints, false_reject: float) -> tuple[dict[str, NDArray[Any]], Floats, float]:
    """The stored subspace of a task with its limit; and the variances (r,) along its directions and of the rest."""
    means, directions, variances, rest = subspace(z, groups)
    m, m_step = pack(means)
    v, v_step = pack(directions)
    limit = np.array([calibrate(z, groups, false_reject)], np.float32)
    return (
        {"means": m, "means_step": m_step, "directions": v, "directions_step": v_step, "limit": limit},
        variances,
        rest,
    )


def all_means(anchors: list[Arrays]) -> tuple[Floats, Ints]:
    """The means of all tasks (m, d) and the task of each (m,)."""
    owner = np.repeat(np.arange(len(anchors)), [len(a["means"]) for a in anchors])
    means = np.empty((len(owner), anchors[0]["means"].shape[1]), np.float32)
    at = 0
    for a in anchors:  # row by row into place: a list of all and its concatenation would need twice the memory
        means[at : at + len(a["means"])] = unpack(a["means"], a["means_step"])
        at += len(a["means"])
    return means, owner


def joined(a: Arrays, b: Arrays) -> tuple[Floats, dict[str, NDArray[Any]]]:
    """What two anchors span: orthonormal directions (r, d), and the arrays that store them, with the looser limit.

    In a flat that holds both, no picture lies further from a mean than it did.
    """
    both = np.concatenate([unpack(x["directions"], x["directions_step"]) for x in (a, b)]).astype(np.float64)
    _, sizes, rows = np.linalg.svd(both, full_matrices=False)
    directions = rows[sizes > 0.05].astype(np.float32)
    v, v_step = pack(directions)
    limit = np.maximum(a["limit"], b["limit"])
    return directions, {"directions": v, "directions_step": v_step, "limit": limit}


def class_means(means: Floats, counts: Ints) -> Floats:
    """`means` (c, d), if there is one for each of the classes counted (k,). Raises BundleError."""
    if len(means) != len(counts):
        raise BundleError(f"the anchor has {len(means)} means for {len(counts)} classes; it cannot be merged")
    return means


class LocalMapper(Mapper):
    """A mapper whose tasks are found by inner products, and judged known or not by their own subspace."""

    def _build(self, anchors: Mapping[str, Arrays]) -> None:
        self._subspaces = list(anchors.values())
        self._index, self._owner = self._make_index(self._subspaces)

    @classmethod
    @abstractmethod
    def draw(cls, arrays: Arrays, n: int, seed: int = 0) -> tuple[Floats, Ints]:
        """Plain features (n, d) of pictures as an anchor describes them, and the row of its means of each (n,), in turn."""

    @abstractmethod
    def _make_index(self, anchors: list[Arrays]) -> tuple[Index, Ints]:
        """The search over all rows of all tasks, and the task (m,) that each row belongs to."""

    def _query(self, z: Floats) -> Floats:
        """z (n, d) -> what the index's rows are multiplied with, (n, D)."""
        return z

    @property
    def search(self) -> str:
        """How the task is searched, for reports: "exact" or "two-stage", over how many rows."""
        return "nothing learned" if not self.tasks else f"{self._index.kind} over {len(self._owner)} rows"

    def _assign(self, features: Floats) -> Assignment:
        z = unit_sqrt(features)
        task = self._owner[self._index.search(self._query(z), z)]
        distance, limit = np.empty(len(z), np.float32), np.empty(len(z), np.float32)
        for index in np.unique(task):
            rows, own = np.flatnonzero(task == index), self._subspaces[index]
            means = unpack(own["means"], own["means_step"])
            directions = unpack(own["directions"], own["directions_step"])
            distance[rows] = strangeness(z[rows], means, directions)
            limit[rows] = own["limit"][0]
        return Assignment(task, distance, distance / limit, distance <= limit)
