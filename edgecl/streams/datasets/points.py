"""What MODES and MOONS share: 2,000 points in the plane, of four classes in two domains, scaled, split and put into an order.

The numbers are those of the published generator, bit for bit: legacy NumPy random states, and scikit-learn's `make_blobs` and
`make_moons` written out, which need no more than NumPy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgecl.streams.base import Dataset, Samples

POINTS, CLASSES, DOMAINS = 2000, 4, 2
_PERMUTATION = 1234
Points = NDArray[np.float64]


def sizes(ratios: tuple[float, ...]) -> list[int]:
    """Points of each class in one domain; the other has as many."""
    return [int(POINTS * ratio) // 2 for ratio in ratios]


def dataset(name: str, block: Callable[[int, int], Points]) -> Dataset:
    """The data set of `block(domain, class)` (n, 2): min-max scaled to [-1, 1], 1,000 to train, 500 val, 500 test.

    x: (n, 2) float64, in the order of the published IID stream.   groups: the domains.
    """
    blocks = [(block(domain, c), c, domain) for c in range(CLASSES) for domain in range(DOMAINS)]
    x = np.concatenate([points for points, _, _ in blocks])
    y = np.concatenate([np.full(len(points), c) for points, c, _ in blocks])
    group = np.concatenate([np.full(len(points), domain) for points, _, domain in blocks])
    low, high = x.min(0), x.max(0)
    every = Samples.of((x - low) / (high - low) * 2 - 1, y, group)
    pool = np.arange(1, POINTS, 2)
    lots = (np.arange(0, POINTS, 2), pool[::2], pool[1::2])
    train, val, test = (every[rows[_twice_permuted(len(rows))]] for rows in lots)
    return Dataset(name, tuple(f"class {c}" for c in range(CLASSES)), ("domain 0", "domain 1"), train, val, test)


def _twice_permuted(n: int) -> NDArray[np.int64]:
    """The generator permutes a part when it is made and again, with the same seed, when it is read as IID."""
    once = np.random.RandomState(_PERMUTATION).permutation(n)
    return once[once].astype(np.int64)
