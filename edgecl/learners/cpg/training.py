"""Epochs of one task over weights of which others own a part: the step that every phase shares, and judging.

Weights of other tasks keep every bit through all steps (`steps`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgecl.heads.parts import masks
from edgecl.heads.parts.masks import FIRST_SCORE, FREE
from edgecl.learners.cpg.data import TaskData, epoch, tensor
from edgecl.learners.cpg.settings import Base, Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.steps import Steps
from edgecl.learners.parts.networks.base import Network, Tensor, linear_head, nn, numbers, torch
from edgecl.learners.parts.networks.sphere import angular_head, angular_loss, angular_scores
from edgecl.metrics import verification
from edgecl.types import Floats, Ints

ROWS = 256  # judged at once
_DROP, _MASK_DROP = 0.1, 0.2

Step = Callable[[int], None]  # told the number of the step that was made, the phase's first being 0


def new_head(features: int, classes: int, angular: bool, draw: Any) -> dict[str, Any]:
    """Arrays of a head for a task that begins."""
    return (angular_head if angular else linear_head)(features, classes, draw)


def scores_of(features: Tensor, head: dict[str, Tensor]) -> Tensor:
    """(n, k) of features (n, d); a head without a bias is an angular one."""
    if "bias" not in head:
        return angular_scores(features, head["weight"])
    return nn.functional.linear(features, head["weight"], head["bias"])


def embedded(net: Network, x: Any, mean: Floats, scale: Floats) -> Floats:
    """(n, features) of inputs as they came, by the network as it is."""
    net.module.eval()
    device = next(net.module.parameters()).device
    with torch.no_grad():
        parts = [net.module(tensor(x[i : i + ROWS], mean, scale).to(device)).cpu().numpy() for i in range(0, len(x), ROWS)]
    return np.concatenate(parts)


def verified(net: Network, x: Any, same: Ints, mean: Floats, scale: Floats) -> float:
    """The share of pairs that the network's features tell apart (`metrics.verification`)."""
    return verification.accuracy(verification.similarity(embedded(net, x, mean, scale)), same[::2] == 1)


class Work:
    """A network in the state in which a phase begins, and its steps. What it was given is not written into.

    task: whose turn it is.   train_private: batch norm and biases learn too; else they stay, statistics included.
    """

    def __init__(self, net: Network, state: State, task: int, config: Base, *, train_private: bool = True) -> None:
        self.net, self.task, self._config, self._train_private = net, task, config, train_private
        self._device = next(net.module.parameters()).device
        bits = {name: masks.picked(scores) for name, scores in state.scores.items()}
        used = {name: masks.used(o, task, bits.get(name)) | (o == FREE) for name, o in state.owners.items()}
        net.load({name: masks.effective(weight, used[name]) for name, weight in state.weights.items()} | state.private)
        self.owners = dict(state.owners)
        self._class_weights: Tensor | None = None
        self._start = state
        self.weights = net.weights
        self.head = {name: self._tensor(value).requires_grad_() for name, value in state.head.items()}
        self.scores = {name: self._tensor(value) for name, value in state.scores.items()}
        self._own = {name: self._tensor((o == task).astype(np.float32)) for name, o in self.owners.items()}
        self._owns_all = all(bool((o == task).all()) for o in self.owners.values())
        old = {name: masks.old(state.owners[name], task) for name in bits}
        self._older = {name: self._tensor(masks.effective(state.weights[name], old[name])) for name in bits}
        for value in net.module.parameters():
            value.requires_grad_(True)

    def _tensor(self, value: Any) -> Tensor:
        return torch.from_numpy(np.array(value)).to(self._device)

    def features(self, x: Tensor) -> Tensor:
        """By the weights that the task uses while it learns: those pruned in this epoch still count."""
        return self.net.module(x)

    def train(
        self,
        data: TaskData,
        schedule: Schedule,
        draw: np.random.Generator,
        *,
        after_step: Step = lambda step: None,
        after_epoch: Callable[[int, float], bool] = lambda epoch, train_accuracy: True,
    ) -> float:
        """Epochs until the schedule or `after_epoch`, told the epoch from 0 and its running accuracy, ends them.

        Returns the running training accuracy of the last epoch.
        """
        steps = self.steps(schedule.mask_lr)
        owns = any(bool(own.any()) for own in self._own.values())
        self._class_weights = None if data.weights is None else self._tensor(data.weights)
        step, share = 0, 0.0
        for at in range(schedule.epochs):
            steps.set_rates(schedule.lr * _DROP ** sum(at >= drop for drop in schedule.drops), mask_lr(schedule, at, owns))
            self.net.module.train(self._train_private)
            right = 0
            for x, y in epoch(data, data.batch, self._config.augment, draw, self._config.cutout):
                right += self.step(x.to(self._device), y.to(self._device), steps, step)
                after_step(step)
                step += 1
            share = right / len(data)
            self.settle()
            if not after_epoch(at, share):
                break
        return share

    def steps(self, mask_lr: float) -> Steps:
        """Optimisers of a phase that begins. mask_lr: 0 where scores do not learn."""
        private = [value for value in self.net.private.values() if isinstance(value, nn.Parameter)]
        for value in private:
            value.requires_grad_(self._train_private)
        also = [*(private if self._train_private else []), *self.head.values()]
        learn = self.scores if mask_lr > 0 else {}
        return Steps(self.weights, also, self._own, self._config.decay, learn, self._older)

    def step(self, x: Tensor, y: Tensor, steps: Steps, step: int) -> int:
        """One, the phase's `step`-th; returns how many of the batch were right."""
        steps.clear()
        found = self.features(x)
        if "bias" in self.head:
            scores = scores_of(found, self.head)
            loss = nn.functional.cross_entropy(scores, y, self._class_weights)
        else:
            scores, loss = angular_scores(found, self.head["weight"]), angular_loss(found, self.head["weight"], y, step)
        loss.backward()
        steps.step(self._owns_all)
        return int((scores.detach().argmax(1) == y).sum())

    def prune(self, share: float, *, own_pool: bool = False) -> None:
        """Give back the smallest weights of each layer; they stay in use until `settle`."""
        for name, weight in self.weights.items():
            values = weight.detach().cpu().numpy()
            self.owners[name] = masks.prune(values, self.owners[name], self.task, share, own_pool=own_pool)
            self._own[name] = self._tensor((self.owners[name] == self.task).astype(np.float32))
        self._owns_all = all(bool((o == self.task).all()) for o in self.owners.values())

    def settle(self) -> None:
        """Zero what nobody owns."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.masked_fill_(self._tensor(self.owners[name] == FREE), 0)

    def accuracy(self, data: TaskData) -> float:
        """On the samples that decide, free weights at 0."""
        self.settle()
        self.net.module.eval()
        if data.pairs:
            return verified(self.net, data.by, data.by_y, data.mean, data.scale)
        right = 0
        with torch.no_grad():
            for start in range(0, len(data.by_y), ROWS):
                x = tensor(data.by[start : start + ROWS], data.mean, data.scale).to(self._device)
                answers = scores_of(self.features(x), self.head).argmax(1).cpu().numpy()
                right += int((answers == data.by_y[start : start + ROWS]).sum())
        return right / len(data.by_y)

    def _shared(self) -> dict[str, Floats]:
        """The weights, those of others as they were."""
        found = numbers(self.weights)
        return {
            name: np.where(masks.old(self.owners[name], self.task), self._start.weights[name], w) for name, w in found.items()
        }

    def _scores(self) -> dict[str, Floats]:
        """Of older weights; all others at their start."""
        first = np.float32(FIRST_SCORE)
        return {n: np.where(masks.old(self.owners[n], self.task), s, first) for n, s in numbers(self.scores).items()}

    def state(self, accuracy: float, train_accuracy: float) -> State:
        """Where the phase has come to, in arrays of its own."""
        self.settle()
        return replace(
            self._start,
            weights=self._shared(),
            owners={name: owner.copy() for name, owner in self.owners.items()},
            private=numbers(self.net.private),
            head=numbers(self.head),
            scores=self._scores(),
            accuracy=accuracy,
            train_accuracy=train_accuracy,
        )


def mask_lr(schedule: Schedule, at: int, owns: bool) -> float:
    """Of epoch `at`. owns: whether the task owns weights; else picks are all that learns, and go on to the end."""
    stopped = schedule.mask_stop is not None and at >= schedule.mask_stop and owns
    dropped = bool(schedule.drops) and at >= schedule.drops[0]
    return 0.0 if stopped else schedule.mask_lr * (_MASK_DROP if dropped else 1.0)
