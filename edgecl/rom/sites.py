"""All numbers of the ROM that a head can change, in one vector. NumPy only.

Heads of one form (which sockets have a kernel, and of which side) share a graph and differ in this vector alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecl.rom.overlay import effective
from edgecl.rom.sockets import Doubles, Plugs, Socket
from edgecl.types import Floats

Structure = tuple[tuple[str, int], ...]  # (socket, side of its kernel, or OTHER), in the order of the sockets
OTHER = 0  # in place of a kernel's side: the convolution itself gets other weights
Place = tuple[str, str]  # kind of plug and socket


def structure(sockets: Iterable[Socket], plugs: Plugs) -> Structure:
    """Which sockets get a depthwise convolution behind them, and which other weights."""
    sides = {name: int(kernel.shape[-1]) for name, kernel in plugs.kernel.items()} | dict.fromkeys(plugs.reweighted, OTHER)
    return tuple((s.name, sides[s.name]) for s in sockets if s.name in sides)


@dataclass(frozen=True)
class Weights:
    """A convolution whose weights heads change.

    weight: as the graph has it, (C, C_in / groups, k, k).   free: places where a head may have its own.   scale: (C,) of the
    norm folded into it.
    """

    weight: Floats
    free: NDArray[np.bool_]
    scale: Doubles

    @property
    def nbytes(self) -> int:
        """In memory."""
        return int(self.weight.nbytes + self.free.nbytes + self.scale.nbytes)


@dataclass(frozen=True)
class Sites:
    """plain: what the ROM itself has, (N,).   at: kind and socket -> where its numbers begin and end.

    "shift" is the bias of the convolution (or of the depthwise one behind it), "kernel" the depthwise kernel, row by row,
    "weight" the convolution's own weights; their numbers in `plain` are zeros, they stand in `weights`.
    """

    plain: Doubles
    at: Mapping[Place, tuple[int, int]]
    weights: Mapping[str, Weights] = field(default_factory=dict)

    @classmethod
    def laid_out(
        cls,
        form: Structure,
        biases: Mapping[str, Doubles],
        scales: Mapping[str, Doubles],
        weights: Mapping[str, Weights] | None = None,
    ) -> Sites:
        """biases: socket -> (C,).   scales: socket of `form` -> (C,), the centre of its kernel.   weights: those of OTHER."""
        parts: list[Doubles] = []
        at: dict[Place, tuple[int, int]] = {}
        start = 0
        kernels = {}
        for name, side in form:
            if side == OTHER:
                continue
            kernel = np.zeros((len(scales[name]), side, side))
            kernel[:, side // 2, side // 2] = scales[name]
            kernels[name] = kernel.ravel()
        weights = weights or {}
        for name, one in weights.items():
            at["weight", name] = (start, start + one.weight.size)
            start += one.weight.size
        width = start
        for name, bias in biases.items():
            for kind, values in (("shift", bias), ("kernel", kernels.get(name))):
                if values is not None:
                    at[kind, name] = (start, start + values.size)
                    parts.append(values)
                    start += values.size
        return cls(np.concatenate([np.zeros(width), *parts]), at, weights)

    def filled(self, plugs: Plugs) -> Floats:
        """The numbers of the ROM with `plugs`: the plain ones plus the differences that plugs are; (N,) float32."""
        out = self.plain.copy()
        for kind, arrays in (("shift", plugs.shift), ("kernel", plugs.kernel)):
            for name, value in arrays.items():
                start, stop = self.at[kind, name]
                out[start:stop] += value.ravel()
        numbers = out.astype(np.float32)
        for name, one in self.weights.items():
            start, stop = self.at["weight", name]
            numbers[start:stop] = effective(one.weight, one.free, plugs, name, one.scale).ravel()
        return numbers

    def part(self, values: Floats, kind: str, name: str) -> Floats:
        """What of `values` belongs to one place."""
        start, stop = self.at[kind, name]
        return values[start:stop]

    @property
    def nbytes(self) -> int:
        """In memory."""
        return int(self.plain.nbytes) + 200 * len(self.at) + sum(one.nbytes for one in self.weights.values())
