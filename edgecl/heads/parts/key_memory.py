"""Keys that are written when a picture surprises: what the memory head on the device knows, one picture at a time.

A class has one key or more, each the running mean of the pictures it won; what lies within, around all keys together, is one
scatter. A key is written when a class is new, and when a picture is taken for another class while it lies unusually far from
its own class's keys: so a class that looks different at night gets a key for the night, and most classes keep one. Nothing else
is kept of a picture, and no key that did not win is ever moved. Kept apart from torch: boards learn with it.

The published memory head (Memory Head for Pre-Trained Backbones in Continual Learning, CoLLAs 2024; in
`edgecl.learners.memory_head`) gives the competition of keys for each input and their writing on a surprise ("scrambling").
What differs, and why, is in docs/adr/0015: the label takes part, a key moves by 1 / wins, keys are compared under the scatter,
and units are the classes' votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Arrays, Floats, Ints

SETTLED = 5  # wins before a key may be found too far away
FAR = 2.0  # times the usual distance of a picture from its key
_RATE = 0.02  # of the usual distance's running mean
_WAIT = 64  # residuals that enter the scatter together, in one product spread over as many pictures: none waits for it
_EARLY = 10  # residuals before variances mean anything
_FLOOR = 1e-3  # of the mean variance, under the variance of one feature

Doubles = NDArray[np.float64]


class KeyMemory:
    """Keys (m, d), whose they are, how often each won, and the scatter around them.

    owner: (m,) class of each key.   wins: (m,) pictures in each.   limit: keys of one class, at most.   The space is the
    caller's: rows (d,) float32.
    """

    def __init__(self, width: int, limit: int) -> None:
        self.width, self.limit = width, limit
        self.owner: list[int] = []
        self.wins: list[int] = []
        self.written = 0  # keys that a surprise has written
        self._of: dict[int, list[int]] = {}  # keys of each class
        self._keys = np.zeros((8, width), np.float32)
        self._scatter = np.zeros((width, width), np.float32)  # its upper triangle; the rest means nothing
        self._waiting = np.zeros((_WAIT, width), np.float32)
        self._entering = np.zeros((0, width), np.float32)
        self._waits = 0
        self._squares = np.zeros(width)  # the scatter's diagonal, always up to date
        self._residuals = 0
        self._usual = 0.0  # distance of a picture from its key, a feature

    @property
    def keys(self) -> Floats:
        """(m, d)."""
        return self._keys[: len(self.owner)]

    def observe(self, z: Floats, label: int) -> None:
        """Learn one row (d,) of class `label`; a class that has no key yet gets one."""
        mine = self._of.setdefault(label, [])
        if not mine:
            self._write(z, label)
            return
        key = mine[0]
        if self._residuals >= _EARLY and self.limit > 1:
            squares = self._squares + (_FLOOR * self._squares.mean() + 1e-12)
            precision = (self._residuals / squares).astype(np.float32)
            rows = self._keys[mine] - z
            near = np.einsum("md,md,d->m", rows, rows, precision) / self.width
            best = int(near.argmin())
            key, distance = mine[best], float(near[best])
            far = self._usual and distance > FAR * self._usual
            if far and self.wins[key] >= SETTLED and len(mine) < self.limit and self._mistaken(z, label, precision):
                self.written += 1
                self._write(z, label)
                return
            self._usual += (_RATE if self._usual else 1.0) * (distance - self._usual)
        self._move(key, z)

    def _mistaken(self, z: Floats, label: int, precision: Floats) -> bool:
        rows = self.keys - z
        nearest = int(np.einsum("md,md,d->m", rows, rows, precision).argmin())
        return self.owner[nearest] != label

    def _write(self, z: Floats, label: int) -> None:
        m = len(self.owner)
        if m == len(self._keys):
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
        self._keys[m] = z
        self._of[label].append(m)
        self.owner.append(label)
        self.wins.append(1)

    def _move(self, key: int, z: Floats) -> None:
        """The key becomes the mean of one row more; the scatter grows by what a row adds to it (Welford)."""
        self.wins[key] += 1
        step = z - self._keys[key]
        self._keys[key] += step / np.float32(self.wins[key])
        step *= np.float32(np.sqrt(1 - 1 / self.wins[key]))
        self._waiting[self._waits] = step
        self._waits += 1
        self._squares += np.square(step, dtype=np.float64)
        self._residuals += 1
        self._enter(self._waits - 1)
        if self._waits == _WAIT:
            self._waiting, self._entering = np.zeros_like(self._waiting), self._waiting
            self._waits = 0

    def _enter(self, part: int) -> None:
        """Add a share of the rows that are entering to the scatter: of all _WAIT parts, `part`."""
        rows = slice(*(self.width * p // _WAIT for p in (part, part + 1)))
        if len(self._entering) and rows.stop > rows.start:
            self._scatter[rows, rows.start :] += self._entering[:, rows].T @ self._entering[:, rows.start :]

    def scatter(self) -> Doubles:
        """(d, d) sum of squares around the keys."""
        whole = np.triu(self._scatter).astype(np.float64)
        begun = self.width * self._waits // _WAIT
        entering, waiting = self._entering.astype(np.float64), self._waiting[: self._waits].astype(np.float64)
        whole += np.triu(waiting.T @ waiting)
        whole[begun:] += np.triu(entering.T @ entering)[begun:]
        return whole + np.triu(whole, 1).T

    # -- to go on later, to the same bits

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything; the scatter as its upper triangle."""
        return {
            "keys": self.keys.copy(),
            "owner": np.array(self.owner, np.int64),
            "wins": np.array(self.wins, np.int64),
            "scatter": self._scatter[np.triu_indices(self.width)],
            "waiting": self._waiting[: self._waits].copy(),
            "entering": self._entering.copy(),
            "squares": self._squares.copy(),
            "numbers": np.array([self._residuals, self._usual, self.written], np.float64),
        }

    @classmethod
    def resume(cls, width: int, limit: int, state: Mapping[str, Any]) -> KeyMemory:
        """Go on from `state`, which is this device's own and whole (its digest was checked)."""
        memory = cls(width, limit)
        memory._take(state["keys"], state["owner"], state["wins"])
        memory._scatter[np.triu_indices(width)] = state["scatter"]
        memory._entering = np.array(state["entering"])
        memory._waits = len(state["waiting"])
        memory._waiting[: memory._waits] = state["waiting"]
        memory._squares = np.array(state["squares"])
        memory._residuals, memory.written = int(state["numbers"][0]), int(state["numbers"][2])
        memory._usual = float(state["numbers"][1])
        return memory

    @classmethod
    def begun(cls, width: int, limit: int, keys: Floats, owner: Ints, wins: Ints, covariance: Doubles) -> KeyMemory:
        """Go on from keys (m, d) of every class, their wins, and the covariance (d, d) around them."""
        memory = cls(width, limit)
        memory._take(keys, owner, wins)
        memory._residuals = max(int(wins.sum()) - len(wins), 0)
        memory._scatter = (covariance * memory._residuals).astype(np.float32)
        memory._squares = np.diag(covariance) * memory._residuals
        return memory

    def _take(self, keys: Arrays | Floats, owner: Ints, wins: Ints) -> None:
        rows = np.asarray(keys, np.float32)
        self._keys = np.zeros((max(8, len(rows)), self.width), np.float32)
        self._keys[: len(rows)] = rows
        self.owner, self.wins = [int(c) for c in owner], [int(n) for n in wins]
        for key, label in enumerate(self.owner):
            self._of.setdefault(label, []).append(key)

    def nbytes(self) -> int:
        """Of what `state` holds, with the scatter and the room for rows that wait as they lie in memory."""
        m = len(self.owner)
        return 4 * self.width * (m + self.width + 2 * _WAIT + 2) + 16 * m + 24
