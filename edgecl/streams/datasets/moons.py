"""MOONS: four classes of points in the plane, each a half moon; a pair of moons moves as the domain changes.

Also called bi-moons: harder than MODES, as no class has a centre of its own.
Source: Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024.
"""

from __future__ import annotations

import numpy as np

from edgecl.streams.base import Dataset
from edgecl.streams.datasets.points import Points, dataset, sizes

RATIOS = (0.4, 0.1, 0.3, 0.2)  # classes 0 and 1 are the moons of one pair, 2 and 3 of the other
OFFSETS = (((0.0, 0.0), (-3.0, 1.0)), ((2.0, 1.0), (3.0, -1.0)))  # by domain and pair
NOISES = ((0.08, 0.06), (0.04, 0.03))  # standard deviations
SEEDS = ((1234, 5678), (1, 5))


def load() -> Dataset:
    """1,000 points to train, 500 val, 500 test: (n, 2) float64 in [-1, 1], the same at every call."""
    return dataset("moons", block, [(domain, c) for pair in ((0, 1), (2, 3)) for domain in range(2) for c in pair])


def block(domain: int, c: int) -> Points:
    """The moon of one class in one domain, (n, 2), before scaling."""
    pair, which = divmod(c, 2)
    n = sizes(RATIOS)[2 * pair : 2 * pair + 2]
    outer, inner = (np.linspace(0, np.pi, k) for k in n)
    upper = np.stack([np.cos(outer), np.sin(outer)], 1)
    lower = np.stack([1 - np.cos(inner), 1 - np.sin(inner) - 0.5], 1)
    both = np.concatenate([upper, lower])
    # One draw for the pair: the second moon's noise goes on where the first one's ends.
    both += np.random.RandomState(SEEDS[domain][pair]).normal(scale=NOISES[domain][pair], size=both.shape)
    shifted: Points = both[: n[0]] + OFFSETS[domain][pair] if which == 0 else both[n[0] :] + OFFSETS[domain][pair]
    return shifted
