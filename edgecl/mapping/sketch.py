"""What a device keeps of a task's pictures to ask later whether another task takes them. It never leaves the device.

A few pictures' features, square-rooted and scaled to length one (as mappers compare them) in 8 bits, with their lengths, so
that plain features come back; and how many pictures each one's class had, which a mapper needs to judge it as left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from edgecl.errors import BundleError
from edgecl.mapping.base import require
from edgecl.space import pack, unit_sqrt, unpack
from edgecl.types import Floats, Ints

PICTURES = 64  # at most, of a task
_MAX_BYTES = 1 << 22
_LAYOUT = {"z": "int8 n d", "step": "float32 n", "size": "float32 n", "count": "int32 n"}
_BOUNDS = {"step": (1e-20, 0.01), "size": (0.0, 1e30), "count": (1.0, 1e9)}


@dataclass(frozen=True)
class Sketch:
    """features: (n, d) float32, of the plain ROM.   counts: (n,) float32, pictures that each one's class had."""

    features: Floats
    counts: Floats


def chosen(labels: Ints, n: int = PICTURES, seed: int = 0) -> NDArray[np.int64]:
    """Up to n pictures of labels (n,), the same number of each class as far as there are, in ascending order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        own = order[labels[order] == c]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:n])


def draw(features: Floats, labels: Ints, seed: int = 0) -> bytes:
    """The sketch of a task: features (n, d), labels (n,)."""
    rows = chosen(labels, seed=seed)
    x = features[rows]
    z, step = pack(unit_sqrt(x))
    arrays = {
        "z": z,
        "step": step,
        "size": np.abs(x).sum(1).astype(np.float32),
        "count": np.bincount(labels)[labels[rows]].astype(np.int32),
    }
    return bytes(save_tensors(arrays))


def read(data: bytes, width: int) -> Sketch:
    """The inverse of `draw`, for features of `width`. Raises BundleError for anything else."""
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{len(data):,} bytes")
        length = int.from_bytes(data[:8], "little")
        if set(json.loads(data[8 : 8 + length])) != set(_LAYOUT):
            raise ValueError("other tensors than a sketch has")
        arrays = load_tensors(data)
    except (ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise BundleError(f"the sketch is malformed: {error}") from error
    if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays.values()):
        raise BundleError("the sketch holds a non-finite number")
    require(arrays, _LAYOUT, "a sketch", _BOUNDS)
    z = unpack(arrays["z"], arrays["step"])
    if z.shape[1] != width:
        raise BundleError(f"the sketch is of {z.shape[1]} features, the ROM has {width}")
    features = np.sign(z) * z * z * arrays["size"][:, None]
    return Sketch(features.astype(np.float32), arrays["count"].astype(np.float32))
