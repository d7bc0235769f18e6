"""The optimisers of a phase: SGD for what the task owns, Adam for its scores of older weights; all else stays as it is.

The network's parameters hold the effective weights. A task's own weights are always picked, so their gradient is that of the
effective ones; older weights are constant, so their scores' gradient is that times the constant. That is what `picking.pick`
gives (a test compares them), without its arrays.

Arrays of the size of a layer do not fit into a cache, so a step costs what it reads and writes of them. While picks learn,
older weights are written anew after every step, so SGD may do with them what it likes. Own weights and older ones lie in
different places, so one gradient serves both optimisers: multiplied by 1 where the task owns, by the older weight where it
picks. What Adam does to scores of own weights has no effect: there they are -inf, which picks nothing, and `Work.state` puts
their start back. Operations on whole layers are done piece by piece, so that what one writes the next finds in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, prod
from typing import Any

from edgecl.heads.parts.masks import TAU
from edgecl.heads.parts.picking import keep_own
from edgecl.learners.parts.networks.base import Tensor, torch

MOMENTUM = 0.9
_PIECE = 1 << 15  # numbers; five pieces at a time are less than a MB


class Steps:
    """Optimisers with nothing learned yet, over arrays that stay the caller's.

    weights: effective, by layer; decay: theirs.   private: what else learns by SGD.   own: 1 where the task owns a weight, 0
    elsewhere; entries may be replaced between steps as long as no scores learn.   scores: those that learn, by layer, or none.
    older: older weights, 0 elsewhere, of the layers with scores.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        private: Sequence[Tensor],
        own: Mapping[str, Tensor],
        decay: float,
        scores: Mapping[str, Tensor],
        older: Mapping[str, Tensor],
    ) -> None:
        self._weights, self._own, self._decay, self._scores = weights, own, decay, scores
        groups = [{"params": list(weights.values())}, {"params": list(private)}]
        self._sgd = torch.optim.SGD(groups, 1.0, momentum=MOMENTUM, nesterov=True, fused=True)
        self._adam = torch.optim.Adam(list(scores.values()), fused=True) if scores else None
        self._factors = {name: own[name] + older[name] for name in scores}
        for name, value in scores.items():
            value.masked_fill_(own[name] == 1, -inf)
        size = _piece(weights)
        self._picked = torch.empty(min(size, max((prod(v.shape) for v in scores.values()), default=0)), device=_device(weights))
        self._pieces = [
            piece for name in scores for piece in _pieces(size, weights[name], own[name], self._factors[name], scores[name])
        ]

    def set_rates(self, lr: float, mask_lr: float) -> None:
        """Of the steps from here on."""
        for group in self._sgd.param_groups:
            group["lr"] = lr
        if self._adam is not None:
            self._adam.param_groups[0]["lr"] = mask_lr

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        self._sgd.zero_grad()

    def step(self, owns_all: bool) -> None:
        """By the gradients of the effective weights, which it writes into. owns_all: the task owns every weight."""
        with torch.no_grad():
            # SGD's own decay costs nothing; where it would reach what must not move, gradients decay in its place.
            self._sgd.param_groups[0]["weight_decay"] = self._decay if owns_all or self._adam is not None else 0.0
            if not owns_all and self._adam is None:
                self._only_own()
            for name, scores in self._scores.items():
                scores.grad = self._weights[name].grad.mul_(self._factors[name])
            self._sgd.step()
            if self._adam is not None:
                if self._adam.param_groups[0]["lr"]:
                    self._adam.step()
                self._pick()

    def _only_own(self) -> None:
        """Gradients, so that neither SGD nor decay moves what the task does not own."""
        for name, weight in self._weights.items():
            for grad, value, own in _pieces(_piece(self._weights), weight.grad, weight, self._own[name]):
                keep_own(grad, value, own, self._decay)

    def _pick(self) -> None:
        """Effective weights: own ones as SGD left them, older ones where their score picks them."""
        for weight, own, factor, scores in self._pieces:
            picked = self._picked[: len(scores)]
            torch.gt(scores, TAU, out=picked)
            weight.mul_(own).addcmul_(factor, picked)


def _device(weights: Mapping[str, Tensor]) -> Any:
    return next(iter(weights.values())).device


def _piece(weights: Mapping[str, Tensor]) -> int:
    """Of a GPU a whole layer: there a call costs more than it saves."""
    return _PIECE if _device(weights).type == "cpu" else max(prod(w.shape) for w in weights.values())


def _pieces(size: int, *arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same places of contiguous arrays of one shape."""
    return zip(*(array.detach().view(-1).split(size) for array in arrays), strict=True)
