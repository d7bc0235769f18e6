"""Epochs of one task over weights of which others own a part: the step that every phase shares, and judging.

Weights of other tasks get no gradient and no decay, and their optimiser starts from zero, so no step moves them by a bit.

The network's parameters hold the effective weights themselves. A task's own weights are always picked, so their gradient is
that of the effective ones; older weights are constant, so their scores' gradient is that times the constant. That is what
`picking.pick` gives (a test compares them), without its arrays: a fresh array of the size of a layer costs as much time as ten
operations on one that is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgecl.heads.parts import masks
from edgecl.heads.parts.masks import FREE, TAU
from edgecl.heads.parts.picking import keep_own
from edgecl.learners.cpg.data import TaskData, epoch, tensor
from edgecl.learners.cpg.settings import Base, Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.parts.networks.base import Network, Tensor, linear_head, nn, numbers, torch
from edgecl.learners.parts.networks.sphere import angular_head, angular_loss, angular_scores
from edgecl.metrics import verification
from edgecl.types import Floats, Ints

MOMENTUM = 0.9
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
        old = {name: masks.old(state.owners[name], task) for name in bits}
        self._others = {name: self._tensor(masks.effective(state.weights[name], old[name])) for name in bits}
        self._picked = {name: torch.empty_like(value) for name, value in self.scores.items()}
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
        private = [value for value in self.net.private.values() if value.requires_grad] if self._train_private else []
        for value in self.net.private.values():
            if value.is_floating_point() and isinstance(value, nn.Parameter):
                value.requires_grad_(self._train_private)
        trained = [*self.weights.values(), *private, *self.head.values()]
        sgd = torch.optim.SGD(trained, schedule.lr, momentum=MOMENTUM, nesterov=True, fused=True)
        learns_scores = schedule.mask_lr > 0 and bool(self.scores)
        for value in self.scores.values():
            value.grad = torch.zeros_like(value) if learns_scores else None
        adam = torch.optim.Adam(list(self.scores.values()), schedule.mask_lr, fused=True) if learns_scores else None
        self._class_weights = None if data.weights is None else self._tensor(data.weights)
        step, share = 0, 0.0
        for at in range(schedule.epochs):
            for group in sgd.param_groups:
                group["lr"] = schedule.lr * _DROP ** sum(at >= drop for drop in schedule.drops)
            if adam is not None:
                for group in adam.param_groups:
                    group["lr"] = self._mask_lr(schedule, at)
            right = 0
            for x, y in epoch(data, data.batch, self._config.augment, draw, self._config.cutout):
                right += self._step(x.to(self._device), y.to(self._device), sgd, adam, step)
                after_step(step)
                step += 1
            share = right / len(data)
            self.settle()
            if not after_epoch(at, share):
                break
        return share

    def _mask_lr(self, schedule: Schedule, at: int) -> float:
        """Where the task owns nothing, picks are all that learns: they go on to the end."""
        stopped = schedule.mask_stop is not None and at >= schedule.mask_stop and any(own.any() for own in self._own.values())
        dropped = bool(schedule.drops) and at >= schedule.drops[0]
        return 0.0 if stopped else schedule.mask_lr * (_MASK_DROP if dropped else 1.0)

    def _step(self, x: Tensor, y: Tensor, sgd: Any, adam: Any, step: int) -> int:
        """One; returns how many of the batch were right."""
        self.net.module.train(self._train_private)
        sgd.zero_grad()
        found = self.features(x)
        if "bias" in self.head:
            scores = scores_of(found, self.head)
            loss = nn.functional.cross_entropy(scores, y, self._class_weights)
        else:
            scores, loss = angular_scores(found, self.head["weight"]), angular_loss(found, self.head["weight"], y, step)
        loss.backward()
        with torch.no_grad():
            if adam is not None:
                for name, value in self.scores.items():
                    torch.mul(self.weights[name].grad, self._others[name], out=value.grad)
            for name, weight in self.weights.items():
                keep_own(weight.grad, weight, self._own[name], self._config.decay)
        sgd.step()
        if adam is not None:
            adam.step()
            self._pick_again()
        return int((scores.detach().argmax(1) == y).sum())

    def _pick_again(self) -> None:
        """Effective weights follow the scores."""
        with torch.no_grad():
            for name, scores in self.scores.items():
                torch.gt(scores, TAU, out=self._picked[name])
                self.weights[name].mul_(self._own[name]).addcmul_(self._others[name], self._picked[name])

    def prune(self, share: float, *, own_pool: bool = False) -> None:
        """Give back the smallest weights of each layer; they stay in use until `settle`."""
        for name, weight in self.weights.items():
            values = weight.detach().cpu().numpy()
            self.owners[name] = masks.prune(values, self.owners[name], self.task, share, own_pool=own_pool)
            self._own[name] = self._tensor((self.owners[name] == self.task).astype(np.float32))

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

    def state(self, accuracy: float, train_accuracy: float) -> State:
        """Where the phase has come to, in arrays of its own."""
        self.settle()
        return replace(
            self._start,
            weights=self._shared(),
            owners={name: owner.copy() for name, owner in self.owners.items()},
            private=numbers(self.net.private),
            head=numbers(self.head),
            scores=numbers(self.scores),
            accuracy=accuracy,
            train_accuracy=train_accuracy,
        )
