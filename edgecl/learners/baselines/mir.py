"""Maximally interfered retrieval: replay what the step to come would hurt most (Aljundi et al., NeurIPS 2019).

Of some candidates drawn from the memory, those are replayed whose loss rises most by a virtual step of plain gradient descent
on the batch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError
from edgecl.learners.baselines import er
from edgecl.learners.parts.nets import losses, torch
from edgecl.learners.parts.settings import flag, whole
from edgecl.types import Ints


@dataclass(frozen=True)
class Config(er.Config):
    candidates: int = 50  # drawn for each step, of which `replay` are taken
    literal: bool = False  # as many candidates as are replayed, as in released code: that is `er`, and gives its very bits

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("candidates", self.candidates, 1)
        flag("literal", self.literal)
        if not self.literal and self.candidates < self.replay:
            raise ConfigError(f"candidates must be at least replay, {self.replay}, got {self.candidates}")


class Mir(er.Er):
    """`er` with another choice of what to replay."""

    def _retrieve(self, x: NDArray[Any], y: Ints) -> tuple[NDArray[Any], Ints]:
        config = self.config
        rows = self._memory.sample(config.replay if config.literal else config.candidates)
        old_x, old_y = self._memory.rows(rows)
        worst = np.argsort(-self._rise(x, y, old_x, old_y), kind="stable")[: config.replay]
        worst.sort()  # in the order in which they were drawn: all of them is then what `er` has
        return old_x[worst], old_y[worst]

    def _rise(self, x: NDArray[Any], y: Ints, old_x: NDArray[Any], old_y: Ints) -> NDArray[Any]:
        """How much the loss of each candidate rises by the virtual step, (m,)."""
        weights = dict(self._net.named_parameters())
        loss = self._loss(x, y)
        slopes = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            moved = {name: w - self.config.lr * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
            inputs = self._input(old_x)
            after = torch.func.functional_call(self._net, moved, (inputs,))
            out: NDArray[Any] = (losses(after, old_y) - losses(self._net(inputs), old_y)).numpy()
        return out
