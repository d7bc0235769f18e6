"""MODES: four classes of points in the plane, each a blob that is at one place in domain 0 and at another in domain 1.

Also called bi-modals. A learner that forgets loses domain 0 while it learns domain 1; a linear one can never hold both.
Source: Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024.
"""

from __future__ import annotations

import numpy as np

from edgecl.streams.base import Dataset
from edgecl.streams.datasets.points import Points, dataset, sizes

RATIOS = (0.2, 0.4, 0.1, 0.3)
CENTRES = (((0.25, 0.25), (0.6, 0.65), (0.15, 0.5), (0.85, 0.3)), ((0.2, 0.75), (1.0, 0.1), (1.15, 0.75), (0.3, 0.5)))
SPREADS = ((0.02, 0.08, 0.015, 0.03), (0.04, 0.02, 0.06, 0.015))  # standard deviations
SEEDS = ((1234, 5678, 9101112, 13141516), (1, 5, 9, 13))


def load() -> Dataset:
    """1,000 points to train, 500 val, 500 test: (n, 2) float64 in [-1, 1], the same at every call."""
    return dataset("modes", block, [(domain, c) for c in range(4) for domain in range(2)])


def block(domain: int, c: int) -> Points:
    """The blob of one class in one domain, (n, 2), before scaling."""
    n = sizes(RATIOS)[c]
    drawn: Points = np.random.RandomState(SEEDS[domain][c]).normal(CENTRES[domain][c], SPREADS[domain][c], (n, 2))
    return drawn
