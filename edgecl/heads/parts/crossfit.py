"""Plugs learned so that the closed-form head generalises.

A head trained together with the plugs by plain cross-entropy soon fits a few hundred pictures by heart, and nothing is left
to teach the plugs. Here the head is never trained by gradient. Before each epoch the pictures are dealt anew into folds, and
for each fold the discriminant is fitted in closed form on the others' newest features. A picture is then scored by a head
that has not seen it, so its loss is an estimate of the loss on new pictures, and that is what the plugs descend.
(In the spirit of Bertinetto et al., Meta-learning with differentiable closed-form solvers, ICLR 2019; here the head is a
constant of the step, and the support is the rest of the task.)

The state after each epoch is all that the next one depends on, so learning continues bit for bit after a power cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.errors import RomError
from edgecl.heads.parts import checkpoint, discriminant
from edgecl.heads.parts.folded import PACE, FoldedNetwork
from edgecl.heads.parts.views import Views
from edgecl.rom.surgery import Tensor
from edgecl.rom.torch_compat import torch
from edgecl.space import unit_sqrt
from edgecl.types import Arrays, Floats, Ints

FOLDS = 4
_BETAS, _EPS = (0.9, 0.99), 1e-8
_WARM_UP, _START = 0.25, 0.1  # share of the steps in which the rate climbs, and from which part of its peak
PART = 16  # pictures a pass; a step of 32 would hold 600 MB of activations on the default ROM
_NOTHING = 1e-6  # of probability
_ROOT = 1e-6  # keeps the slope of the square root finite at 0


@dataclass(frozen=True)
class Schedule:
    """epochs: over the pictures.   batch: pictures a step.   rate: peak of Adam's step, in units of what the norms give out."""

    epochs: int
    batch: int = 32
    rate: float = 1e-2


@dataclass
class State:
    """All that the next epoch depends on.

    values, first, second: of each learned array, and Adam's two moments.   newest: (n, d) latest features of each picture.
    kept, loss: the arrays and the mean loss of the best epoch so far.
    """

    epoch: int
    step: int
    values: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    newest: Floats
    kept: list[Tensor]
    loss: float


def rate_at(step: int, steps: int, peak: float) -> float:
    """One cycle: a cosine up to the peak in the first quarter, a cosine down to nothing."""
    up = max(1, round(_WARM_UP * steps))
    if step < up:
        return peak * (_START + (1 - _START) * (1 - math.cos(math.pi * step / up)) / 2)
    return peak * (1 + math.cos(math.pi * (step - up) / max(1, steps - up))) / 2


def learn(
    network: FoldedNetwork,
    views: Views,
    labels: Ints,
    classes: int,
    plain: Floats,
    schedule: Schedule,
    *,
    seed: int,
    rows: Ints | None = None,
    saved: checkpoint.Checkpoint | None = None,
    stage: str = "learn",
    tick: Callable[[int], None] = lambda pictures: None,
) -> tuple[int, list[float]]:
    """Teach the network's plugs; returns the epochs done and their mean losses.

    labels: (n,).   plain: (n, d) features of the pictures before the first epoch.   rows: of the pictures to learn from; None
    takes all.   saved: where the state is kept after each epoch, and found again.   Ctrl-C ends the learning with the best
    epoch so far; before the end of the first one it is passed on.
    """
    everyone = np.arange(len(labels)) if rows is None else rows
    names_values = list(network.parameters())
    values = [value for _, value in names_values]
    paces = [PACE.get(name.partition("/")[0], 1.0) for name, _ in names_values]
    zeros = [torch.zeros_like(v) for v in values]
    state = State(0, 0, values, zeros, [z.clone() for z in zeros], plain.copy(), [v.detach().clone() for v in values], math.inf)
    losses: list[float] = []
    if saved is not None:
        losses = _restore(saved.read(stage), state)
    steps = schedule.epochs * -(-len(everyone) // schedule.batch)
    try:
        while state.epoch < schedule.epochs:
            loss = _epoch(network, views, labels, classes, state, schedule, steps, seed, everyone, tick, paces)
            if not math.isfinite(loss):
                raise RomError(f"the features of ROM {network.rom_id[:12]} left the range of numbers while plugs learned there")
            losses.append(loss)
            if loss < state.loss:
                state.loss, state.kept = loss, [v.detach().clone() for v in values]
            if saved is not None:
                saved.write(stage, _arrays(state, losses))
    except KeyboardInterrupt:
        if not losses:
            raise
        with torch.no_grad():
            for value, kept in zip(values, state.kept, strict=True):
                value.copy_(kept)
    return state.epoch, losses


def _epoch(
    network: FoldedNetwork,
    views: Views,
    labels: Ints,
    classes: int,
    state: State,
    schedule: Schedule,
    steps: int,
    seed: int,
    rows: Ints,
    tick: Callable[[int], None],
    paces: list[float],
) -> float:
    """One pass over the pictures; the state is changed at its end only, so that an interruption leaves a whole epoch."""
    rng = np.random.default_rng([seed, state.epoch])
    fold = np.zeros(len(labels), np.int64)
    for c in range(classes):  # each class over all folds, or a head might never have seen one
        own = rng.permutation(rows[labels[rows] == c])
        fold[own] = (np.arange(len(own)) + rng.integers(FOLDS)) % FOLDS
    z = unit_sqrt(state.newest)
    heads = []
    for f in range(FOLDS):
        others = rows[fold[rows] != f]
        d = discriminant.fit(z[others], labels[others], classes)
        heads.append((d.w, d.b))
    device = state.values[0].device
    w = torch.tensor(np.stack([w for w, _ in heads]), dtype=torch.float32, device=device)
    b = torch.tensor(np.stack([b for _, b in heads]), dtype=torch.float32, device=device)
    variant = 1 + state.epoch % views.variants if views.variants else 0
    total, step, newest = 0.0, state.step, state.newest.copy()
    values, first, second = state.values, [m.clone() for m in state.first], [m.clone() for m in state.second]
    before = [v.detach().clone() for v in values]
    try:
        for at in np.array_split(rng.permutation(rows), -(-len(rows) // schedule.batch)):
            gradients = [torch.zeros_like(v) for v in values]
            for part in np.array_split(at, -(-len(at) // PART)):
                features = network.upper(views.batch(variant, part))
                which, y = torch.from_numpy(fold[part]).to(device), torch.from_numpy(labels[part]).to(device)
                root = torch.sign(features) * torch.sqrt(features.abs() + _ROOT)
                unit = root / root.norm(dim=1, keepdim=True).clamp_min(1e-12)
                scores = torch.stack([u @ w[f].T + b[f] for u, f in zip(unit, which.tolist(), strict=True)])
                loss, slope = _cross_entropy(scores, y)
                own = torch.autograd.grad(scores, values, slope / len(at))
                for whole, part_of_it in zip(gradients, own, strict=True):
                    whole += part_of_it
                newest[part] = features.detach().float().cpu().numpy()
                total += loss
            step += 1
            _adam(values, gradients, first, second, step, rate_at(step - 1, steps, schedule.rate), paces)
            tick(len(at))
    except KeyboardInterrupt:
        with torch.no_grad():
            for value, old in zip(values, before, strict=True):
                value.copy_(old)
        raise
    state.epoch, state.step, state.first, state.second, state.newest = state.epoch + 1, step, first, second, newest
    return total / len(rows)


def _cross_entropy(scores: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """The sum of the losses, and its slope by the scores (n, k), without what is next to nothing.

    A picture that is told apart with certainty has slopes of 1e-30; times weights, layer after layer, they become denormal
    numbers, on which a CPU works ten times as long. On an easy task that was most of the time.
    """
    log_p = torch.nn.functional.log_softmax(scores.detach(), 1)
    slope = log_p.exp()
    slope[torch.arange(len(y), device=y.device), y] -= 1
    slope[slope.abs() < _NOTHING] = 0
    return float(-log_p.gather(1, y[:, None]).sum()), slope


def _arrays(state: State, losses: list[float]) -> dict[str, Any]:
    """The state as it lies in a checkpoint."""
    groups = {"value": state.values, "first": state.first, "second": state.second, "kept": state.kept}
    out = {f"{kind}/{i}": v.detach().cpu().numpy() for kind, group in groups.items() for i, v in enumerate(group)}
    return out | {
        "newest": state.newest,
        "counts": np.array([state.epoch, state.step], np.int64),
        "losses": np.array([state.loss, *losses], np.float64),
    }


def _restore(arrays: Arrays | None, state: State) -> list[float]:
    """Take up a checkpoint, if there is one; returns the losses of the epochs done."""
    if arrays is None:
        return []
    groups = {"value": state.values, "first": state.first, "second": state.second, "kept": state.kept}
    with torch.no_grad():
        for kind, group in groups.items():
            for i, tensor in enumerate(group):
                tensor.copy_(torch.from_numpy(arrays[f"{kind}/{i}"].copy()))
    state.newest = arrays["newest"].copy()
    state.epoch, state.step = (int(v) for v in arrays["counts"])
    state.loss, *losses = (float(v) for v in arrays["losses"])
    return losses


@torch.no_grad()
def _adam(
    values: list[Tensor],
    gradients: Any,
    first: list[Tensor],
    second: list[Tensor],
    step: int,
    rate: float,
    paces: list[float],
) -> None:
    for value, gradient, m, v, pace in zip(values, gradients, first, second, paces, strict=True):
        m.lerp_(gradient, 1 - _BETAS[0])
        v.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        size = (v / (1 - _BETAS[1] ** step)).sqrt_().add_(_EPS)
        value.addcdiv_(m, size, value=-rate * pace / (1 - _BETAS[0] ** step))
