"""Published streams from folders: the order of the tasks, pairs of faces, folds, and folders that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import ConfigError, DataError
from edgecl.streams import opening
from edgecl.streams.datasets.task_folders import read_pairs
from edgecl.streams.scenarios.making import make


def test_six_tasks_come_in_the_published_order(finegrained_folder: Path) -> None:
    data = opening.load(f"finegrained:{finegrained_folder}", size=32)
    stream = make("superclass", data)
    assert [e.name for e in stream] == [
        *("imagenet", "cubs_cropped", "stanford_cars_cropped", "flowers", "wikiart", "sketches")
    ]
    assert stream.task_given and stream.shape == (32, 32, 3) and not any(e.pairs for e in stream)
    for task, one in enumerate(stream):
        assert one.classes.tolist() == [2 * task, 2 * task + 1] and len(one.train) == 12 and len(one.test) == 8
        assert np.asarray(one.train.x[:3]).shape == (3, 32, 32, 3)
    assert any("val" in note for note in data.notes)


def test_faces_are_pairs_then_classes_and_the_seed_is_the_fold(faces_folder: Path) -> None:
    data = opening.load(f"faces:{faces_folder}", size=24)
    for seed in range(3):
        stream = make("superclass", data, seed, folds="true")
        assert [e.name for e in stream] == ["face_verification", "gender", "emotion", f"age{seed}"]
        assert [e.pairs for e in stream] == [True, False, False, False]
    first = stream[0]
    assert first.test.y[::2].tolist() == first.test.y[1::2].tolist() == [1, 1, 0, 0, 1]
    assert sum("pairs with a picture that is not there: 1" in note for note in data.notes) == 1
    with pytest.raises(DataError, match="mixes pairs"):
        make("iid", data)


def test_folders_that_are_missing_are_named(tmp_path: Path) -> None:
    for name in ("imagenet", "cubs_cropped", "stanford_cars_cropped", "flowers", "sketches"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="lacks wikiart"):
        opening.load(f"finegrained:{tmp_path}")
    with pytest.raises(DataError, match="lacks face_verification"):
        opening.load(f"faces:{tmp_path}")


@pytest.mark.parametrize("line", ["Ann", "Ann 1 x", "Ann 1 Bob 2 3", "../Ann 1 2", "Ann 1 99999999"])
def test_a_damaged_list_of_pairs_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"1 1\n{line}\n")
    with pytest.raises(DataError):
        read_pairs(path, tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "none.txt", tmp_path)


def test_no_rom_looks_at_them(faces_folder: Path) -> None:
    with pytest.raises(ConfigError, match="leave out the ROM"):
        opening.load(f"faces:{faces_folder}", rom=object())  # type: ignore[arg-type]
