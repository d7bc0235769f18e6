"""GDumb: keep a greedy, class-balanced memory; learn from it alone, afresh, when an answer is due (Prabhu et al., ECCV 2020).

An answer is due at the end of each experience; until then the network of the last one answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.baselines.networks import NetLearner
from edgecl.learners.parts.nets import NetConfig
from edgecl.learners.parts.replay import Balanced
from edgecl.learners.parts.settings import whole
from edgecl.types import Ints


@dataclass(frozen=True)
class Config(NetConfig):
    buffer: int = 500  # samples kept
    epochs: int = 30  # over the memory, after each experience
    batch: int = 16  # samples a step

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("buffer", "epochs", "batch"):
            whole(name, getattr(self, name), 1)


class Gdumb(NetLearner):
    """A memory, and a network made from it."""

    online = False

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._order, draw = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 0])
        self._memory = Balanced(config.buffer, draw)

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        self._memory.extend(x, y)

    def end_task(self) -> None:
        self._renew()
        self._fit(*self._memory.all(self.shape), self.config.epochs, self.config.batch, self._order)

    def _held(self) -> int:
        return super()._held() + self._memory.nbytes
