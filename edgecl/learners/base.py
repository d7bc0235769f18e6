"""The contract of a continual-learning method: what comes, in the order in which it comes, and an answer at any moment.

A method is a module with two names: `Config`, a frozen dataclass, and the class that `registry.LEARNERS` names, made as
`cls(shape, k, seed, config)`. The checks in `edgecl.checks.learners` run over every registered one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from edgecl.errors import ConfigError
from edgecl.streams.base import Experience
from edgecl.types import Floats, Ints


class Learner(ABC):
    """A method under way. A leaf implements `observe` and `predict`, `nbytes`, and of the rest what it needs.

    shape: of one input.   k: outputs: classes of the whole stream, also those that have not come yet.   seed: of everything
    that it draws; the same seed and stream give the same answers.
    """

    # Told a stage, what is done of it and the total, by methods that are long at one experience; whoever runs it sets it.
    progress: Callable[[str, int, int], None] = staticmethod(lambda stage, done, total: None)
    online: ClassVar[bool] = True  # learns from each batch as it comes, so that an experience may be cut anywhere

    reads_files: ClassVar[bool] = False  # takes pictures that are read when they are asked for (`streams.files`)
    sees_test: bool = False  # a published setting decides by test samples: only where it says so is it given them

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        self.shape, self.k, self.seed, self.config = shape, k, seed, config

    def begin_task(self, task: int | None) -> None:  # noqa: B027 (a method that needs no word of it is a method)
        """An experience begins. task: its number where the stream gives it, else None."""

    @abstractmethod
    def observe(self, x: Any, y: Ints) -> None:
        """Learn from one batch: x (n, *shape), y (n,) int64 in 0..k-1."""

    def end_task(self) -> None:  # noqa: B027
        """The experience is over."""

    @abstractmethod
    def predict(self, x: Any, task: int | None = None) -> Floats:
        """Scores (n, k) of x (n, *shape): the largest is the answer. Changes nothing.   task: where the stream gives it."""

    def embed(self, x: Any, task: int | None = None) -> Floats:
        """Features (n, d) by which it tells pairs apart. Raises ConfigError where the method has none."""
        raise ConfigError(
            f"{type(self).__name__} has no features to compare pairs by; run a learner with a network, such as cpg"
        )

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that it must keep to answer and to go on learning: weights, statistics, stored samples, optimiser."""

    def learn(self, experience: Experience, batch: int) -> None:
        """One pass over the experience's samples in their order. A method that needs more of them overrides this."""
        x, y, observe = experience.train.x, experience.train.y, self.observe
        for start in range(0, len(y), batch):
            observe(x[start : start + batch], y[start : start + batch])
