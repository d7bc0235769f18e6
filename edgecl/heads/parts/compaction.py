"""How many own weights a head keeps: as many as its size allows, or as few as meet its goal.

The published method prunes level by level and trains at each. Here a level is tried on what was learned, and the survivors go
on learning once, in the short epochs that follow anyway: learning on a device is counted in minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.heads.parts import discriminant, masks
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints

LEVELS = (0.5, 0.8, 0.95)  # of what the size allows; a look at all pictures for each


def give_back(
    network: FoldedNetwork,
    share: float,
    goal: float,
    features: Callable[[], Floats],
    y: Ints,
    k: int,
    held: NDArray[np.bool_],
) -> dict[str, Any]:
    """Thin the network's own weights and say what was tried.

    share: of the free places that the head's size has room for.   goal: accuracy on the held-out pictures, 0 for none: then
    `share` is kept.   features: (n, d) of all pictures as the network is. The largest level whose accuracy meets the goal is
    taken, none where that of no level does.
    """
    network.thin(share)
    if not goal or not share or not network.has_own:
        return {}
    state = network.own_state()
    records: dict[float, float] = {}
    judged = held if held.any() else np.ones_like(held)
    for level in LEVELS:
        network.thin(share * (1 - level))
        scores = discriminant.fit(unit_sqrt(features()), y, k).held_out
        records[level] = float((scores.argmax(1) == y)[judged].mean())
    level = masks.choose_level(records, goal, at_cap=False)
    network.set_own_state(state)
    network.thin(share * (1 - level))
    return {"own": {"level": level, "tried": {str(tried): round(found, 4) for tried, found in records.items()}}}
