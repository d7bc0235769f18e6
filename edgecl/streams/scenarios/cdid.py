"""CDID: like CDI, and inside each experience the samples drift: they come sorted by their first coordinate.

Source: Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024.
"""

from __future__ import annotations

import numpy as np

from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.cdi import by_group_and_class
from edgecl.types import Ints


def cdid(dataset: Dataset, seed: int = 0) -> Stream:
    """As `cdi`, ascending by the first number of x.   seed: nothing is drawn."""
    return by_group_and_class(dataset, "cdid", _by_first_coordinate)


def _by_first_coordinate(samples: Samples, rows: Ints) -> Ints:
    first = np.asarray(samples.x[rows]).reshape(len(rows), -1)[:, 0]
    ordered: Ints = rows[np.argsort(first, kind="stable")]
    return ordered
