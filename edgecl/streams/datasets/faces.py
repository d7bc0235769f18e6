"""Faces against what is no face, 25 x 25 grey: the 200 pictures that scikit-image ships (`lfw_subset`).

100 faces of Labeled Faces in the Wild, 100 pieces of such pictures without a face. Huang, Mattar, Berg, Learned-Miller:
Labeled Faces in the Wild, technical report 07-49, University of Massachusetts, 2007.
"""

from __future__ import annotations

import numpy as np

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import draw, shipped, stack

CLASSES = ("face", "no face")


def load(train: int = 140, test: int = 60, seed: int = 0) -> TaskPictures:
    """The task `faces`: two classes of (25, 25) uint8; there are 200 in all."""
    values = np.load(shipped("skimage", "scikit-image", "data", "lfw_subset.npy"), allow_pickle=False)  # in 0..1
    labels = np.repeat(np.arange(2), 100)  # the faces come first
    return stack("faces", CLASSES, list(np.rint(values * 255).astype(np.uint8)), labels, draw(labels, train, test, seed))
