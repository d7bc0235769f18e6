"""What MODES and MOONS share: 2,000 points in the plane, of four classes in two domains, scaled, split and put into an order.

The numbers are those of the published generator, bit for bit: legacy NumPy random states, and scikit-learn's `make_blobs` and
`make_moons` written out, which need no more than NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecl.streams.base import Dataset, Samples
from edgecl.streams.datasets.introsort import argsort
from edgecl.types import Ints

POINTS, CLASSES, DOMAINS = 2000, 4, 2
_PERMUTATION = 1234
Points = NDArray[np.float64]


def sizes(ratios: tuple[float, ...]) -> list[int]:
    """Points of each class in one domain; the other has as many."""
    return [int(POINTS * ratio) // 2 for ratio in ratios]


def dataset(name: str, block: Callable[[int, int], Points], blocks: Sequence[tuple[int, int]]) -> Dataset:
    """The data set of `block(domain, class)` (n, 2): min-max scaled to [-1, 1], 1,000 to train, 500 val, 500 test.

    x: (n, 2) float64, in the order of the published IID stream.   groups: the domains.
    blocks: (domain, class) in the order in which the generator strings them together, before it permutes.
    """
    points = [block(domain, c) for domain, c in blocks]
    x = np.concatenate(points)
    y = np.concatenate([np.full(len(some), c) for some, (_, c) in zip(points, blocks, strict=True)])
    group = np.concatenate([np.full(len(some), domain) for some, (domain, _) in zip(points, blocks, strict=True)])
    low, high = x.min(0), x.max(0)
    every = Samples.of((x - low) / (high - low) * 2 - 1, y, group)
    pool = np.arange(1, POINTS, 2)
    lots = (np.arange(0, POINTS, 2), pool[::2], pool[1::2])
    train, val, test = (every[rows[_once(len(rows))][_once(len(rows))]] for rows in lots)
    classes = tuple(f"class {c}" for c in range(CLASSES))
    return Dataset(name, classes, ("domain 0", "domain 1"), train, val, test, published=_published(train))


def _once(n: int) -> Ints:
    """The generator permutes a part when it is made and again, with the same seed, when it is read as IID."""
    return np.random.RandomState(_PERMUTATION).permutation(n).astype(np.int64)


def _published(train: Samples) -> dict[str, Ints]:
    """CI and CDI as they were distributed: sorted as the part lay after the first permutation, ties as the sort left them."""
    made = np.argsort(_once(len(train)))
    y, group = train.y[made], train.group[made]
    by_domain = argsort(group)
    domains = [by_domain[group[by_domain] == domain] for domain in range(DOMAINS)]
    return {"ci": made[argsort(y)], "cdi": made[np.concatenate([rows[argsort(y[rows])] for rows in domains])]}
