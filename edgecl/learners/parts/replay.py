"""Memories of samples for methods that look back: bounded, each with a rule for who stays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Ints

Sample = tuple[NDArray[Any], int]


class Memory(ABC):
    """At most `capacity` samples. Draws come from `draw`, and nothing else does, so that a seed repeats them.

    A leaf implements `_slot`.   seen: samples offered so far.
    """

    def __init__(self, capacity: int, draw: np.random.Generator) -> None:
        self.capacity, self.draw, self.seen, self._n = capacity, draw, 0, 0
        self._x: NDArray[Any] | None = None  # made when the first sample tells its shape and type
        self._y = np.zeros(capacity, np.int64)

    def __len__(self) -> int:
        return self._n

    def add(self, x: NDArray[Any], y: int) -> Sample | None:
        """Offer one sample; what had to go for it, or itself where it was not kept, or None."""
        if self._x is None:
            self._x = np.zeros((self.capacity, *x.shape), x.dtype)
        slot = self._slot(y)
        self.seen += 1
        if slot is None:
            return x, y
        if slot == self._n:
            self._n, gone = self._n + 1, None
        else:
            gone = self._x[slot].copy(), int(self._y[slot])
        self._x[slot], self._y[slot] = x, y
        return gone

    def extend(self, x: NDArray[Any], y: Ints) -> None:
        """Offer a batch, sample by sample."""
        for row, c in zip(x, y, strict=True):
            self.add(row, int(c))

    def sample(self, n: int) -> Ints:
        """Rows of n different samples, or of all where there are fewer."""
        return self.draw.choice(self._n, min(n, self._n), replace=False)

    def rows(self, which: Ints) -> tuple[NDArray[Any], Ints]:
        """Copies of the samples in these rows; there must be some in memory."""
        assert self._x is not None
        return self._x[which], self._y[which]

    def all(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], Ints]:
        """Everything kept; shape: of one sample, for a memory that is still empty."""
        if self._x is None:
            return np.zeros((0, *shape), np.float32), np.zeros(0, np.int64)
        return self._x[: self._n], self._y[: self._n]

    @property
    def nbytes(self) -> int:
        """Of the samples kept, and their labels."""
        return 0 if self._x is None else self._x[: self._n].nbytes + self._y[: self._n].nbytes

    @abstractmethod
    def _slot(self, y: int) -> int | None:
        """Where a sample of class y goes: `len(self)` for a new place, a row to replace, None for nowhere."""


class Reservoir(Memory):
    """Every sample seen is kept with the same probability (Vitter, Random sampling with a reservoir, 1985).

    counted_before: draw among the samples seen before this one, as released code does: the first one that does not fit is
    then always kept, and all later ones a little too often.
    """

    def __init__(self, capacity: int, draw: np.random.Generator, *, counted_before: bool = False) -> None:
        super().__init__(capacity, draw)
        self._more = 0 if counted_before else 1

    def _slot(self, y: int) -> int | None:
        if self._n < self.capacity:
            return self._n
        slot = int(self.draw.integers(self.seen + self._more))
        return slot if slot < self.capacity else None


class CoinFlip(Memory):
    """Once full, every second sample is kept, in a place drawn at random: what is kept is mostly recent."""

    def _slot(self, y: int) -> int | None:
        if self._n < self.capacity:
            return self._n
        return int(self.draw.integers(self.capacity)) if self.draw.random() < 0.5 else None


class Balanced(Memory):
    """Greedy and class-balanced (Prabhu et al., GDumb, ECCV 2020): a class may hold `capacity` over the classes seen.

    A sample of a class below its quota replaces a random one of the largest class.
    """

    def __init__(self, capacity: int, draw: np.random.Generator) -> None:
        super().__init__(capacity, draw)
        self._counts: dict[int, int] = {}

    def _slot(self, y: int) -> int | None:
        new, have = y not in self._counts, self._counts.setdefault(y, 0)
        if not new and have >= self.capacity // len(self._counts):
            return None
        slot = self._n
        if self._n == self.capacity:
            largest = max(self._counts, key=lambda c: self._counts[c])
            self._counts[largest] -= 1
            slot = int(self.draw.choice(np.flatnonzero(self._y == largest)))
        self._counts[y] += 1
        return slot
