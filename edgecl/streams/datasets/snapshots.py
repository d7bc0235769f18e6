"""Everyday photographs in pieces: squares of pictures that scikit-image and scikit-learn ship, all in colour.

A cat, a cup of coffee, a temple, a flower and a motorcycle. Serves as the task that a device never saw.
"""

from __future__ import annotations

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import patches, shipped

FILES = {
    "cat": ("skimage", "scikit-image", "data", "chelsea.png"),
    "coffee": ("skimage", "scikit-image", "data", "coffee.png"),
    "flower": ("sklearn", "scikit-learn", "datasets", "images", "flower.jpg"),
    "motorcycle": ("skimage", "scikit-image", "data", "motorcycle_left.png"),
    "temple": ("sklearn", "scikit-learn", "datasets", "images", "china.jpg"),
}


def load(train: int = 100, test: int = 50, seed: int = 0) -> TaskPictures:
    """The task `snapshots`: five classes of (80, 80, 3) uint8, trained on the left of each picture, tested right."""
    return patches("snapshots", [(name, shipped(*place)) for name, place in FILES.items()], 80, train, test, seed)
