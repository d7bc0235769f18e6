"""One task of a stream, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskPictures:
    """One task to be judged on: its training and test pictures, with labels into `classes`.

    train, test: paths, or (h, w) or (h, w, 3) uint8 arrays; no picture is in both. They may be made when they are asked for.
    """

    name: str
    classes: tuple[str, ...]
    train: Sequence[Any]
    train_labels: tuple[int, ...]
    test: Sequence[Any]
    test_labels: tuple[int, ...]
