"""ImageNet and five fine-grained data sets, one task each, as folders of pictures that lie where papers on masks have them.

imagenet, cubs_cropped, stanford_cars_cropped, flowers, wikiart, sketches: Mallya et al., Piggyback, ECCV 2018; Hung et al.,
Compacting, Picking and Growing, NeurIPS 2019. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

from edgecl.streams.base import Dataset
from edgecl.streams.datasets.task_folders import Folder, load

SIDE, _SHORTER = 224, 256 / 224
FOLDERS = (
    Folder("imagenet"),
    Folder("cubs_cropped", squeezed=True),
    Folder("stanford_cars_cropped", squeezed=True),
    Folder("flowers"),
    Folder("wikiart"),
    Folder("sketches"),
)


def finegrained(place: Path, side: int = SIDE) -> Dataset:
    """The six in this order, their pictures read when they are asked for. Raises DataError."""
    return load("finegrained", place, FOLDERS, side, round(side * _SHORTER))
