"""Pictures made up from what a bundle says of them, to stand in for those that another device has seen.

A Gaussian draws its pictures neither as far out nor as near to other classes as real ones lie. How far out they lie,
the anchor's limit tells; how sure one can be of them, that of the head.
"""

from __future__ import annotations

import numpy as np

from edgecl.heads.base import Head
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.space import unpack
from edgecl.types import Arrays, Floats, Ints

EASY = 0.5  # lead of real pictures by that of made-up ones; 0.38 to 0.81 on fourteen tasks
_LIMIT_AT = 1.645  # standard deviations: 5 % of a task's own pictures lie beyond its anchor's limit
_HEAVIEST = 3.5  # times the usual distance that a limit may be; exp(_LIMIT_AT ** 2 / 2) is what a log-normal reaches
_LEADS = (0.1, 100.0)  # that a head may be held to; a stranger's says what it likes


def drawn(anchor: Arrays, n: int, seed: int) -> tuple[Floats, Ints]:
    """Plain features (n, d) and classes (n,) from a Mahalanobis anchor, as far out as the pictures were that its limit is from.

    The distance from the mean is drawn too, from a log-normal: real pictures have heavier tails than a Gaussian.
    """
    rows, labels = Mahalanobis.draw(anchor, n, seed)
    z, middle = np.copysign(np.sqrt(np.abs(rows)), rows), unpack(anchor["means"], anchor["means_step"])[labels]
    beyond = float(anchor["rest"][0]) * max(rows.shape[1] - len(anchor["directions"]), 1)
    tail = np.log(np.clip(float(anchor["limit"][0]) / max(beyond, 1e-12), 1, _HEAVIEST))
    spread = _LIMIT_AT - np.sqrt(_LIMIT_AT**2 - 2 * tail)  # its _LIMIT_AT quantile lies at the limit, its mean is 1
    squared = np.exp(spread * np.random.default_rng([seed, 1]).standard_normal((n, 1)) - spread**2 / 2)
    z = (middle + np.sqrt(squared) * (z - middle)).astype(np.float32)
    return (np.sign(z) * z * z).astype(np.float32), labels


def lead_of_most(head: Head) -> float:
    """The lead that all but a few made-up pictures have, by the one below which a real one is unknown; 0: not told."""
    return float(np.clip(head.unknown_below, *_LEADS)) / EASY if np.isfinite(head.unknown_below) else 0.0
