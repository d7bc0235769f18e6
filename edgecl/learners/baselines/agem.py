"""A-GEM: a step never goes against the mean gradient on what is remembered (Chaudhry et al., ICLR 2019).

Where the batch's gradient g and the memory's reference r disagree, g'r < 0, the step is along g - (g'r / r'r) r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgecl.learners.baselines import er
from edgecl.learners.parts.nets import torch
from edgecl.types import Ints


@dataclass(frozen=True)
class Config(er.Config):
    replay: int = 50  # samples that give the reference of each step


class Agem(er.Er):
    """The memory of `er`, used as a constraint."""

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        weights = list(self._net.parameters())
        slopes = torch.autograd.grad(self._loss(x, y), weights)
        if len(self._memory):
            old_x, old_y = self._retrieve(x, y)
            reference = torch.autograd.grad(self._loss(old_x, old_y), weights)
            along = sum((g * r).sum() for g, r in zip(slopes, reference, strict=True))
            if along < 0:
                length = sum((r * r).sum() for r in reference)
                slopes = [g - along / length * r for g, r in zip(slopes, reference, strict=True)]
        for w, g in zip(weights, slopes, strict=True):
            w.grad = g
        self._optimiser.step()
        self._memory.extend(x, y)
