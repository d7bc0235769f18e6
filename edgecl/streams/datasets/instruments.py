"""What a scientific camera looks at: squares of four of scikit-image's pictures.

Deep sky (Hubble, 1000 x 872), the Moon's ground (512 x 512 grey), a retina (1411 x 1411) and stained tissue under the
microscope (512 x 512). One picture a class, as in `textures`.
"""

from __future__ import annotations

from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets.shipped import patches, shipped

FILES = {"deep sky": "hubble_deep_field.jpg", "moon": "moon.png", "retina": "retina.jpg", "tissue": "ihc.png"}


def load(train: int = 180, test: int = 80, seed: int = 0) -> TaskPictures:
    """The task `instruments`: four classes of (64, 64) or (64, 64, 3) uint8, trained on the left, tested right."""
    files = [(name, shipped("skimage", "scikit-image", "data", file)) for name, file in FILES.items()]
    return patches("instruments", files, 64, train, test, seed)
