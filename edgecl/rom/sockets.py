"""Sockets: the places inside the frozen network where a head may act; plugs: what one head puts there. NumPy only.

A socket sits behind one convolution and, where one follows directly, its batch norm. With c = conv(x) as the convolution
gives it (its own bias included) and z = what the plain ROM has there (batchnorm(c), or c where no norm follows),

    y[n,c,i,j] = z[n,c,i,j] + shift[c] + sum_uv kernel[c,u,v] * c[n,c,i+u-r,j+v-r]        r = side // 2, zero padding

A head may also change the convolution's weights W themselves (CPG). It uses some of them as they are, none of the others, and
puts its own into places that the ROM declares free:

    W' = (1 + gain) * (W where used, its own where free and used, else 0)        z = batchnorm or nothing of (W' * x)

So a plug is a difference: zeros are exactly the plain ROM. BB's biases, CLR's kernels and a task's own batch norm all fold
into this form without loss (`fold`), and no division by a small batch-norm gain occurs. The folded form is what travels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RomError, RomMismatch
from edgecl.types import Arrays, Floats

Doubles = NDArray[np.float64]
MAX_SIDE = 7  # of a plug's kernel
LARGEST = 1e4  # of a plug's number: far above what learning makes. What it does further on is tried when it is imported


@dataclass(frozen=True)
class Socket:
    """A place for a plug.

    name: path of the convolution in timm's model.   channels: its output channels.   side: of its own kernel; 1 is pointwise.
    depthwise: one kernel per channel.   norm: path of the batch norm that directly follows it, or "";
    eps: of that norm.   feeds: where no norm follows: path of the convolution, 1x1 and with a norm, that alone reads its
    output, or "".
    """

    name: str
    channels: int
    side: int
    depthwise: bool = False
    norm: str = ""
    eps: float = 0.0
    feeds: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Socket:
        """From an untrusted manifest. Raises ValueError for what no socket can be."""
        if not isinstance(raw, Mapping) or set(raw) != set(cls.__dataclass_fields__):
            raise ValueError("a socket has other fields than it should")
        socket = cls(**raw)
        texts = (socket.name, socket.norm, socket.feeds)
        if any(not isinstance(t, str) or len(t) > 300 or not t.isprintable() for t in texts) or not socket.name:
            raise ValueError("a socket's name is no printable text")
        if any(type(n) is not int or not 0 < n <= 1 << 16 for n in (socket.channels, socket.side)):
            raise ValueError(f"socket '{socket.name}' has sizes out of range")
        if type(socket.eps) is not float or not 0 <= socket.eps < 1:
            raise ValueError(f"socket '{socket.name}': eps must be a number from 0 to 1")
        if type(socket.depthwise) is not bool:
            raise ValueError(f"socket '{socket.name}': depthwise must be true or false")
        return socket


@dataclass(frozen=True)
class Plugs:
    """What a head puts into the ROM's sockets; sockets that are not named stay plain.

    shift: socket name -> (C,) float32.   kernel: socket name -> (C, K, K) float32, K odd.
    scrambled: socket name -> (C,) float32, before the norm, in the layout of BB's reference code. It depends on the size of
        the picture and folds into nothing: only the PyTorch runtime takes it.
    gain: socket name -> (C,) float32, by how much more than once the convolution's weights count.
    used: socket name -> (C, C_in / groups, k, k) bool, which of the weights are used.
    own: socket name -> (m,) float32, weights in the free places that are used, row by row; in the units of the weights file.
    """

    shift: Arrays = field(default_factory=dict)
    kernel: Arrays = field(default_factory=dict)
    scrambled: Arrays = field(default_factory=dict)
    gain: Arrays = field(default_factory=dict)
    used: Arrays = field(default_factory=dict)
    own: Arrays = field(default_factory=dict)

    def kinds(self) -> tuple[tuple[str, Arrays], ...]:
        """(kind, its arrays), for all of them."""
        return tuple((kind, getattr(self, kind)) for kind in self.__dataclass_fields__)

    @cached_property
    def reweighted(self) -> frozenset[str]:
        """The sockets whose convolution gets other weights."""
        return frozenset((*self.gain, *self.used, *self.own))

    def __bool__(self) -> bool:
        return any(arrays for _, arrays in self.kinds())

    @cached_property
    def key(self) -> str:
        """sha256 over names and values: equal plugs have equal keys."""
        digest = hashlib.sha256()
        for kind, arrays in self.kinds():
            for name in sorted(arrays):
                value = np.ascontiguousarray(arrays[name], np.bool_ if kind == "used" else np.float32)
                digest.update(f"{kind}|{name}|{value.shape}|".encode())
                digest.update(value.tobytes())
        return digest.hexdigest()

    @property
    def numbers(self) -> int:
        """How many numbers there are, and bits of weights beside them."""
        return sum(int(v.size) for kind, arrays in self.kinds() for v in arrays.values() if kind != "used")

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return sum(int(v.nbytes) for _, arrays in self.kinds() for v in arrays.values())

    def require(self, sockets: Iterable[Socket], rom_id: str = "") -> None:
        """Raise RomMismatch unless each plug names one of `sockets` and has its shape; RomError for numbers out of range."""
        known = {s.name: s for s in sockets}
        for kind, arrays in self.kinds():
            for name, value in arrays.items():
                if name not in known:
                    raise RomMismatch(
                        f"the plugs name a socket '{name[:80]}' that ROM {rom_id[:12]} does not have; it has {len(known)}"
                        + ("" if known else ". Export the ROM again to give it sockets")
                    )
                c = known[name].channels
                if kind == "used":  # its other sides, and how many are its own, are known with the weights: `overlay.require`
                    if value.dtype != np.bool_ or value.ndim != 4 or len(value) != c:
                        raise RomMismatch(
                            f"the used weights of socket '{name}' are {value.dtype} {value.shape}, not bool ({c}, ...)"
                        )
                    continue
                good = _is_kernel(value, c) if kind == "kernel" else value.shape == ((value.size,) if kind == "own" else (c,))
                if not good:
                    wanted = {"kernel": f"({c}, K, K), K odd and at most {MAX_SIDE}", "own": "(m,)"}.get(kind, f"({c},)")
                    raise RomMismatch(f"the {kind} plug of socket '{name}' has shape {value.shape}, it takes {wanted}")
                if kind == "kernel" and name in self.reweighted:
                    raise RomMismatch(f"the plugs give socket '{name}' both a kernel and other weights; it takes one of them")
                if value.dtype.kind != "f" or not float(np.abs(value).max(initial=0)) < LARGEST:
                    raise RomError(f"the {kind} plug of socket '{name}' holds {value.dtype} numbers out of range")


def _is_kernel(value: NDArray[Any], channels: int) -> bool:
    side = value.shape[-1] if value.ndim == 3 else 0
    return value.shape == (channels, side, side) and side % 2 == 1 and side <= MAX_SIDE


@dataclass(frozen=True)
class Norm:
    """A batch norm's numbers, (C,) each: gain * (x - mean) / sqrt(variance + eps) + shift."""

    gain: Doubles
    shift: Doubles
    mean: Doubles
    variance: Doubles
    eps: float

    @property
    def scale(self) -> Doubles:
        """What it multiplies with."""
        out: Doubles = self.gain / np.sqrt(self.variance + self.eps)
        return out

    @property
    def offset(self) -> Doubles:
        """What it adds after that."""
        out: Doubles = self.shift - self.mean * self.scale
        return out


def fold(
    socket: Socket,
    rom: Norm | None,
    *,
    bias: Doubles | None = None,
    kernel: Doubles | None = None,
    task: Norm | None = None,
) -> tuple[Floats | None, Floats | None]:
    """What a head learned behind one convolution as (shift, kernel) of the plug; None where it is nothing.

    The head computes norm(kernel (*) c + bias), with the task's own norm where it has one, else the ROM's.
    bias: (C,).   kernel: (C, K, K) absolute, identity = a one in the centre.   rom: the ROM's norm, None where none follows.
    Exact: what remains is the rounding of float64 to float32.
    """
    ones, zeros = np.ones(socket.channels), np.zeros(socket.channels)
    old_scale, old_offset = (rom.scale, rom.offset) if rom else (ones, zeros)
    new = task or rom
    scale, offset = (new.scale, new.offset) if new else (ones, zeros)
    shift = offset - old_offset
    if bias is not None:
        shift = shift + scale * bias
    if kernel is None:
        if task is None:
            return (None if bias is None else shift.astype(np.float32)), None
        kernel = np.ones((socket.channels, 1, 1))
    side = kernel.shape[-1]
    difference = kernel * scale[:, None, None]
    difference[:, side // 2, side // 2] -= old_scale
    return shift.astype(np.float32), difference.astype(np.float32)


def onward(shift: Doubles, weight: NDArray[Any], rom: Norm | None) -> Doubles:
    """A shift (C,) as a shift (C',) of the pointwise convolution that alone reads it; weight: (C', C, 1, 1).

    Exact, because a 1x1 convolution has no border: W(c + b) = W c + W b. So a bias after a depthwise convolution without
    norm need not travel.
    """
    out: Doubles = (rom.scale if rom else 1.0) * (weight[:, :, 0, 0] @ shift)
    return out


def norm_of(socket: Socket, weights: Mapping[str, Any]) -> Norm | None:
    """The ROM's norm behind that socket, from the ROM's state dict; None where none follows."""
    if not socket.norm:
        return None
    g = {k: np.asarray(weights[f"{socket.norm}.{k}"], np.float64) for k in ("running_mean", "running_var")}
    ones = np.ones(socket.channels)
    gain = np.asarray(weights.get(f"{socket.norm}.weight", ones), np.float64)
    shift = np.asarray(weights.get(f"{socket.norm}.bias", 0 * ones), np.float64)
    return Norm(gain, shift, g["running_mean"], g["running_var"], socket.eps)
