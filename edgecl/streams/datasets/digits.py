"""Handwritten digits, 8 x 8 grey of 17 levels: the 1,797 that scikit-learn ships.

The same ten classes as in `mnist`, but enlarged these are blurred blobs. Serves as the hard task that a device never
saw: about half of it is taken for one that it knows. Alpaydin and Kaynak: Optical recognition of handwritten digits,
UCI repository, 1998.
"""

from __future__ import annotations

import gzip

import numpy as np

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import draw, shipped, stack

CLASSES = tuple("0123456789")


def load(train: int = 200, test: int = 80, seed: int = 0) -> TaskPictures:
    """The task `digits`: ten classes of (8, 8) uint8, stretched from 0..16 to 0..255."""
    with gzip.open(shipped("sklearn", "scikit-learn", "datasets", "data", "digits.csv.gz"), "rt", encoding="ascii") as file:
        table = np.loadtxt(file, np.int64, delimiter=",")
    labels = table[:, 64]
    pictures = (table[:, :64] * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    return stack("digits", CLASSES, list(pictures), labels, draw(labels, train, test, seed))
