"""What most learners do alike: where the stream gives the task, only the classes that came with it are answered."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.base import Learner
from edgecl.types import Floats, Ints


class TaskAware(Learner):
    """A leaf implements `_observe`, `_scores` and `_held`."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._task: int | None = None
        self._of_task: dict[int, NDArray[np.bool_]] = {}

    def begin_task(self, task: int | None) -> None:
        self._task = task
        if task is not None:
            self._of_task.setdefault(task, np.zeros(self.k, np.bool_))

    def observe(self, x: Any, y: Ints) -> None:
        if self._task is not None:
            self._of_task[self._task][y] = True
        self._observe(x, y)

    def predict(self, x: Any, task: int | None = None) -> Floats:
        scores = self._scores(x)
        mine = None if task is None else self._of_task.get(task)
        return scores if mine is None else last(scores, ~mine)

    def nbytes(self) -> int:
        return self._held() + sum(mine.nbytes for mine in self._of_task.values())

    @abstractmethod
    def _observe(self, x: Any, y: Ints) -> None:
        """Learn from one batch."""

    @abstractmethod
    def _scores(self, x: Any) -> Floats:
        """Scores (n, k) over all classes; changes nothing."""

    @abstractmethod
    def _held(self) -> int:
        """Bytes that it must keep."""


def last(scores: Floats, out: NDArray[np.bool_]) -> Floats:
    """Scores (n, k) with the columns `out`, (k,), put behind all others."""
    if not len(scores) or out.all():
        return scores
    behind = scores[:, ~out].min(1, keepdims=True) - 1
    return np.where(out, behind, scores).astype(np.float32)
