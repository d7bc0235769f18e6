"""Tiny data in the folders of published streams: shared by the tests of the data, of their learners and of their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.streams.datasets import face_tasks, finegrained


def pictures(folder: Path, names: list[str], count: int, side: int, seed: int) -> None:
    """A colour a class, with noise."""
    draw = np.random.default_rng(seed)
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        colour = np.random.default_rng(number).integers(40, 215, 3)
        for i in range(count):
            picture = np.clip(colour + draw.normal(0, 20, (side, side + 4, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / name / f"{name}_{i + 1:04d}.png")


@pytest.fixture(scope="session")
def finegrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes each; ImageNet has val/, the others test/."""
    folder = tmp_path_factory.mktemp("finegrained")
    for task, one in enumerate(finegrained.FOLDERS):
        names = [f"c{task}{c}" for c in "ab"]
        pictures(folder / one.name / "train", names, 6, 40, task)
        pictures(folder / one.name / ("val" if one.name == "imagenet" else "test"), names, 4, 40, 100 + task)
    return folder


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons to learn, other persons in pairs, one of which lacks a picture; then three classes each."""
    folder = tmp_path_factory.mktemp("faces")
    for task, one in enumerate(face_tasks.FOLDERS):
        names = [f"p{task}{c}" for c in "abc"]
        pictures(folder / one.name / "train", names, 6, 32, task)
        pictures(folder / one.name / "test", ["Ann_A", "Bob"] if one.pairs else names, 4, 32, 100 + task)
    pairs = ["Ann_A 1 2", "Ann_A 3 4", "Ann_A 1 Bob 1", "Bob 2 Ann_A 3", "Bob 1 2", "Ann_A 2 Bob 9"]
    (folder / "lfw_pairs.txt").write_text("1\t3\n" + "\n".join(pair.replace(" ", "\t") for pair in pairs) + "\n")
    return folder
