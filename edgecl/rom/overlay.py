"""A head's weights over the ROM's: which it uses, and what it puts into the free places. NumPy only.

The ROM's weights are never written: what a head computes with is built from them, anew for each head, so heads may fill the
same places and old answers stay bit for bit what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RomMismatch
from edgecl.rom.image import RomImage
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats

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


@dataclass(frozen=True)
class Below:
    """What heads have put into the ROM's free places, as a head that stands on them finds it: it may pick, and fill the rest.

    free: `RomImage.free`.   taken: socket -> which of these places hold a weight already, of the weights' shape.
    values: socket -> those weights, of the same shape, in the units of the weights file; 0 elsewhere.
    """

    free: Mapping[str, NDArray[np.bool_]]
    taken: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    values: Mapping[str, Floats] = field(default_factory=dict)

    def left(self, name: str) -> NDArray[np.bool_]:
        """Where a head that stands here may have weights of its own."""
        free = self.free[name]
        return free & ~self.taken[name] if name in self.taken else free

    def with_own(self, plugs: Plugs) -> Below:
        """With one more head on top. plugs: its own, which pick and fill as this one says. Raises RomMismatch."""
        taken, values = dict(self.taken), dict(self.values)
        for name, own in plugs.own.items():
            places = self._places(plugs, name)
            weights = values.get(name, np.zeros(places.shape, np.float32)).copy()
            weights[places] = own
            taken[name], values[name] = taken.get(name, np.zeros_like(places)) | places, weights
        return replace(self, taken=taken, values=values)

    def composed(self, plugs: Plugs) -> Plugs:
        """Plugs over the ROM alone that compute what `plugs` do from here: weights picked from below are among its own.

        So no runtime knows of heads that stand on others. Raises RomMismatch.
        """
        own = dict(plugs.own)
        for name in self.taken.keys() & plugs.used.keys():
            weights, places = self.values[name].copy(), self._places(plugs, name)
            weights[places] = plugs.own.get(name, _NONE)
            own[name] = weights[self.free[name] & plugs.used[name]]
        return replace(plugs, own={name: values for name, values in own.items() if values.size})

    def _places(self, plugs: Plugs, name: str) -> NDArray[np.bool_]:
        """Where the own weights of `plugs` go in that socket."""
        used = plugs.used.get(name)
        if name not in self.free or used is None or used.shape != self.free[name].shape:
            raise RomMismatch(f"the head has weights of its own in '{name[:80]}', and does not say where among the ROM's")
        places = self.left(name) & used
        count = plugs.own.get(name, _NONE).size
        if count != int(places.sum()):
            raise RomMismatch(
                f"the head uses {int(places.sum()):,} places of '{name}' that are free above the heads it stands on, and has "
                f"{count:,} weights for them; it was made for other heads, or for another compacted ROM"
            )
        return places
