"""Tasks of one published stream: named folders of pictures in a given order, each with train/ and test/ (or val/)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecl.errors import DataError, PictureError
from edgecl.pictures.decode import DecodeLimits, read
from edgecl.pictures.folders import scan
from edgecl.streams.base import Dataset, Samples
from edgecl.streams.files import PictureFiles
from edgecl.text import printable

_LIMITS = DecodeLimits(max_bytes=16 << 20)  # of a file of pairs


@dataclass(frozen=True)
class Folder:
    """name: of the folder.   squeezed: pictures are cut out already and only brought to the side (`PictureFiles`).

    pairs: a file beside the folder: its test part are pairs of pictures to tell apart; "" where it has classes.
    """

    name: str
    squeezed: bool = False
    pairs: str = ""


def load(name: str, place: Path, folders: Sequence[Folder], side: int, shorter: int) -> Dataset:
    """Groups are the folders in their order, classes FOLDER/CLASS; nothing is read but names. Raises DataError."""
    if lacking := [one.name for one in folders if not (place / one.name).is_dir()]:
        raise DataError(
            f"{printable(place)} lacks {', '.join(lacking)}; {name} needs {', '.join(one.name for one in folders)} there, each "
            f"with train/ and test/ or val/, and in both a folder a class"
        )
    classes: list[str] = []
    notes: list[str] = []
    parts: dict[str, list[tuple[list[Path], list[int], int]]] = {"train": [], "test": []}
    for group, one in enumerate(folders):
        train = scan(place / one.name, "train")
        found = [("train", train)] + ([] if one.pairs else [("test", scan(place / one.name, "test", train.classes))])
        for part, files in found:
            parts[part].append((list(files.files), [len(classes) + label for label in files.labels], group))
            notes += [f"{one.name}: {note}" for note in files.notes]
        if one.pairs:
            pairs, lost = read_pairs(place / one.pairs, place / one.name / "test")
            parts["test"].append(
                ([file for a, b, _ in pairs for file in (a, b)], [int(s) for *_, s in pairs for _ in "ab"], group)
            )
            notes += [f"{one.name}: left out, pairs with a picture that is not there: {lost}"] if lost else []
        classes += [f"{one.name}/{c}" for c in train.classes]
    squeezed = [one.squeezed for one in folders]
    train_part, test_part = (_samples(lots, squeezed, side, shorter) for lots in parts.values())
    return Dataset(
        name,
        tuple(classes),
        tuple(one.name for one in folders),
        train_part,
        train_part[np.arange(0)],
        test_part,
        tuple(dict.fromkeys(notes)),
        pairs=frozenset(group for group, one in enumerate(folders) if one.pairs),
    )


def read_pairs(path: Path, folder: Path) -> tuple[list[tuple[Path, Path, bool]], int]:
    """Pictures a, b and whether they show the same person; and how many pairs lack a picture.

    path: as Labeled Faces in the Wild has it: a first line of numbers, then `NAME 1 2` or `NAME 1 OTHER 2`.   folder: with
    NAME/NAME_0001.jpg or .png.   Raises DataError.
    """
    try:
        lines = read(path, _LIMITS).decode().splitlines()[1:]
    except (PictureError, UnicodeDecodeError) as error:
        raise DataError(f"the pairs of pictures cannot be read: {error}") from None
    found, lost = [], 0
    for number, line in enumerate(lines, 2):
        words = line.split()
        if not words:
            continue
        if len(words) not in (3, 4) or not all(word.isdecimal() and len(word) < 6 for word in (words[1], words[-1])):
            raise DataError(f"{printable(path)}, line {number}: is neither NAME 1 2 nor NAME 1 OTHER 2")
        a, b = _face(folder, words[0], words[1]), _face(folder, words[-2] if len(words) == 4 else words[0], words[-1])
        if a and b:
            found.append((a, b, len(words) == 3))
        else:
            lost += 1
    if len(found) < 2:
        raise DataError(
            f"{printable(path)}: {len(found)} of {lost + len(found)} pairs have their pictures in {printable(folder)}"
        )
    return found, lost


def _face(folder: Path, name: str, number: str) -> Path | None:
    if "/" in name or "\\" in name or name in (".", ".."):
        raise DataError(f"'{printable(name, 60)}' is no name of a person; the file of pairs is damaged")
    stem = folder / name / f"{name}_{int(number):04d}"
    return next((path for path in (stem.with_name(stem.name + end) for end in (".jpg", ".png")) if path.is_file()), None)


def _samples(lots: list[tuple[list[Path], list[int], int]], squeezed: list[bool], side: int, shorter: int) -> Samples:
    files = [file for some, _, _ in lots for file in some]
    y = np.array([label for _, labels, _ in lots for label in labels], np.int64)
    group = np.repeat(np.array([number for _, _, number in lots], np.int64), [len(some) for some, _, _ in lots])
    return Samples(PictureFiles(files, np.array(squeezed, np.bool_)[group], side, shorter), y, group)
