"""Experience replay: each step also on a few samples seen before (Chaudhry et al., On tiny episodic memories, 2019).

The mean losses of the batch and of the replayed samples are added; what is replayed was in memory before the batch came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.baselines.networks import NetLearner
from edgecl.learners.parts.nets import NetConfig
from edgecl.learners.parts.replay import Memory, Reservoir
from edgecl.learners.parts.settings import flag, whole
from edgecl.types import Ints


@dataclass(frozen=True)
class ReplayConfig(NetConfig):
    buffer: int = 500  # samples kept
    replay: int = 10  # of them drawn for each step

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("buffer", self.buffer, 1)
        whole("replay", self.replay, 1)


@dataclass(frozen=True)
class Config(ReplayConfig):
    counted_before: bool = False  # the reservoir of the released code; see `parts.replay.Reservoir`

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("counted_before", self.counted_before)


class Er(NetLearner):
    """Replay from a reservoir."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._memory = self._remember(np.random.default_rng([seed, 0]))

    def _remember(self, draw: np.random.Generator) -> Memory:
        return Reservoir(self.config.buffer, draw, counted_before=self.config.counted_before)

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        loss = self._loss(x, y)
        if len(self._memory):
            old_x, old_y = self._retrieve(x, y)
            loss = loss + self._loss(old_x, old_y)
        self._descend(loss)
        self._memory.extend(x, y)

    def _retrieve(self, x: NDArray[Any], y: Ints) -> tuple[NDArray[Any], Ints]:
        """What to replay beside the batch (x, y)."""
        return self._memory.rows(self._memory.sample(self.config.replay))

    def _held(self) -> int:
        return super()._held() + self._memory.nbytes
