"""Solar cells under electroluminescence, 300 x 300 grey: 2,624 from 44 modules, as elpv-dataset ships them.

Each cell carries the probability, by experts, that it is defective: 0, 1/3, 2/3 or 1. The classes here are the two that
the experts were sure of (1,508 at 0, 715 at 1); the 401 between are left out: there is no right answer to test against.
Which module a cell is from is not recorded, so cells of one module may be in both parts. Deitsch et al.: Automatic
classification of defective photovoltaic module cells in electroluminescence images, Solar Energy, 2019.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import draw, shipped, stack
from edgecl.types import Pixels

CLASSES = ("functional", "defective")


def load(train: int = 200, test: int = 80, seed: int = 0) -> TaskPictures:
    """The task `solar-cells`: two classes of (300, 300) uint8."""
    folder = shipped("elpv_dataset", "elpv-dataset", "data")
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="ascii").splitlines()]
    sure = [(name, int(float(p))) for name, p, _ in rows if float(p) in (0.0, 1.0)]
    labels = np.array([label for _, label in sure], np.int64)
    parts = draw(labels, train, test, seed)
    pictures: list[Pixels] = [np.empty((0, 0), np.uint8)] * len(sure)
    for i in np.concatenate(parts):  # only those drawn are decoded
        with Image.open(folder / sure[i][0]) as picture:
            pictures[i] = np.asarray(picture.convert("L"))
    return stack("solar-cells", CLASSES, pictures, labels, parts)
