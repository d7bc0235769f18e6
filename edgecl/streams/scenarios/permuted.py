"""Permuted inputs: the same samples again and again, their pixels or coordinates in another fixed order each time.

Source: Goodfellow et al., An empirical investigation of catastrophic forgetting in gradient-based neural networks, 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.repeating import check_domains, repeated


def permuted(dataset: Dataset, seed: int = 0, *, domains: int = 5) -> Stream:
    """All samples once an experience: first as they are, then permuted, each time another way; shuffled.

    Of pictures (n, h, w, c) whole pixels move, of anything else single numbers.
    """
    check_domains("permuted", domains)
    shape = dataset.train.shape
    places = int(np.prod(shape[:2] if len(shape) == 3 else shape))
    numbers = int(np.prod(shape)) // places  # that move together
    rng = np.random.default_rng([seed, 3])
    orders = [np.arange(places), *(rng.permutation(places) for _ in range(domains - 1))]

    def change(domain: int) -> Callable[[Any], Any]:
        return lambda x: x.reshape(len(x), places, numbers)[:, orders[domain]].reshape(x.shape)

    return repeated(dataset, "permuted", seed, [f"permutation {i}" for i in range(domains)], change)
