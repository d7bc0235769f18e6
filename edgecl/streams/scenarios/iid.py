"""IID: all samples in one experience. What a learner reaches when nothing drifts."""

from __future__ import annotations

import numpy as np

from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.parts import cut, shuffled


def iid(dataset: Dataset, seed: int = 0, *, shuffle: bool = True) -> Stream:
    """One experience. Of the validation samples, the first half.

    shuffle: in an order drawn by `seed`; else as they lie in the data set, which is the published order of MODES and MOONS.
    """
    arrange = shuffled(seed) if shuffle else None
    return cut(dataset, "iid", lambda s: np.zeros(len(s), np.int64), lambda i: "all", arrange=arrange, early_val=True)
