"""One task of a stream, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskPictures:
    """One task to be judged on: its training and test pictures, with labels into `classes`.

    train, test: paths, or (h, w) or (h, w, 3) uint8 arrays; no picture is in both.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Any, ...]
    train_labels: tuple[int, ...]
    test: tuple[Any, ...]
    test_labels: tuple[int, ...]
