"""A-GEM: a step never goes against the mean gradient on what is remembered (Chaudhry et al., ICLR 2019).

Where the batch's gradient g and the memory's reference r disagree, g'r < 0, the step is along g - (g'r / r'r) r.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgecl.learners.baselines.er import Config, Er
from edgecl.learners.parts.nets import loss_of, torch
from edgecl.types import Ints

__all__ = ["Agem", "Config"]


class Agem(Er):
    """The memory of `er`, used as a constraint: `replay` samples give the reference of each step."""

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        weights = list(self._net.parameters())
        slopes = torch.autograd.grad(loss_of(self._net(self._input(x)), torch.from_numpy(y)), weights)
        if len(self._memory):
            old_x, old_y = self._retrieve(x, y)
            reference = torch.autograd.grad(loss_of(self._net(self._input(old_x)), torch.from_numpy(old_y)), weights)
            along = sum((g * r).sum() for g, r in zip(slopes, reference, strict=True))
            if along < 0:
                length = sum((r * r).sum() for r in reference)
                slopes = [g - along / length * r for g, r in zip(slopes, reference, strict=True)]
        for w, g in zip(weights, slopes, strict=True):
            w.grad = g
        self._optimiser.step()
        self._memory.extend(x, y)
