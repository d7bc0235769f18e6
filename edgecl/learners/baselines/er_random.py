"""Experience replay from a memory that, once full, keeps every second sample in a random place: mostly recent ones."""

from __future__ import annotations

import numpy as np

from edgecl.learners.baselines.er import Er
from edgecl.learners.baselines.er import ReplayConfig as Config
from edgecl.learners.parts.replay import CoinFlip, Memory

__all__ = ["Config", "ErRandom"]


class ErRandom(Er):
    """`er` with another rule for who stays."""

    def _remember(self, draw: np.random.Generator) -> Memory:
        return CoinFlip(self.config.buffer, draw)
