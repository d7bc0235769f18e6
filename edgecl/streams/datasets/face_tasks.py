"""Faces: who it is, then gender, expression and age, as folders of pictures of 112 x 112; ages in five folds.

face_verification (its test part are the pairs of lfw_pairs.txt), gender, emotion, age0 to age4: Hung et al., Compacting,
Picking and Growing, NeurIPS 2019. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

from edgecl.streams.base import Dataset
from edgecl.streams.datasets.task_folders import Folder, load

SIDE = 112
FOLDERS = (
    Folder("face_verification", squeezed=True, pairs="lfw_pairs.txt"),
    *(Folder(name, squeezed=True) for name in ("gender", "emotion", "age0", "age1", "age2", "age3", "age4")),
)


def face_tasks(place: Path, side: int = SIDE) -> Dataset:
    """The eight in this order, their pictures read when they are asked for. Raises DataError."""
    return load("faces", place, FOLDERS, side, side)
