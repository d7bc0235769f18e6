"""One linear softmax head over the classes of all tasks, by gradient descent on stored features: what baselines share.

It reads what our own heads read, square-rooted features of unit length, so that baselines differ in how they learn and not in
what they see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl.errors import ConfigError
from edgecl.metrics.accuracy import softmax
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints, Task

BATCH = 32  # pictures a step


@dataclass(frozen=True)
class SharedHead:
    """w: (k, d) float32, b: (k,), over the classes of all tasks, those of the first task first."""

    w: Floats
    b: Floats

    @classmethod
    def zeros(cls, k: int, d: int) -> SharedHead:
        return cls(np.zeros((k, d), np.float32), np.zeros(k, np.float32))

    @property
    def nbytes(self) -> int:
        return self.w.nbytes + self.b.nbytes

    def scores(self, x: Floats) -> Floats:
        """(n, d) square-rooted features of unit length -> (n, k)."""
        out: Floats = x @ self.w.T + self.b
        return out


@dataclass(frozen=True)
class Pooled:
    """Pictures of tasks together: x (n, d) square-rooted, of unit length; y (n,) the class among all k; t (n,) the task."""

    x: Floats
    y: Ints
    t: Ints
    k: int

    def __len__(self) -> int:
        return len(self.y)

    def of(self, rows: Any) -> Pooled:
        """Those of the pictures."""
        return Pooled(self.x[rows], self.y[rows], self.t[rows], self.k)


def pool(tasks: Sequence[Task]) -> Pooled:
    """The pictures of `tasks`, whose classes are numbered on from one task to the next."""
    if not tasks:
        raise ConfigError("a baseline needs one task or more")
    first = first_class(tasks)
    y = np.concatenate([task.labels + first[i] for i, task in enumerate(tasks)])
    t = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    return Pooled(np.concatenate([unit_sqrt(task.features) for task in tasks]), y, t, int(first[-1]))


def first_class(tasks: Sequence[Task]) -> Ints:
    """(T + 1,): where each task's classes begin among all, and where the last ends."""
    return np.cumsum([0, *(len(task.classes) for task in tasks)])


def descend(
    head: SharedHead, data: Pooled, rate: float, epochs: int, rng: np.random.Generator, batch: int = BATCH
) -> SharedHead:
    """The head after `epochs` passes over the pictures in drawn order: cross-entropy, plain gradient descent, no decay."""
    w, b = head.w.copy(), head.b.copy()
    with threadpool_limits(1, "blas"):  # sums in one order: the same seed gives the same bits
        for _ in range(epochs):
            order = rng.permutation(len(data))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                x = data.x[rows]
                wrong = softmax(x @ w.T + b)
                wrong[np.arange(len(rows)), data.y[rows]] -= 1
                wrong *= np.float32(rate / len(rows))
                w -= wrong.T @ x
                b -= wrong.sum(0)
    return SharedHead(w, b)


def average(heads: Sequence[tuple[SharedHead, int]]) -> SharedHead:
    """Heads averaged by picture counts."""
    total = sum(n for _, n in heads)
    shares = np.array([n / total for _, n in heads], np.float32)
    w, b = np.stack([head.w for head, _ in heads]), np.stack([head.b for head, _ in heads])
    return SharedHead(np.einsum("a,akd->kd", shares, w), np.einsum("a,ak->k", shares, b))


def held_out(y: Ints, rng: np.random.Generator, share: float = 0.2) -> tuple[Ints, Ints]:
    """Which of the pictures of classes y (n,) are left and which are put aside: that share of each class, one at least."""
    order = rng.permutation(len(y))
    aside = [own[: max(1, round(len(own) * share))] for own in (order[y[order] == c] for c in np.unique(y))]
    taken = np.sort(np.concatenate(aside))
    return np.setdiff1d(order, taken), taken


def accuracy(head: SharedHead, data: Pooled) -> float:
    """Share of pictures whose class is found among all."""
    return float((head.scores(data.x).argmax(1) == data.y).mean())
