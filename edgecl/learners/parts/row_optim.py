"""Optimisers that move a row only where it has a gradient, and remember each row by itself.

The usual ones go on moving a memory unit that did not win: by momentum, by Adam's averages, by weight decay. A row here is a
vector along the last axis; one whose gradient is all zero keeps its bits, its momentum and its count of steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from edgecl.errors import ConfigError, MissingDependency

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise MissingDependency("these optimisers need torch: pip install 'edgecl[learn]'") from error

Settings = dict[str, Any]  # of a parameter group


class Rows(torch.optim.Optimizer, ABC):
    """A leaf implements `_direction`."""

    def __init__(self, params: Iterable[Any], lr: float, **defaults: Any) -> None:
        if not lr > 0 or defaults["weight_decay"] < 0:
            raise ConfigError(f"lr must be above 0 and weight_decay not below, got {lr} and {defaults['weight_decay']}")
        super().__init__(params, {"lr": lr, **defaults})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                values, gradient = (t.view(-1, t.shape[-1]) for t in (parameter, parameter.grad.contiguous()))
                rows = torch.nonzero(gradient.ne(0).any(1)).flatten()
                if len(rows):
                    slope = gradient[rows] + group["weight_decay"] * values[rows]
                    values[rows] -= group["lr"] * self._direction(group, self.state[parameter], values, rows, slope)

    @abstractmethod
    def _direction(self, group: Settings, state: dict[str, Tensor], values: Tensor, rows: Tensor, slope: Tensor) -> Tensor:
        """Where the rows (r,) of values go, (r, n), from their gradients `slope`; a step of length lr."""

    def forget(self, parameter: Tensor, rows: Iterable[int]) -> None:
        """Rows (of the parameter with its leading axes joined) that hold something else now: their past says nothing."""
        for value in self.state[parameter].values():
            value[list(rows)] = 0


class RowSGD(Rows):
    """SGD; weight decay and momentum act on a row in the steps in which it has a gradient."""

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def _direction(self, group: Settings, state: dict[str, Tensor], values: Tensor, rows: Tensor, slope: Tensor) -> Tensor:
        if not group["momentum"]:
            return slope
        if not state:
            state["momentum"] = torch.zeros_like(values)
        state["momentum"][rows] = group["momentum"] * state["momentum"][rows] + slope
        return state["momentum"][rows]


class RowAdam(Rows):
    """Adam (Kingma and Ba, 2015) whose averages, and their bias correction, count a row's own steps."""

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, betas=betas, weight_decay=weight_decay)

    def _direction(self, group: Settings, state: dict[str, Tensor], values: Tensor, rows: Tensor, slope: Tensor) -> Tensor:
        if not state:
            state["mean"], state["square"] = torch.zeros_like(values), torch.zeros_like(values)
            state["steps"] = values.new_zeros(len(values), 1)
        first, second = group["betas"]
        steps = state["steps"][rows] + 1
        mean = first * state["mean"][rows] + (1 - first) * slope
        square = second * state["square"][rows] + (1 - second) * slope.square()
        state["steps"][rows], state["mean"][rows], state["square"][rows] = steps, mean, square
        return mean / (1 - first**steps) / ((square / (1 - second**steps)).sqrt() + 1e-8)
