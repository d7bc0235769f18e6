"""Piggyback: the first task's network stays as it is; a later task learns only which of its weights to use, and a head.

Mallya et al., Piggyback: adapting a single network to multiple tasks by learning to mask weights, ECCV 2018. Binary masks, or
ternary ones, which may also turn a weight's sign; two Adams, 30 epochs. On a stream without a backbone that is the first task's
network, trained from scratch and not pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from edgecl.heads.parts import masks
from edgecl.heads.parts.picking import pick
from edgecl.learners.cpg.data import TaskData, epoch
from edgecl.learners.cpg.goals import ALONE
from edgecl.learners.cpg.learning import learn, released
from edgecl.learners.cpg.settings import Base, Schedule
from edgecl.learners.cpg.shared_net import Developed, SharedNet
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work, scores_of
from edgecl.learners.parts.networks.base import Network, Tensor, nn, torch
from edgecl.learners.parts.settings import one_of, real

MASKS = Schedule(30, 1e-4, (15,))  # Adam's; the settings say its rate
_PHASE = 5
_SCALES: dict[str, Callable[[Tensor], Tensor]] = {  # what a layer's mask gradient is divided by
    "mean": lambda weight: weight.abs().mean(),
    "weight": lambda weight: weight.abs().clamp_min(1e-12),
}


@dataclass(frozen=True)
class Config(Base):
    """The published settings."""

    mask: str = "binary"  # or ternary
    mask_lr: float = 1e-4  # Adam, as the head's
    scale_gradient: str = "none"  # divided by the layer's mean magnitude: mean; by each weight's: weight

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("mask", self.mask, ("binary", "ternary"))
        real("mask_lr", self.mask_lr, 0, above=True)
        one_of("scale_gradient", self.scale_gradient, ("none", *_SCALES))


class Piggyback(SharedNet):
    """A backbone, then masks."""

    kind: ClassVar[str] = "piggyback"
    config: Config

    @classmethod
    def stages(cls, config: Any, task: int) -> list[Stage]:
        if task == 1:
            return [] if config.pretrained else [Stage("learning", ALONE.scaled(config.scale).epochs)]
        return [Stage("learning masks", MASKS.scaled(config.scale).epochs, picks=True)]

    def _develop(self, task: int, data: TaskData) -> Developed:
        name = f"{task:03d}-A-1"
        if task == 1:
            schedule = ALONE.scaled(self.config.scale)
            state = self.job.phase(name, None, lambda b: learn(self.job, b, 1, data, 1.0, schedule, picks=False))
            return Developed(state, {}, {})
        state = self.job.phase(name, self.before(task), lambda before: self._mask(before, task, data))
        if self.config.mask == "binary":
            return Developed(state, {n: masks.picked(s) for n, s in state.scores.items()}, {})
        signs = {n: masks.ternary(s) for n, s in state.scores.items()}
        return Developed(state, {n: s != 0 for n, s in signs.items()}, {n: s < 0 for n, s in signs.items()})

    def _mask(self, before: State, task: int, data: TaskData) -> State:
        config = self.config
        state = released(self.job, before, task, data, before.multiplier).fresh_scores()
        net = self.job.network(before.multiplier)
        work = _Masked(net, state, task, config)
        schedule = replace(MASKS, lr=config.mask_lr).scaled(config.scale)
        told = self.job.epochs("learning masks", schedule.epochs)
        draw = self.job.numpy(_PHASE, task)
        share = work.train_masks(data, schedule, draw, told)
        return work.state(work.accuracy(data), share)

    def _phases(self, task: int) -> list[str]:
        return [f"{task:03d}-A-1"]


class _Masked(Work):
    """Scores and head learn, nothing else."""

    _config: Config

    def __init__(self, net: Network, state: State, task: int, config: Config) -> None:
        super().__init__(net, state, task, config, train_private=False)
        net.load(state.weights)

    def features(self, x: Tensor) -> Tensor:
        ternary = self._config.mask == "ternary"
        chosen = {name: pick(self.weights[name], scores, ternary=ternary) for name, scores in self.scores.items()}
        return torch.func.functional_call(self.net.module, chosen, (x,))

    def train_masks(
        self, data: TaskData, schedule: Schedule, draw: np.random.Generator, told: Callable[[int, float], bool]
    ) -> float:
        """Returns the running training accuracy of the last epoch."""
        for value in self.net.module.parameters():
            value.requires_grad_(False)
        adams = [torch.optim.Adam(list(group.values()), schedule.lr, fused=True) for group in (self.scores, self.head)]
        for value in self.scores.values():
            value.requires_grad_()
        divide = _SCALES.get(self._config.scale_gradient)
        share = 0.0
        for at in range(schedule.epochs):
            right = 0
            for x, y in epoch(data, data.batch, self._config.augment, draw, self._config.cutout):
                right += self._mask_step(x.to(self._device), y.to(self._device), adams, divide)
            for adam in adams:
                for group in adam.param_groups:
                    group["lr"] = schedule.lr * 0.1 ** sum(at + 1 >= drop for drop in schedule.drops)
            share = right / len(data)
            told(at, share)
        return share

    def _mask_step(self, x: Tensor, y: Tensor, adams: list[Any], divide: Callable[[Tensor], Tensor] | None) -> int:
        self.net.module.eval()  # batch norm is the backbone's
        for adam in adams:
            adam.zero_grad()
        scores = scores_of(self.features(x), self.head)
        nn.functional.cross_entropy(scores, y).backward()
        if divide is not None:
            for name, value in self.scores.items():
                value.grad.div_(divide(self.weights[name]))
        for adam in adams:
            adam.step()
        return int((scores.detach().argmax(1) == y).sum())
