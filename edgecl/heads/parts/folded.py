"""The network as plugs learn in it: batch norms folded into convolutions, all of it frozen but the plugs.

Folding halves the time of a step. Since the ROM's norms have fixed statistics here, the folded network is the same function;
a kernel then acts on scale * c instead of c, so that its identity is a one in the centre, and what is learned translates
into plugs by one multiplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgecl.errors import RomError
from edgecl.rom.image import RomImage
from edgecl.rom.pytorch import load_network
from edgecl.rom.sockets import Plugs, Socket, norm_of
from edgecl.rom.surgery import Tensor, activation, cut, depthwise
from edgecl.rom.torch_compat import torch

nn = torch.nn


class PlugConv(torch.nn.Module):
    """A frozen convolution with its norm folded in, and what is learned behind it.

    shift: (C,), starts at 0.   kernel: (C, K, K), starts as the identity; None where only a shift is learned.
    """

    def __init__(self, conv: torch.nn.Module, socket: Socket, norm: torch.nn.Module | None) -> None:
        super().__init__()
        scale, offset = torch.ones(socket.channels), torch.zeros(socket.channels)
        if norm is not None:
            numbers = norm_of(socket, {f"{socket.norm}.{k}": v.numpy() for k, v in norm.state_dict().items()})
            assert numbers is not None
            scale, offset = torch.from_numpy(numbers.scale).float(), torch.from_numpy(numbers.offset).float()
        own = None if conv.bias is None else scale * conv.bias.detach()
        # A plain attribute in place of the parameter: what is set there changes from step to step.
        del conv.bias
        conv.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None], requires_grad=False)
        self.conv, self.socket, self.plain = conv, socket, norm is None
        self.scale: Tensor
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.register_buffer("own", own)
        self.shift: Tensor | None = None
        self.kernel: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        total = self.offset if self.shift is None else self.offset + self.shift
        if self.kernel is None:
            bias = total if self.own is None else total + self.own
            self.conv.bias = bias if self.shift is None else bias.detach()
            out: Tensor = self.conv(x)
            return out if self.shift is None else _learned_bias(out, bias)
        self.conv.bias = self.own
        y = self.conv(x)
        if self.kernel.shape[-1] == 1:
            return y * self.kernel.reshape(1, -1, 1, 1) + total.reshape(1, -1, 1, 1)
        return depthwise(y, self.kernel, total)

    def plug(self) -> tuple[np.ndarray | None, np.ndarray | None]:  # type: ignore[type-arg]
        """(shift, kernel) as plugs: differences from the plain ROM; None for what is not learned."""
        kernel = None
        if self.kernel is not None:
            kernel = self.kernel.detach().cpu().numpy().copy()
            side = kernel.shape[-1]
            kernel[:, side // 2, side // 2] -= 1
            kernel *= self.scale.cpu().numpy()[:, None, None]
        return None if self.shift is None else self.shift.detach().cpu().numpy().copy(), kernel

    @torch.no_grad()
    def set(self, shift: Any, kernel: Any) -> None:
        """The inverse of `plug`; where a norm's scale is zero, nothing that a kernel does there could show."""
        if self.shift is not None:
            self.shift.copy_(torch.from_numpy(np.asarray(shift)))
        if self.kernel is not None:
            scale = self.scale.cpu().numpy()[:, None, None]
            side = self.kernel.shape[-1]
            taps = np.divide(kernel, scale, out=np.zeros_like(kernel), where=np.abs(scale) > 1e-12)
            taps[:, side // 2, side // 2] += 1
            self.kernel.copy_(torch.from_numpy(taps))


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


def _learned_bias(y: Tensor, bias: Tensor) -> Tensor:
    out: Tensor = _LearnedBias.apply(y, bias)
    return out


class _Act(torch.nn.Module):
    """What remains of a folded norm: its activation."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return activation(self.norm, x)


class FoldedNetwork:
    """The ROM's network with plugs that learn, cut below the first of them.

    lower: picture -> what is there just below the first socket in use; never changes.   upper: from there to features.
    Where it cannot be cut, `lower` does nothing.
    """

    def __init__(self, image: RomImage, sides: Mapping[str, int], device: str = "cpu", weights: bool = False) -> None:
        """sides: socket name -> side of the kernel learned there, 0 for a shift alone; in the order of the sockets.

        weights: learn all weights and offsets of all convolutions in place of plugs (full fine-tuning); it is then not cut.
        """
        network = load_network(image)
        self.rom_id = image.rom_id
        self.convs: dict[str, PlugConv] = {}
        norms = [socket.norm for socket in image.sockets if socket.norm]
        if len(set(norms)) != len(norms):
            raise RomError(
                f"two convolutions of ROM {image.rom_id[:12]} share a norm: plugs cannot learn there, only linear heads"
            )
        for socket in image.sockets:
            norm = network.get_submodule(socket.norm) if socket.norm else None
            conv = PlugConv(network.get_submodule(socket.name), socket, norm)
            _put(network, socket.name, conv)
            if norm is not None:
                _put(network, socket.norm, _Act(norm))
            if socket.name in sides:
                self.convs[socket.name] = conv
        self.device = device
        network.to(device, memory_format=torch.channels_last)
        self._weights = [conv for conv in network.modules() if isinstance(conv, PlugConv)] if weights else []
        for conv in self._weights:
            conv.conv.weight.requires_grad_(True)
            conv.offset.requires_grad_(True)
        halves = cut(network, next(iter(sides)), (PlugConv, _Act)) if sides else None
        self.lower, self.upper = halves or (nn.Identity(), network)
        for name, side in sides.items():
            conv = self.convs[name]
            conv.shift = torch.zeros(conv.socket.channels, device=device, requires_grad=True)
            if side:
                kernel = torch.zeros(conv.socket.channels, side, side, device=device)
                kernel[:, side // 2, side // 2] = 1
                conv.kernel = kernel.requires_grad_(True)

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, value) of all that learns, in the order of the sockets."""
        for conv in self._weights:
            yield f"weight/{conv.socket.name}", conv.conv.weight
            yield f"offset/{conv.socket.name}", conv.offset
        for name, conv in self.convs.items():
            assert conv.shift is not None
            yield f"shift/{name}", conv.shift
            if conv.kernel is not None:
                yield f"kernel/{name}", conv.kernel

    @torch.no_grad()
    def set(self, plugs: Plugs) -> None:
        """Put plugs in place of what has been learned."""
        for name, conv in self.convs.items():
            conv.set(plugs.shift.get(name), plugs.kernel.get(name))

    def plugs(self) -> Plugs:
        """What has been learned so far."""
        found = {name: conv.plug() for name, conv in self.convs.items()}
        return Plugs(
            shift={name: shift for name, (shift, _) in found.items() if shift is not None},
            kernel={name: kernel for name, (_, kernel) in found.items() if kernel is not None},
        )


def _put(network: torch.nn.Module, path: str, module: torch.nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
