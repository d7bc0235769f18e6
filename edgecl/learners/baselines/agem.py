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
        self._optimiser.zero_grad()
        self._loss(x, y).backward()
        if len(self._memory):
            reference = torch.autograd.grad(self._loss(*self._retrieve(x, y)), weights)
            along = sum((w.grad * r).sum() for w, r in zip(weights, reference, strict=True))
            if along < 0:
                length = sum((r * r).sum() for r in reference)
                for w, r in zip(weights, reference, strict=True):
                    w.grad -= along / length * r
        self._optimiser.step()
        self._memory.extend(x, y)
