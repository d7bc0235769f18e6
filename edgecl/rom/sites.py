"""All numbers of the ROM that a head can change, in one vector. NumPy only.

Heads of one form (which sockets have a kernel, and of which side) share a graph and differ in this vector alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgecl.rom.sockets import Doubles, Plugs, Socket
from edgecl.types import Floats

Structure = tuple[tuple[str, int], ...]  # (socket, side of its kernel), in the order of the sockets
Place = tuple[str, str]  # kind of plug and socket


def structure(sockets: Iterable[Socket], plugs: Plugs) -> Structure:
    """Which sockets get a depthwise convolution behind them."""
    return tuple((s.name, int(plugs.kernel[s.name].shape[-1])) for s in sockets if s.name in plugs.kernel)


@dataclass(frozen=True)
class Sites:
    """plain: what the ROM itself has, (N,).   at: kind and socket -> where its numbers begin and end.

    "shift" is the bias of the convolution (or of the depthwise one behind it), "kernel" the depthwise kernel, row by row.
    """

    plain: Doubles
    at: Mapping[Place, tuple[int, int]]

    @classmethod
    def laid_out(cls, form: Structure, biases: Mapping[str, Doubles], scales: Mapping[str, Doubles]) -> Sites:
        """biases: socket -> (C,).   scales: socket of `form` -> (C,), the centre of its kernel."""
        parts: list[Doubles] = []
        at: dict[Place, tuple[int, int]] = {}
        start = 0
        kernels = {}
        for name, side in form:
            kernel = np.zeros((len(scales[name]), side, side))
            kernel[:, side // 2, side // 2] = scales[name]
            kernels[name] = kernel.ravel()
        for name, bias in biases.items():
            for kind, values in (("shift", bias), ("kernel", kernels.get(name))):
                if values is not None:
                    at[kind, name] = (start, start + values.size)
                    parts.append(values)
                    start += values.size
        return cls(np.concatenate(parts) if parts else np.zeros(0), at)

    def filled(self, plugs: Plugs) -> Floats:
        """The numbers of the ROM with `plugs`: the plain ones plus the differences that plugs are; (N,) float32."""
        out = self.plain.copy()
        for kind, arrays in (("shift", plugs.shift), ("kernel", plugs.kernel)):
            for name, value in arrays.items():
                start, stop = self.at[kind, name]
                out[start:stop] += value.ravel()
        return out.astype(np.float32)

    def part(self, values: Floats, kind: str, name: str) -> Floats:
        """What of `values` belongs to one place."""
        start, stop = self.at[kind, name]
        return values[start:stop]

    @property
    def nbytes(self) -> int:
        """In memory."""
        return int(self.plain.nbytes) + 200 * len(self.at)
