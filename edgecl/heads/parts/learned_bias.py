"""A bias that learns behind a frozen convolution, at no more than it has to cost."""

from __future__ import annotations

from typing import Any

from edgecl.errors import MissingDependency

try:
    from edgecl.rom.surgery import Tensor
    from edgecl.rom.torch_compat import torch
except ModuleNotFoundError as error:
    raise MissingDependency("learning inside the ROM needs PyTorch: pip install 'edgecl[learn]'") from error


class _LearnedBias(torch.autograd.Function):
    """Nothing forward; backward, the gradient of a bias that is in y already, which is the sum over all its places.

    Asked for it, PyTorch's CPU convolution computes the gradient of its frozen weights as well: half the time of a step.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # though nothing changes: activations behind it may work in place, which a view does not allow
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        return gradient, gradient.sum((0, 2, 3))


def learned_bias(y: Tensor, bias: Tensor) -> Tensor:
    """`y` as it is, which has `bias` in it already; the bias learns, the weights do not."""
    out: Tensor = _LearnedBias.apply(y, bias)
    return out
