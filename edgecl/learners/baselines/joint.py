"""Joint learning: everything seen is kept, and learned afresh after each experience. The upper bound, which forgets nothing.

A linear network is brought to the minimum of its regularised cross-entropy by L-BFGS; others take epochs of their optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.baselines.networks import NetLearner
from edgecl.learners.parts.nets import NetConfig, kind, losses, torch
from edgecl.learners.parts.settings import one_of, whole
from edgecl.types import Ints


@dataclass(frozen=True)
class Config(NetConfig):
    space: str = "auto"  # of vectors: or plain, unit_sqrt
    weight_decay: float = 1e-6
    solver: str = "auto"  # or lbfgs, epochs; auto: L-BFGS for a linear net
    epochs: int = 30  # over all that was seen, after each experience
    batch: int = 32  # samples a step
    iterations: int = 300  # of L-BFGS, at most

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("solver", self.solver, ("auto", "lbfgs", "epochs"))
        for name in ("epochs", "batch", "iterations"):
            whole(name, getattr(self, name), 1)


class Joint(NetLearner):
    """Holds the whole stream."""

    online = False

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._order = np.random.default_rng([seed, 1])
        self._x: list[NDArray[Any]] = []
        self._y: list[Ints] = []

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        self._x.append(np.array(x))
        self._y.append(np.array(y))

    def end_task(self) -> None:
        self._renew()
        self._x, self._y = [np.concatenate(self._x)], [np.concatenate(self._y)]
        solver = self.config.solver
        if solver == "lbfgs" or (solver == "auto" and kind(self.shape, self.config) == "linear"):
            with self._threads():
                self._minimise()
        else:
            self._fit(self._x[0], self._y[0], self.config.epochs, self.config.batch, self._order)

    def _minimise(self) -> None:
        """Mean cross-entropy plus half `weight_decay` times the squared weights, as an optimiser's weight decay means it."""
        inputs, weights = self._input(self._x[0]), list(self._net.parameters())
        solver = torch.optim.LBFGS(weights, max_iter=self.config.iterations, history_size=20, line_search_fn="strong_wolfe")

        def closure() -> Any:
            solver.zero_grad()
            penalty = self.config.weight_decay / 2 * sum(w.square().sum() for w in weights)
            loss = losses(self._net(inputs), self._y[0]).mean() + penalty
            loss.backward()
            return loss

        solver.step(closure)

    def _held(self) -> int:
        return super()._held() + sum(part.nbytes for part in [*self._x, *self._y])
