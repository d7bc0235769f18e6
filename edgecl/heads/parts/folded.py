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
from edgecl.heads.parts.learned_bias import learned_bias
from edgecl.heads.parts.masks import FIRST_SCORE, TAU
from edgecl.heads.parts.overlays import PICKS
from edgecl.heads.parts.picking import pick
from edgecl.rom.image import RomImage
from edgecl.rom.overlay import Below
from edgecl.rom.pytorch import load_network
from edgecl.rom.sockets import Plugs, Socket, norm_of
from edgecl.rom.surgery import Tensor, activation, cut, depthwise
from edgecl.rom.torch_compat import torch

nn = torch.nn
# Of the rate that shifts learn with: Adam moves a score by 5e-4 a step, as CPG does, and an own weight by 2e-3 of the spread of
# its layer's weights.
PACE = {"scores": 0.05, "own": 0.2, "gain": 0.5}


class PlugConv(torch.nn.Module):
    """A frozen convolution with its norm folded in, and what is learned behind it.

    shift: (C,), starts at 0.   kernel: (C, K, K), starts as the identity; None where only a shift is learned.
    scores, gain, own: where the convolution's weights are picked, see `learn_weights`.
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
        self.register_buffer("own_bias", own)
        self.shift: Tensor | None = None
        self.kernel: Tensor | None = None
        self.scores: Tensor | None = None
        self.gain: Tensor | None = None
        self.own: Tensor | None = None

    @torch.no_grad()
    def add_weights(self, values: Any) -> None:
        """Put other heads' weights into free places, values: of the weights' shape, in the units of the weights file."""
        weight = self.conv.weight
        weight += torch.from_numpy(values).to(weight.device) * self.scale[:, None, None, None]

    def learn_weights(self, free: Any, device: str) -> None:
        """Learn which weights are used, how much they count, and weights of its own in the places that are free.

        scores: of the weights' shape, all start as picked.   gain: (C,), starts at 0.   own: of the weights' shape, starts at
        0, in units of the layer's spread, so that one rate serves all layers; None where nothing is free.
        """
        weight = self.conv.weight.detach()
        del self.conv.weight  # as with the bias: what is set there changes from step to step
        self.register_buffer("weight", weight)
        self.scores = torch.full_like(weight, FIRST_SCORE).requires_grad_(True)
        self.gain = torch.zeros(len(weight), device=device, requires_grad=True)
        if free.any():
            places = torch.from_numpy(free).to(device)
            self.register_buffer("places", places)
            self.register_buffer("room", places * (weight[~places].std() if bool((~places).any()) else 1.0))
            self.own = torch.zeros_like(weight).requires_grad_(True)

    @torch.no_grad()
    def thin(self, share: float) -> None:
        """Keep the largest own weights, `share` of the free places; the others are 0 from now on."""
        if self.own is not None:
            size = (self.own * self.room).abs().flatten()
            count = round(share * int(self.places.sum()))
            kept = torch.zeros(size.shape, dtype=torch.bool, device=size.device)
            kept[torch.argsort(size, descending=True, stable=True)[:count]] = True
            self.room *= kept.reshape(self.room.shape)
            self.own *= self.room != 0

    def _effective(self) -> Tensor:
        assert self.scores is not None and self.gain is not None
        out = pick(self.weight, self.scores)
        if self.own is not None:
            out = out + self.own * self.room
        return out * (1 + self.gain)[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        if self.scores is not None:
            assert self.shift is not None
            self.conv.weight = self._effective()
            self.conv.bias = self.offset + self.shift if self.own_bias is None else self.offset + self.shift + self.own_bias
            learned: Tensor = self.conv(x)
            return learned
        total = self.offset if self.shift is None else self.offset + self.shift
        if self.kernel is None:
            bias = total if self.own_bias is None else total + self.own_bias
            self.conv.bias = bias if self.shift is None else bias.detach()
            out: Tensor = self.conv(x)
            return out if self.shift is None else learned_bias(out, bias)
        self.conv.bias = self.own_bias
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

    def picked(self) -> tuple[Any, Any, Any]:
        """(gain, used, own) as plugs, for weights that are learned."""
        assert self.scores is not None and self.gain is not None
        used = (self.scores.detach() > TAU).cpu().numpy()
        own = np.zeros(0, np.float32)
        if self.own is not None:
            free = self.places.cpu().numpy()
            raw = (self.own.detach() * self.room / self._divisor()).cpu().numpy()
            used[free] = raw[free] != 0
            own = raw[free & used]
        return self.gain.detach().cpu().numpy().copy(), used, own

    @torch.no_grad()
    def set_picked(self, gain: Any, used: Any, own: Any) -> None:
        """The inverse of `picked`. used: None for all but the free places."""
        assert self.scores is not None and self.gain is not None
        self.gain.copy_(torch.from_numpy(gain))
        if used is None:
            used = np.ones(self.scores.shape, np.bool_) if self.own is None else ~self.places.cpu().numpy()
        self.scores.copy_(torch.where(torch.from_numpy(used).to(self.scores.device), FIRST_SCORE, -FIRST_SCORE))
        if self.own is not None:
            raw = np.zeros(used.shape, np.float32)
            raw[self.places.cpu().numpy() & used] = own
            unit = torch.where(self.room == 0, 1.0, self.room)
            self.own.copy_(torch.from_numpy(raw).to(unit.device) * self._divisor() / unit)

    def _divisor(self) -> Tensor:
        """What the norm's scale does to a weight; where that is next to nothing, no weight shows."""
        return torch.where(self.scale.abs() < 1e-12, 1.0, self.scale)[:, None, None, None]

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

    def __init__(
        self,
        image: RomImage,
        sides: Mapping[str, int],
        device: str = "cpu",
        weights: bool = False,
        below: Below | None = None,
    ) -> None:
        """sides: socket name -> side of the kernel learned there, 0 for a shift alone, PICKS for a shift and the convolution's
        weights; in the order of the sockets.

        weights: learn all weights and offsets of all convolutions in place of plugs (full fine-tuning); it is then not cut.
        below: what other heads have put into free places; it is picked from like the ROM's weights, where they are learned.
        """
        network = load_network(image)
        self.rom_id = image.rom_id
        self._shared = set(below.taken) if below else set()  # where used weights are more than the ROM's
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
            if side == PICKS:
                if below is not None and name in below.taken:
                    conv.add_weights(below.values[name])
                conv.learn_weights(below.left(name) if below else image.free[name], device)
            elif side:
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
            for kind in ("scores", "gain", "own"):
                if getattr(conv, kind) is not None:
                    yield f"{kind}/{name}", getattr(conv, kind)

    @property
    def has_own(self) -> bool:
        """Whether there are free places that it learns weights for."""
        return any(conv.own is not None for conv in self.convs.values())

    def own_state(self) -> list[tuple[Tensor, Tensor]]:
        """What `thin` changes, as a copy."""
        return [(c.own.detach().clone(), c.room.clone()) for c in self.convs.values() if c.own is not None]

    @torch.no_grad()
    def set_own_state(self, state: list[tuple[Tensor, Tensor]]) -> None:
        """Back to that."""
        for conv, (own, room) in zip((c for c in self.convs.values() if c.own is not None), state, strict=True):
            assert conv.own is not None
            conv.own.copy_(own)
            conv.room.copy_(room)

    def thin(self, share: float) -> None:
        """Give back own weights, layer by layer: the largest `share` of a layer's free places stays."""
        for conv in self.convs.values():
            conv.thin(share)

    @torch.no_grad()
    def set(self, plugs: Plugs) -> None:
        """Put plugs in place of what has been learned."""
        for name, conv in self.convs.items():
            conv.set(plugs.shift.get(name), plugs.kernel.get(name))
            if conv.scores is not None:
                gain = plugs.gain.get(name, np.zeros(conv.socket.channels, np.float32))
                conv.set_picked(gain, plugs.used.get(name), plugs.own.get(name, np.zeros(0, np.float32)))

    def plugs(self) -> Plugs:
        """What has been learned so far."""
        found = {name: conv.plug() for name, conv in self.convs.items()}
        picked = {name: conv.picked() for name, conv in self.convs.items() if conv.scores is not None}
        return Plugs(
            shift={name: shift for name, (shift, _) in found.items() if shift is not None},
            kernel={name: kernel for name, (_, kernel) in found.items() if kernel is not None},
            gain={name: gain for name, (gain, _, _) in picked.items()},
            used={name: used for name, (_, used, own) in picked.items() if not used.all() or own.size or name in self._shared},
            own={name: own for name, (_, _, own) in picked.items() if own.size},
        )


def _put(network: torch.nn.Module, path: str, module: torch.nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
