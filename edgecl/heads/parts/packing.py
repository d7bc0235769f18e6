"""Plugs and maps as a head's arrays, in the smallest form whose measured effect stays below a bound. NumPy only.

Forms: int8 with a float16 step per row, float16, float32. Rows are classes for a map, channels for a kernel, sockets for
shifts. Untrusted arrays are checked by `check_plugs` before anything is unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError
from edgecl.heads.parts import overlays
from edgecl.rom.sockets import MAX_SIDE, Plugs
from edgecl.types import Arrays, Floats

FORMS = ("int8", "float16", "float32")
LARGEST = 6e4  # float16 ends at 65504
_KINDS = ("shift", "kernel", "scrambled", "gain")
_MAX_SOCKETS, _MAX_CHANNELS = 5_000, 1 << 16


def store(name: str, rows: NDArray[Any], form: str) -> dict[str, NDArray[Any]]:
    """A matrix (m, c) as arrays called `name`, and `name_step` for int8."""
    if form == "int8":
        step = np.maximum(np.abs(rows).max(1, initial=0) / 127, 1e-7).astype(np.float16)
        levels = np.clip(np.rint(rows / step.astype(np.float32)[:, None]), -127, 127)
        return {name: levels.astype(np.int8), f"{name}_step": step}
    return {name: rows.astype(form)}


def fetch(name: str, arrays: Arrays) -> Floats:
    """The inverse of `store`: (m, c) float32."""
    rows = np.asarray(arrays[name], np.float32)
    if f"{name}_step" in arrays:
        rows = rows * np.asarray(arrays[f"{name}_step"], np.float32)[:, None]
    return rows


def fits(rows: NDArray[Any], form: str) -> bool:
    """Whether the numbers fit into the form at all."""
    return form == "float32" or float(np.abs(rows).max(initial=0)) < LARGEST


def check_rows(name: str, arrays: Arrays, shape: tuple[int, int]) -> None:
    """Raise BundleError unless `name` is a stored matrix of that shape."""
    value, step = arrays.get(name), arrays.get(f"{name}_step")
    if value is None or value.shape != shape or value.dtype not in (np.int8, np.float16, np.float32):
        raise BundleError(f"the head needs an array '{name}' of shape {shape}, int8 or float")
    if (value.dtype == np.int8) != (step is not None):
        raise BundleError(f"the head's '{name}' is {value.dtype}: an int8 array has a step per row, and no other has")
    if step is not None and (step.shape != shape[:1] or step.dtype != np.float16 or not (step > 0).all()):
        raise BundleError(f"the head's '{name}_step' must be float16, positive, of shape {shape[:1]}")


def plug_arrays(plugs: Plugs, form: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Plugs as arrays and the settings that say which is which: kind -> [[socket, channels, side], ...] in order."""
    arrays: dict[str, NDArray[Any]] = {}
    layout: dict[str, Any] = {}
    for kind, plug in plugs.kinds():
        if not plug or kind in overlays.KINDS:
            continue
        layout[kind] = [[name, len(value), value.shape[-1] if kind == "kernel" else 1] for name, value in plug.items()]
        for side in sorted({row[2] for row in layout[kind]}):
            rows = [v.reshape(len(v), -1) for v in plug.values() if (v.shape[-1] if kind == "kernel" else 1) == side]
            arrays |= _store_plugs(kind, side, rows, form)
    more, where = overlays.pack(plugs, form)
    return arrays | more, layout | where


def _store_plugs(kind: str, side: int, rows: Sequence[Floats], form: str) -> dict[str, NDArray[Any]]:
    name = f"{kind}{side}"
    if side > 1:
        return store(name, np.concatenate(rows), form)
    flat = np.concatenate([r[:, 0] for r in rows])
    if form != "int8":
        return {name: flat.astype(form)}
    # One step per socket: a step per channel would cost as much as the channel's one number.
    steps = np.array([max(float(np.abs(r).max(initial=0)) / 127, 1e-7) for r in rows]).astype(np.float16)
    wide = np.repeat(steps.astype(np.float32), [len(r) for r in rows])
    return {name: np.clip(np.rint(flat / wide), -127, 127).astype(np.int8), f"{name}_step": steps}


def plugs_of(arrays: Arrays, layout: Mapping[str, Any]) -> Plugs:
    """The inverse of `plug_arrays`, for arrays that `check_plugs` has passed."""
    out: dict[str, dict[str, Floats]] = {kind: {} for kind in _KINDS}
    used, own = overlays.unpack(arrays, layout)
    for kind, entries in layout.items():
        if kind in overlays.KINDS:
            continue
        for side in sorted({side for _, _, side in entries}):
            mine = [(name, channels) for name, channels, s in entries if s == side]
            counts, name = [channels for _, channels in mine], f"{kind}{side}"
            if side > 1:
                rows = fetch(name, arrays)
            else:
                rows = np.asarray(arrays[name], np.float32)[:, None]
                if f"{name}_step" in arrays:
                    rows = rows * np.repeat(np.asarray(arrays[f"{name}_step"], np.float32), counts)[:, None]
            for (socket, channels), part in zip(mine, np.split(rows, np.cumsum(counts)[:-1]), strict=True):
                shaped = part.reshape(channels, side, side) if kind == "kernel" else part[:, 0]
                out[kind][socket] = np.ascontiguousarray(shaped)
    return Plugs(**out, used=used, own=own)


def check_plugs(arrays: Arrays, layout: Any) -> set[str]:
    """Raise BundleError unless `layout` (untrusted) describes plugs in `arrays`; returns the names of their arrays."""
    if not isinstance(layout, Mapping) or not set(layout) <= {*_KINDS, *overlays.KINDS}:
        raise BundleError(f"the head's plugs are described by no table of {', '.join((*_KINDS, *overlays.KINDS))}")
    used = overlays.check(arrays, layout)
    for kind, entries in layout.items():
        if kind in overlays.KINDS:
            continue
        if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_SOCKETS or not all(map(_is_entry, entries)):
            raise BundleError(f"the head's {kind} plugs must be a list of [socket, channels, side]")
        if len({e[0] for e in entries}) != len(entries) or (kind != "kernel" and any(e[2] != 1 for e in entries)):
            raise BundleError(f"the head's {kind} plugs name a socket twice, or give a side to what has none")
        for side in {e[2] for e in entries}:
            counts, name = [e[1] for e in entries if e[2] == side], f"{kind}{side}"
            used |= {name, f"{name}_step"} & set(arrays)
            if side > 1:
                check_rows(name, arrays, (sum(counts), side * side))
            else:
                _check_flat(name, arrays, counts)
    return used


def _check_flat(name: str, arrays: Arrays, counts: Sequence[int]) -> None:
    value, step = arrays.get(name), arrays.get(f"{name}_step")
    if value is None or value.shape != (sum(counts),) or value.dtype not in (np.int8, np.float16, np.float32):
        raise BundleError(f"the head needs an array '{name}' of shape ({sum(counts)},), int8 or float")
    if (value.dtype == np.int8) != (step is not None):
        raise BundleError(f"the head's '{name}' is {value.dtype}: an int8 array has a step per socket, and no other has")
    if step is not None and (step.shape != (len(counts),) or step.dtype != np.float16 or not (step > 0).all()):
        raise BundleError(f"the head's '{name}_step' must be float16, positive, of shape ({len(counts)},)")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[0], str)
        and 0 < len(entry[0]) <= 300
        and all(type(v) is int for v in entry[1:])
        and 0 < entry[1] <= _MAX_CHANNELS
        and 0 < entry[2] <= MAX_SIDE
        and entry[2] % 2 == 1
    )
