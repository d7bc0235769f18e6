"""The contract of a task mapper: from a picture's features alone, which task it comes from, and how usual it is for it.

A mapper is derived state. It is built from the anchors of the tasks in the bank and can be thrown away at any time; the
same set of anchors gives the same mapper, whatever the order in which they came and whatever was there in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError
from edgecl.types import Arrays, Floats, Ints


@dataclass(frozen=True)
class Assignment:
    """The mapper's answer for n pictures.

    task: (n,) int64, index into the mapper's `tasks`.   distance: (n,) float32, how far the picture lies from the task.
    strangeness: (n,) float32, the same as a share of the task's own limit.   known: (n,) bool, False where that is above
    1: "unknown task".
    """

    task: Ints
    distance: Floats
    strangeness: Floats
    known: NDArray[np.bool_]


class Mapper(ABC):
    """Decides the task. A leaf implements `anchor`, `check`, `merge`, `_build` and `_assign`."""

    name: str

    def __init__(self, width: int) -> None:
        """width: d of the features."""
        self.width = width
        self._anchors: dict[str, Arrays] = {}
        self._order: tuple[str, ...] | None = ()  # None: anchors have come or gone since the last query

    @classmethod
    @abstractmethod
    def anchor(cls, features: Floats, labels: Ints, false_reject: float = 0.05, seed: int = 0) -> dict[str, NDArray[Any]]:
        """What the mapper needs to recognise a task: from its features (n, d) and labels (n,), and from nothing else.

        false_reject: share of the task's own pictures that may be called unknown; the limit for it is calibrated on
        pictures held out in turn, and kept in the anchor.
        """

    @classmethod
    @abstractmethod
    def check(cls, arrays: Arrays) -> None:
        """Raise BundleError unless `arrays` is an anchor of this mapper. Its numbers are known to be finite."""

    @classmethod
    @abstractmethod
    def merge(cls, a: Arrays, b: Arrays, a_counts: Ints, b_counts: Ints, order: Ints) -> dict[str, NDArray[Any]]:
        """The anchor of one task out of two checked ones, made from unlike pictures of the same k classes.

        a_counts, b_counts: (k,) pictures of each of a's classes.   order: (k,), where b has a's classes.
        Its limit calls no more of the task's pictures unknown than the two limits did. Raises BundleError where an anchor does
        not fit that many classes.
        """

    @classmethod
    def anchor_width(cls, arrays: Arrays) -> int:
        """d of the features that a checked anchor was made from."""
        return int(arrays["means"].shape[1])

    def add(self, task: str, anchor: Arrays) -> None:
        """Know `task` by `anchor`; a task that is known already is replaced.

        Raises BundleError for an anchor of features of another width: it would break the mapper for every task.
        """
        width = self.anchor_width(anchor)
        if width != self.width:
            raise BundleError(
                f"the anchor of '{task}' is for {width} features, this device's ROM has {self.width}; learn it on this ROM"
            )
        self._anchors[task] = anchor
        self._order = None

    def remove(self, task: str) -> None:
        """Forget `task`; what remains is as if it had never been there."""
        del self._anchors[task]
        self._order = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The known tasks, which `Assignment.task` indexes: by name, so that sums of floats do not depend on arrival."""
        if self._order is None:
            self._order = tuple(sorted(self._anchors))
            if self._order:
                self._build({task: self._anchors[task] for task in self._order})
        return self._order

    def assign(self, features: Floats) -> Assignment:
        """The task of each picture: features (n, d) float32, plain ROM features. With no task known, all is unknown."""
        if not self.tasks or not len(features):
            n = len(features)
            nothing = np.zeros(n, np.float32)
            return Assignment(np.zeros(n, np.int64), nothing, nothing, np.zeros(n, np.bool_))
        return self._assign(np.ascontiguousarray(features, np.float32))

    @abstractmethod
    def _build(self, anchors: Mapping[str, Arrays]) -> None:
        """Prepare for queries over `anchors`, which are in the order of `tasks`."""

    @abstractmethod
    def _assign(self, features: Floats) -> Assignment:
        """`assign` for n > 0 features over at least one task."""


def require(arrays: Arrays, layout: Mapping[str, str], what: str, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raise BundleError unless `arrays` has just the names of `layout`, with types, sizes and numbers as written there.

    layout: name -> dtype and sizes, such as "int8 c d" and "float32 c": a letter stands for one size throughout, 1 or more
    (r: 0 or more), a number for itself.   bounds: name -> least and largest number. They are far from what pictures give,
    and keep a stranger's anchor from dividing by zero or overflowing in a mapper that serves all tasks.
    """
    if set(arrays) != set(layout):
        raise BundleError(
            f"{what} must hold {', '.join(sorted(layout))}; it holds {', '.join(sorted(map(str, arrays))[:8])}"[:400]
        )
    sizes: dict[str, int] = {}
    for name, written in layout.items():
        dtype, *letters = written.split()
        got = arrays[name]
        wanted = [int(s) if s.isdigit() else sizes.setdefault(s, n) for s, n in zip(letters, got.shape, strict=False)]
        fits = got.ndim == len(letters) and list(got.shape) == wanted
        if got.dtype != dtype or not fits or any(sizes.get(s) == 0 for s in letters if s != "r"):
            raise BundleError(
                f"{what}: '{name}' must be {written}, it is {got.dtype} {got.shape}" + (f" with {sizes}" if sizes else "")
            )
        low, high = bounds.get(name, (-np.inf, np.inf))
        if got.size and not (low <= float(got.min()) and float(got.max()) <= high):
            raise BundleError(f"{what}: '{name}' must lie in {low:g} to {high:g}, it holds {got.min():g} to {got.max():g}")
