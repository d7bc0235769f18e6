"""Each data set is a task to learn and to be tested on: both parts whole, apart, the same on every run."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import MissingDependency
from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets import shipped
from edgecl.types import task_name

SHAPES = {
    "digits": {(8, 8)},
    "faces": {(25, 25)},
    "instruments": {(64, 64), (64, 64, 3)},
    "mnist": {(28, 28)},
    "snapshots": {(80, 80, 3)},
    "solar_cells": {(300, 300)},
    "textures": {(48, 48)},
}


def load(name: str, **options: int) -> TaskPictures:
    try:
        return import_module(f"edgecl.streams.datasets.{name}").load(**options)
    except MissingDependency as error:
        pytest.skip(str(error))


def content(pictures: tuple[np.ndarray, ...]) -> list[bytes]:
    return [bytes(str(picture.shape), "ascii") + picture.tobytes() for picture in pictures]


@pytest.mark.parametrize("name", SHAPES)
class TestEachDataSet:
    def test_pictures_are_what_a_device_can_learn_from(self, name: str) -> None:
        task = load(name)
        assert task_name(task.name) == task.name
        assert {picture.shape for picture in task.train} == {picture.shape for picture in task.test} == SHAPES[name]
        assert all(picture.dtype == np.uint8 for picture in task.train + task.test)
        assert all(np.ptp(picture) > 20 for picture in task.train[:5])  # 0..255, not 0..1 cast to bytes

    def test_both_parts_show_every_class(self, name: str) -> None:
        task = load(name)
        for pictures, labels in ((task.train, task.train_labels), (task.test, task.test_labels)):
            assert len(pictures) == len(labels)
            assert set(labels) == set(range(len(task.classes)))
            assert all(type(label) is int for label in labels)

    def test_no_picture_is_in_both_parts(self, name: str) -> None:
        task = load(name)
        assert not set(content(task.train)) & set(content(task.test))

    def test_the_same_seed_gives_the_same_task_and_another_seed_another(self, name: str) -> None:
        first, again, other = (
            load(name, train=40, test=20),
            load(name, train=40, test=20),
            load(name, train=40, test=20, seed=1),
        )
        assert content(first.train + first.test) == content(again.train + again.test)
        assert (first.train_labels, first.test_labels) == (again.train_labels, again.test_labels)
        assert content(first.train) != content(other.train)

    def test_it_is_not_larger_than_asked_for(self, name: str) -> None:
        task = load(name, train=40, test=20)
        assert 20 <= len(task.train) <= 40
        assert 10 <= len(task.test) <= 20


def test_solar_cells_that_experts_were_unsure_of_are_left_out() -> None:
    task = load("solar_cells", train=800, test=630)
    assert [*np.bincount(task.train_labels), *np.bincount(task.test_labels)] == [
        400,
        400,
        315,
        315,
    ]  # all 715 defective


def test_patches_of_the_two_parts_lie_apart(tmp_path: Path) -> None:
    """Every pixel is its own column's number, so a patch says where it was cut."""
    width, side = 200, 20
    Image.fromarray(np.tile(np.arange(width, dtype=np.uint8), (100, 1))).save(tmp_path / "ramp.png")
    task = shipped.patches("ramp", [("ramp", tmp_path / "ramp.png")], side, 1000, 500, seed=0)
    trained, tested = ({int(column) for picture in part for column in picture[0]} for part in (task.train, task.test))
    assert min(tested) - max(trained) > side / 2
    assert max(tested) == width - 1
    lefts = sorted({int(picture[0, 0]) for picture in task.train})
    assert all(b - a == side for a, b in pairwise(lefts))
    assert len(task.train) == 5 * len(lefts)


def test_patches_that_show_nothing_are_left_out(tmp_path: Path) -> None:
    picture = np.zeros((80, 200), np.uint8)
    picture[:40] = np.random.default_rng(0).integers(0, 255, (40, 200))
    Image.fromarray(picture).save(tmp_path / "half.png")
    task = shipped.patches("half", [("half", tmp_path / "half.png")], 20, 1000, 500, seed=0)
    assert all(patch.any() for patch in task.train + task.test)


def test_drawing_takes_from_every_class_alike_and_never_twice() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 6])
    train, test = shipped.draw(labels, 30, 15, seed=3)
    assert np.bincount(labels[train]).tolist() == [10, 10, 4]  # of the rare class all there is, two thirds to train
    assert np.bincount(labels[test]).tolist() == [5, 5, 2]
    assert not set(train) & set(test)


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(MissingDependency, match=r"no-such-thing is not installed.*edgecl\[demo\]"):
        shipped.shipped("no_such_package", "no-such-thing", "x.png")


def test_a_package_without_the_file_is_told_apart_from_a_missing_one() -> None:
    with pytest.raises(MissingDependency, match=r"the installed NumPy has no data/x.png"):
        shipped.shipped("numpy", "NumPy", "data", "x.png")
