"""A head's weights over the ROM's as arrays: one bit for each weight, and the head's own after one another. NumPy only.

used: (bytes,) uint8, the bits of one socket after those of another, each filled up to whole bytes.
own: (m,) int8 with a float16 step per socket, float16 or float32.
What the arrays say of the ROM, how many places are free where, is compared with it by `rom.overlay.require`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError
from edgecl.heads.parts import masks
from edgecl.rom.sockets import Plugs
from edgecl.types import Arrays

KINDS = ("used", "own")
PICKS = -1  # where a kernel's side is expected: the convolution's weights themselves are learned
_MAX_SOCKETS = 5_000
_MAX_SIZE = 1 << 27  # weights that a head picks from, in all: unpacked each takes a byte, eight times what travelled


def pack(plugs: Plugs, form: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays, and the layout: "used" -> [[socket, shape...], ...], "own" -> [[socket, m], ...]."""
    arrays: dict[str, NDArray[Any]] = {}
    layout: dict[str, Any] = {}
    if plugs.used:
        layout["used"] = [[name, *bits.shape] for name, bits in plugs.used.items()]
        arrays["used"] = np.concatenate([masks.pack_bits(bits) for bits in plugs.used.values()])
    if plugs.own:
        layout["own"] = [[name, values.size] for name, values in plugs.own.items()]
        flat = np.concatenate(list(plugs.own.values()))
        if form == "int8":
            steps = np.array([max(float(np.abs(v).max()) / 127, 1e-7) for v in plugs.own.values()]).astype(np.float16)
            wide = np.repeat(steps.astype(np.float32), [v.size for v in plugs.own.values()])
            arrays |= {"own": np.clip(np.rint(flat / wide), -127, 127).astype(np.int8), "own_step": steps}
        else:
            arrays["own"] = flat.astype(form)
    return arrays, layout


def unpack(arrays: Arrays, layout: Mapping[str, Any]) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.float32]]]:
    """(used, own) as plugs have them, for arrays that `check` has passed."""
    used, own, at = {}, {}, 0
    for name, *shape in layout.get("used", ()):
        size = masks.packed_bytes(math.prod(shape))
        used[name] = masks.unpack_bits(arrays["used"][at : at + size], shape)
        at += size
    counts = [count for _, count in layout.get("own", ())]
    if counts:
        values = arrays["own"].astype(np.float32)
        if "own_step" in arrays:
            values *= np.repeat(arrays["own_step"].astype(np.float32), counts)
        parts = np.split(values, np.cumsum(counts)[:-1])
        own = {name: np.ascontiguousarray(part) for (name, _), part in zip(layout["own"], parts, strict=True)}
    return used, own


def check(arrays: Arrays, layout: Mapping[str, Any]) -> set[str]:
    """Raise BundleError unless `layout` (untrusted) describes the weights in `arrays`; returns the names of their arrays."""
    found: set[str] = set()
    for kind, sides in (("used", 4), ("own", 1)):
        entries = layout.get(kind, [])
        good = isinstance(entries, list) and len(entries) <= _MAX_SOCKETS and all(_is_entry(e, sides) for e in entries)
        if not good or len({e[0] for e in entries}) != len(entries) or (kind in layout and not entries):
            raise BundleError(f"the head's {kind} weights must be a list of [socket, {'shape' if sides > 1 else 'number'}]")
        if sum(math.prod(entry[1:]) for entry in entries) > _MAX_SIZE:
            raise BundleError(f"the head's {kind} weights are more than {_MAX_SIZE:,}; no ROM for a device has so many")
    if "used" in layout:
        counts = [math.prod(shape) for _, *shape in layout["used"]]
        size = sum(masks.packed_bytes(count) for count in counts)
        bits = arrays.get("used")
        if bits is None or bits.dtype != np.uint8 or bits.shape != (size,):
            raise BundleError(f"the head needs an array 'used' of {size:,} uint8, a bit for each weight it picks from")
        last = np.cumsum([masks.packed_bytes(count) for count in counts]) - 1
        if any(int(bits[at]) & ((1 << -count % 8) - 1) for at, count in zip(last, counts, strict=True)):
            raise BundleError("the head's 'used' has spare bits that are not 0; one head has one form")
        found.add("used")
    if "own" in layout:
        count, value, step = sum(m for _, m in layout["own"]), arrays.get("own"), arrays.get("own_step")
        if value is None or value.shape != (count,) or value.dtype not in (np.int8, np.float16, np.float32):
            raise BundleError(f"the head needs an array 'own' of shape ({count},), int8 or float")
        if (value.dtype == np.int8) != (step is not None):
            raise BundleError(f"the head's 'own' is {value.dtype}: an int8 array has a step per socket, and no other has")
        if step is not None and (step.shape != (len(layout["own"]),) or step.dtype != np.float16 or not (step > 0).all()):
            raise BundleError(f"the head's 'own_step' must be float16, positive, of shape ({len(layout['own'])},)")
        found |= {"own", "own_step"} & set(arrays)
    return found


def _is_entry(entry: Any, sides: int) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 1 + sides
        and isinstance(entry[0], str)
        and 0 < len(entry[0]) <= 300
        and all(type(v) is int and v > 0 for v in entry[1:])
        and all(v <= _MAX_SIZE for v in entry[1:])
    )
