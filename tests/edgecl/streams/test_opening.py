"""A data set by what stands on a command line: what is read, how it is numbered, what is refused and with which words."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import ConfigError, DataError, UnknownName
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.rom.feature_cache import FeatureCache
from edgecl.streams.folders import find_tasks
from edgecl.streams.opening import load
from edgecl.streams.scenarios.making import make

TASKS = ("colours", "shapes", "stripes")


@pytest.fixture
def tasks(pictures_task: Mapping[str, Path]) -> Path:
    return next(iter(pictures_task.values())).parent


def test_a_folder_of_tasks_is_numbered_task_by_task_class_by_class(tasks: Path) -> None:
    data = load(str(tasks), size=16)
    assert data.groups == TASKS
    assert data.classes[:2] == ("colours/blue", "colours/green") and data.classes[-1] == "stripes/level"
    assert data.train.x.shape == (120, 16, 16, 3) and data.test.x.shape == (50, 16, 16, 3) and not len(data.val)
    assert data.train.y.tolist() == sorted(data.train.y.tolist())
    for y, group in zip(data.train.y, data.train.group, strict=True):
        assert data.classes[y].startswith(data.groups[group] + "/")
    stream = make("class", data)
    assert [e.name for e in stream] == list(TASKS) and [len(e.train) for e in stream] == [48, 36, 36]


def test_pixels_are_those_of_the_pictures(tasks: Path) -> None:
    data = load(str(tasks), size=192)
    own = data.train.x[data.train.y == data.classes.index("stripes/fine")]
    files = sorted((tasks / "stripes" / "train" / "fine").iterdir())
    first = next(i for i, file in enumerate(files) if file.suffix == ".png")
    np.testing.assert_array_equal(own[first], np.asarray(Image.open(files[first])))


def test_one_task_keeps_its_class_names(tasks: Path) -> None:
    data = load(str(tasks / "shapes"), size=16)
    assert data.classes == ("discs", "lines", "rings") and data.groups == ("shapes",) and data.name == "shapes"


def test_a_rom_gives_features_and_the_cache_keeps_them(tasks: Path, rom: Rom, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features.sqlite", "key", rom.width, 1 << 20)
    data = load(str(tasks / "shapes"), rom=rom, cache=cache)
    files = [path for task in find_tasks(tasks) if task.name == "shapes" for path in task.test]
    expected = rom.features([decode(path, rom.preprocess) for path in files])
    np.testing.assert_allclose(data.test.x, expected, rtol=0, atol=1e-5)
    assert data.test.x.dtype == np.float32
    rom_asked = []
    again = load(str(tasks / "shapes"), rom=rom, cache=cache, progress=lambda *at: rom_asked.append(at))
    np.testing.assert_array_equal(again.test.x, data.test.x)
    assert not rom_asked, "the features were in the cache"
    cache.close()


def test_unreadable_pictures_are_named_and_left_out(tasks: Path, rom: Rom, tmp_path: Path) -> None:
    shutil.copytree(tasks / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "train" / "discs" / "00.png").write_bytes(b"no picture")
    for given in (None, rom):
        data = load(str(tmp_path / "shapes"), rom=given, size=None if given else 16)
        assert len(data.train) == 35 and len(data.train.x) == 35 and (data.train.y == 0).sum() == 11
        assert len(data.notes) == 1 and "00.png" in data.notes[0] and data.notes[0].startswith("left out, cannot be read: 1")


def test_a_class_without_a_readable_picture_is_an_error(tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(tasks / "shapes", tmp_path / "shapes")
    for file in (tmp_path / "shapes" / "train" / "discs").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="the class 'discs' has no readable picture to train with"):
        load(str(tmp_path / "shapes"), size=16)


def test_validation_is_there_where_the_folder_has_it(tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(tasks / "shapes", tmp_path / "shapes")
    shutil.copytree(tasks / "shapes" / "test", tmp_path / "shapes" / "val")
    data = load(str(tmp_path / "shapes"), size=16, val_share=0.5)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 15, 15), "nothing is held out of train then"


def test_a_share_is_held_out_evenly_and_by_seed(tasks: Path) -> None:
    whole, data, again, other = (
        load(str(tasks), size=16, val_share=s, seed=n) for s, n in ((0, 0), (0.25, 0), (0.25, 0), (0.25, 1))
    )
    assert np.bincount(data.val.y).tolist() == [3] * 10 and np.bincount(data.train.y).tolist() == [9] * 10
    np.testing.assert_array_equal(data.val.x, again.val.x)
    assert not np.array_equal(data.val.x, other.val.x)
    together = {x.tobytes() for part in (data.train, data.val) for x in part.x}
    assert together == {x.tobytes() for x in whole.train.x} and any("30 of 120" in note for note in data.notes)


def test_points_need_no_file_and_take_no_rom(rom: Rom) -> None:
    assert load("modes").train.x.shape == load("moons").train.x.shape == (1000, 2)
    for options in ({"rom": rom}, {"size": 32}):
        with pytest.raises(ConfigError, match="are no pictures"):
            load("modes", **options)


@pytest.mark.parametrize("word", ["mode", "cifar10", "nowhere/at/all"])
def test_an_unknown_word_is_answered_with_the_known_ones(word: str) -> None:
    with pytest.raises(UnknownName, match=r"Known: .*cifar100.*And there is no folder") as caught:
        load(word)
    assert ("did you mean 'modes'" in str(caught.value)) == (word == "mode")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"val_share": 1.0}, "share"), ({"size": 4}, "side"), ({"size": 9999}, "side"), ({"seed": -1}, "seed")],
)
def test_settings_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load("modes", **options)


def test_a_folder_without_tasks_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sub-folder with train/ inside"):
        load(str(tmp_path))


def test_the_real_tasks_make_one_stream_of_142_classes(shared_tasks: Path) -> None:
    """Their numbers are in the README beside them."""
    data = load(str(shared_tasks), size=8)
    stream = make("class", data)
    assert (len(stream), len(stream.classes), len(data.train), len(data.test)) == (14, 142, 4553, 2254)
    assert sorted(np.concatenate([e.classes for e in stream]).tolist()) == list(range(142)), "a class comes in one experience"
