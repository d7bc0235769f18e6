"""The space that heads and mappers work in, and the 8-bit form in which vectors of it are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats


def unit_sqrt(x: Floats) -> Floats:
    """ROM features (n, d) -> (n, d) float32: signed square roots, each row scaled to length one; a zero row stays zero.

    The root tames the heavy tails of pooled activations, the length forgets contrast; inner products then compare what
    is in the picture (the Hellinger kernel; Arandjelovic and Zisserman, Three things everyone should know, CVPR 2012).
    """
    z = np.sqrt(np.abs(x))
    np.copysign(z, x, out=z)
    norms = np.sqrt(np.einsum("nd,nd->n", z, z))[:, None]
    out: Floats = (z / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
    return out


def pack(rows: NDArray[Any]) -> tuple[NDArray[np.int8], Floats]:
    """(m, d) -> int8 (m, d) and one float32 step a row, (m,); the error is at most half a step."""
    step = (np.maximum(np.abs(rows).max(1, initial=0), 1e-12) / 127).astype(np.float32)
    return np.rint(rows / step[:, None]).astype(np.int8), step


def unpack(quantised: NDArray[np.int8], step: Floats) -> Floats:
    """The inverse of `pack`: (m, d) float32."""
    out: Floats = quantised * step[:, None]
    return out
