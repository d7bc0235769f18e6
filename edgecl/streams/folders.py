"""Folders of pictures as tasks: one folder with train/ and test/, or a folder of such folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecl.errors import DataError
from edgecl.pictures.folders import TaskFiles, scan
from edgecl.streams.base import TaskPictures
from edgecl.streams.labelled import TEST, TRAIN, VAL, LabelledPictures
from edgecl.text import printable
from edgecl.types import task_name

SIDE = 64  # pixels of a picture that no ROM looks at


def task_folders(folder: Path) -> list[Path]:
    """Every sub-folder of `folder` that has train/ inside, by name. Raises DataError when there is none."""
    if not folder.is_dir():
        raise DataError(f"{printable(folder)} is no folder; give a folder of tasks, each with train/ and test/ inside")
    places = sorted(path.parent for path in folder.glob("*/train") if path.is_dir() and not path.parent.name.startswith("."))
    if not places:
        raise DataError(
            f"{printable(folder)} has no sub-folder with train/ inside; give a folder of tasks, each with train/ and test/"
        )
    return places


def find_tasks(folder: Path) -> list[TaskPictures]:
    """The tasks in the sub-folders of `folder`, by name. Raises DataError when there is none, or one lacks a part."""
    found = []
    for place in task_folders(folder):
        train = scan(place, "train")
        test = scan(place, "test", train.classes)
        found.append(TaskPictures(task_name(place.name), train.classes, train.files, train.labels, test.files, test.labels))
    return found


def folder_pictures(folder: Path) -> LabelledPictures:
    """All pictures of a folder with train/ and test/ of classes, or of a folder of tasks: groups are tasks, classes TASK/CLASS.

    Pictures lie task by task, class by class, by name. A val/ beside both is the validation part.
    """
    one = (folder / "train").is_dir()
    classes: list[str] = []
    groups: list[str] = []
    notes: list[str] = []
    lots = []
    for number, place in enumerate([folder] if one else task_folders(folder)):
        name = task_name(place.name) if not one else printable(folder.resolve().name, 60)
        train = scan(place, "train")
        parts: list[tuple[int, TaskFiles]] = [(TRAIN, train), (TEST, scan(place, "test", train.classes))]
        if {"val", "test"} <= set(train.splits):
            parts.insert(1, (VAL, scan(place, "val", train.classes)))
        for which, found in parts:
            lots += [(file, len(classes) + label, number, which) for file, label in zip(found.files, found.labels, strict=True)]
            notes += [note if one else f"{name}: {note}" for note in found.notes]
        classes += train.classes if one else [f"{name}/{c}" for c in train.classes]
        groups.append(name)
    y, group, part = np.array([lot[1:] for lot in lots], np.int64).reshape(-1, 3).T
    files = [lot[0] for lot in lots]
    title = printable(folder.resolve().name, 60)
    return LabelledPictures(title, tuple(classes), tuple(groups), files, y, group, part, SIDE, tuple(dict.fromkeys(notes)))
