"""A bounded sample of rows that have passed, evenly over the classes: each row of a class is in it with the same probability.

Which rows stay depends on the seed and on how many have passed, and on nothing that would have to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats, Ints

_LARGEST = float(np.finfo(np.float16).max)


class Reservoir:
    """Rows (r, d) in float16 with their labels and numbers of arrival; Vitter's algorithm R in each class."""

    def __init__(self, width: int, capacity: int, seed: int) -> None:
        """capacity: rows of all classes together; one of each class at least."""
        self.width, self.capacity, self.seed = width, capacity, seed
        self.offered = 0
        self.made_up = 0  # of the first rows that were offered: drawn from a description, never seen
        self._passed: list[int] = []  # rows of each class that were offered
        self._rows: list[list[tuple[int, NDArray[np.float16]]]] = []

    def offer(self, x: Floats, label: int) -> None:
        """A row (d,) of class `label` passes."""
        while len(self._rows) <= label:
            self._rows.append([])
            self._passed.append(0)
        own, quota = self._rows[label], max(1, self.capacity // len(self._rows))
        self._passed[label] += 1
        entry = self.offered, np.clip(x, -_LARGEST, _LARGEST).astype(np.float16)
        if len(own) < quota:
            own.append(entry)
        elif (slot := int(self._draw().integers(self._passed[label]))) < quota:
            own[slot] = entry
        if sum(map(len, self._rows)) > self.capacity:  # a class more: the others have less room
            for c, rows in enumerate(self._rows):
                while len(rows) > quota:
                    rows.pop(int(self._draw(c).integers(len(rows))))
        self.offered += 1

    def _draw(self, of: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.offered, of])

    def rows(self) -> tuple[Floats, Ints, Ints]:
        """Rows (r, d) float32, labels (r,), numbers of arrival (r,), in the order of arrival."""
        found = sorted((number, label, x) for label, rows in enumerate(self._rows) for number, x in rows)
        features = np.array([x for _, _, x in found], np.float32).reshape(len(found), self.width)
        return features, np.array([label for _, label, _ in found], np.int64), np.array([n for n, _, _ in found], np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, in the order in which slots are."""
        flat = [(label, number, x) for label, rows in enumerate(self._rows) for number, x in rows]
        return {
            "rows": np.array([x for _, _, x in flat], np.float16).reshape(len(flat), self.width),
            "labels": np.array([label for label, _, _ in flat], np.int64),
            "numbers": np.array([number for _, number, _ in flat], np.int64),
            "passed": np.array(self._passed, np.int64),
            "offered": np.array([self.offered, self.made_up], np.int64),
        }

    @classmethod
    def resume(cls, width: int, capacity: int, seed: int, state: Mapping[str, Any]) -> Reservoir:
        """Go on from `state`."""
        sample = cls(width, capacity, seed)
        sample.offered, sample.made_up = (int(n) for n in state["offered"])
        sample._passed = [int(n) for n in state["passed"]]
        sample._rows = [[] for _ in sample._passed]
        for x, label, number in zip(state["rows"], state["labels"], state["numbers"], strict=True):
            sample._rows[label].append((int(number), np.array(x)))
        return sample

    def nbytes(self) -> int:
        """Of what `state` holds."""
        return sum(map(len, self._rows)) * (2 * self.width + 16) + 8 * len(self._passed) + 16
