"""Learning which shared weights to use: scores beside frozen weights, with a gradient straight through the threshold. PyTorch.

Mallya et al., Piggyback, ECCV 2018; Hung et al., Compacting, Picking and Growing, NeurIPS 2019.
"""

from __future__ import annotations

from typing import Any

from edgecl.errors import MissingDependency
from edgecl.heads.parts.masks import TAU

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingDependency("learning picks needs PyTorch: pip install 'edgecl[learn]'") from error

Tensor = Any


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, tau: float, ternary: bool) -> Tensor:
        factor = (scores > tau).to(weight.dtype)
        if ternary:
            factor -= (scores < 0).to(weight.dtype)
        ctx.save_for_backward(weight, factor)
        return weight * factor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        weight, factor = ctx.saved_tensors
        to_weight = grad * factor if ctx.needs_input_grad[0] else None
        to_scores = grad * weight if ctx.needs_input_grad[1] else None
        return to_weight, to_scores, None, None


def pick(weight: Tensor, scores: Tensor, tau: float = TAU, *, ternary: bool = False) -> Tensor:
    """The weights whose score is strictly above `tau`, 0 elsewhere; ternary: where the score is below zero, turned in sign.

    Backwards the threshold counts as the identity: with G the gradient of the result, the scores' is G * weight and the
    weight's is G * factor.
    """
    found: Tensor = _Pick.apply(weight, scores, tau, ternary)
    return found


def keep_own(grad: Tensor, weight: Tensor, own: Tensor, decay: float) -> None:
    """In place: the gradient of the task's own weights with weight decay, 0 for all others: these neither move nor decay.

    own: of the weights' shape, bool or 0 and 1.
    """
    if decay:
        grad.add_(weight, alpha=decay)
    grad.mul_(own)


def keep_old(grad: Tensor, old: Tensor) -> None:
    """In place: the gradient of the scores of older tasks' weights, 0 for all others."""
    grad.mul_(old)
