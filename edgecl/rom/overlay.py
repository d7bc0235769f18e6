"""A head's weights over the ROM's: which it uses, and what it puts into the free places. NumPy only.

The ROM's weights are never written: what a head computes with is built from them, anew for each head, so heads may fill the
same places and old answers stay bit for bit what they were.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RomMismatch
from edgecl.rom.image import RomImage
from edgecl.rom.sockets import Plugs

_NONE = np.zeros(0, np.float32)
Real = TypeVar("Real", np.float32, np.float64)


def require(image: RomImage, plugs: Plugs) -> None:
    """Raise RomMismatch unless the plugs' weights have the shapes of this ROM's, and are their own only where it is free."""
    for name in plugs.reweighted:
        used, own, free = plugs.used.get(name), plugs.own.get(name, _NONE), image.free.get(name)
        if free is None:
            raise RomMismatch(f"the head changes weights of '{name[:80]}', which ROM {image.rom_id[:12]} does not have")
        if used is not None and used.shape != free.shape:
            raise RomMismatch(
                f"the head picks from weights {used.shape} of '{name}', those of ROM {image.rom_id[:12]} are {free.shape}"
            )
        room = int((free & used).sum()) if used is not None else 0
        if own.size != room:
            raise RomMismatch(
                f"the head uses {room:,} free places of '{name}' in ROM {image.rom_id[:12]} and has {own.size:,} weights for "
                f"them; it was made for another compacted ROM"
            )


def effective(
    weight: NDArray[Real], free: NDArray[np.bool_], plugs: Plugs, name: str, scale: NDArray[Any] | None = None
) -> NDArray[Real]:
    """The weights (C, C_in / groups, k, k) of socket `name` as the head uses them; `weight` itself is not changed.

    scale: (C,) of the norm that has been folded into `weight`; None where it is as in the weights file.
    """
    out = weight.copy()
    used, own, gain = plugs.used.get(name), plugs.own.get(name, _NONE), plugs.gain.get(name)
    if used is not None:
        out[~used] = 0
        if own.size:
            places = free & used
            out[places] = own if scale is None else own * np.broadcast_to(scale[:, None, None, None], out.shape)[places]
    if gain is not None:
        out *= (1 + gain.astype(out.dtype))[:, None, None, None]
    return out
