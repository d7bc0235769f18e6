"""ns: the recipe's arithmetic and its noise, on a small folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import DataError
from edgecl.rom.base import Rom
from edgecl.streams.datasets import noisy
from edgecl.streams.labelled import TEST, TRAIN, VAL
from edgecl.streams.opening import load
from edgecl.streams.scenarios.making import make

GREY = (90, 128)  # of each class; far enough from black and white that no noise is clipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes: 14 pictures to train and 6 to test, of one grey each; the test pictures a little brighter."""
    for part, count, brighter in (("train", 14, 0), ("test", 6, 20)):
        for c, grey in enumerate(GREY):
            place = tmp_path / "greys" / part / f"class-{c}"
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((50, 40, 3), grey + brighter, np.uint8)).save(place / f"{i:02}.png")
    return tmp_path / "greys"


def test_600_pictures_a_class_are_split_420_60_120() -> None:
    """The sizes of the published stream: 126,000 to train, 9,000 early validation, 36,000 to test, with 100 classes."""
    parts = noisy._parts(600)
    assert [int((parts == which).sum()) for which in (TRAIN, VAL, TEST)] == [420, 60, 120]
    assert (np.diff(parts) >= 0).all(), "by position"


def test_domains_classes_and_parts_come_in_the_order_of_the_recipe(folder: Path) -> None:
    data = load(f"ns:{folder}")
    assert data.train.shape == (84, 84, 3) and len(data.groups) == 3
    assert [len(part) for part in (data.train, data.val, data.test)] == [3 * 2 * 14, 3 * 2 * 2, 3 * 2 * 4]
    clean = [part.x[(part.group == 0) & (part.y == 1)] for part in (data.train, data.val, data.test)]
    assert (clean[0] == 128).all(), "70 % of 20 are the training pictures, which come first"
    assert (clean[1] == 148).all() and (clean[2] == 148).all()
    stream = make("cdi", data)
    assert [(int(e.train.group[0]), int(e.train.y[0])) for e in stream] == [(d, c) for d in range(3) for c in range(2)]
    assert [len(e.val) for e in stream] == [2, 2, 2, 0, 0, 0]


def test_noise_has_the_stated_spread_and_is_new_in_each_picture_and_domain(folder: Path) -> None:
    train = load(f"ns:{folder}").train
    noise = {}
    for domain, sigma in enumerate((0, 0.025, 0.1)):
        own = train.x[(train.group == domain) & (train.y == 1)].astype(float) / 255 - 128 / 255
        assert own.std() == pytest.approx(sigma, rel=0.02, abs=1e-9) and abs(own.mean()) < 1e-3
        noise[domain] = own
    assert abs(np.corrcoef(noise[1][0].ravel(), noise[1][1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noise[1][0].ravel(), noise[2][0].ravel())[0, 1]) < 0.05


def test_the_seed_decides_the_noise_and_a_rom_sees_it(folder: Path, rom: Rom) -> None:
    first, again, other = (load(f"ns:{folder}", size=16, seed=seed).train for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    differs = (first.x != other.x).any((1, 2, 3))
    assert differs[first.group > 0].all() and not differs[first.group == 0].any()
    features = load(f"ns:{folder}", rom=rom).train
    assert features.x.shape == (84, rom.width)
    clean, noisiest = (features.x[(features.group == d) & (features.y == 0)] for d in (0, 2))
    np.testing.assert_allclose(clean, clean[:1].repeat(14, 0), atol=1e-5)
    assert np.abs(noisiest - clean).max() > 1e-3


def test_unreadable_pictures_are_left_out_of_all_domains(folder: Path) -> None:
    (folder / "train" / "class-0" / "03.png").write_bytes(b"no picture")
    data = load(f"ns:{folder}", size=16)
    assert len(data.train) == 3 * 2 * 14 - 3 and "left out, cannot be read: 3" in data.notes[0]


def test_a_class_of_one_picture_is_refused(folder: Path) -> None:
    for part in ("train", "test"):
        for file in sorted((folder / part / "class-0").iterdir())[1 if part == "train" else 0 :]:
            file.unlink()
    with pytest.raises(DataError, match="the class 'class-0' has 1 pictures; ns needs 2 or more"):
        load(f"ns:{folder}", size=16)
