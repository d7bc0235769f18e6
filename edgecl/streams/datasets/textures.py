"""Textures of the ground: squares cut from scikit-image's pictures of brick, grass and gravel (512 x 512 grey each).

One picture a class, so a test square shows the same wall or lawn as the training squares, at another place.
"""

from __future__ import annotations

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import patches, shipped

CLASSES = ("brick", "grass", "gravel")


def load(train: int = 180, test: int = 90, seed: int = 0) -> TaskPictures:
    """The task `textures`: three classes of (48, 48) uint8, trained on the left of each picture, tested right."""
    files = [(name, shipped("skimage", "scikit-image", "data", f"{name}.png")) for name in CLASSES]
    return patches("textures", files, 48, train, test, seed)
