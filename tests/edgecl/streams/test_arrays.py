"""An .npz is believed only as far as it is checked: what fits is read as it is, all else is refused by name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.errors import ConfigError, DataError
from edgecl.rom.base import Rom
from edgecl.streams import arrays
from edgecl.streams.opening import load

RNG = np.random.default_rng(0)


def good(**changed: Any) -> dict[str, np.ndarray]:
    """Arrays of a data set; None takes one away."""
    made = {
        "x_train": RNG.normal(size=(12, 5)).astype(np.float32),
        "y_train": np.arange(12) % 3,
        "group_train": np.arange(12) // 6,
        "x_test": RNG.normal(size=(6, 5)).astype(np.float32),
        "y_test": np.arange(6) % 3,
        "group_test": np.arange(6) // 3,
        **changed,
    }
    return {key: value for key, value in made.items() if value is not None}


def saved(folder: Path, **changed: Any) -> str:
    np.savez(folder / "some.npz", **good(**changed))
    return str(folder / "some.npz")


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    some = good(classes=np.array(["a", "b", "c"]))
    data = load(saved(tmp_path, **some))
    assert (data.name, data.classes, data.groups) == ("some", ("a", "b", "c"), ("group 0", "group 1"))
    for part in ("train", "test"):
        samples = getattr(data, part)
        for key, value in (("x", samples.x), ("y", samples.y), ("group", samples.group)):
            np.testing.assert_array_equal(value, some[f"{key}_{part}"])
    assert len(data.val) == 0 and data.val.shape == (5,) and data.val.x.dtype == np.float32


def test_groups_may_be_left_out_and_val_may_be_there(tmp_path: Path) -> None:
    val = {"x_val": np.ones((3, 5), np.float32), "y_val": np.array([0, 1, 2])}
    data = load(saved(tmp_path, group_train=None, group_test=None, **val), val_share=0.5)
    assert data.groups == ("group 0",) and not data.train.group.any() and len(data.val) == 3 and len(data.train) == 12


BAD = {
    "lacks x_test or y_test": {"x_test": None},
    "y_train is .* one an input": {"y_train": np.arange(5)},
    "whole numbers": {"y_train": np.arange(12) % 3 / 1.0},
    "y_train goes from -1": {"y_train": np.arange(12) - 1},
    "y_test goes from": {"y_test": np.full(6, 10**6)},
    "not finite": {"x_train": np.full((12, 5), np.nan)},
    "scale it": {"x_train": np.full((12, 5), -1e38, np.float32)},
    "must be .* uint8, float32 or float64": {"x_train": np.zeros((12, 5), np.complex64)},
    r"x_test holds \(4,\)": {"x_test": np.zeros((6, 4), np.float32)},
    "x_test is empty": {"x_test": np.zeros((0, 5), np.float32), "y_test": np.zeros(0, int)},
    "is in y_test, but not in y_train": {"y_test": np.full(6, 7)},
    "at least 3 names": {"classes": np.array(["a", "b"])},
    "different names": {"classes": np.array(["a", "b", "b"])},
    "visible characters": {"classes": np.array(["a", "b", "\x1b[2J"])},
    "Python objects": {"x_train": np.array([object()] * 12)},
}


@pytest.mark.parametrize("words", BAD)
def test_arrays_that_do_not_fit_are_refused_by_name(words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(saved(tmp_path, **BAD[words]))


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with pytest.raises(DataError, match="no such file"):
        load(str(path))
    whole = Path(saved(tmp_path)).read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"is no \.npz of plain arrays"):
            load(str(path))


def test_a_header_that_promises_terabytes_is_refused_before_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("x_train.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2)})
    with pytest.raises(DataError, match="together; make a part of it"):
        arrays.read_arrays(path)


def test_pictures_in_arrays_go_through_the_rom_and_numbers_do_not(tmp_path: Path, rom: Rom) -> None:
    pictures = {f"x_{part}": RNG.integers(0, 256, (n, 20, 20, 3), np.uint8) for part, n in (("train", 12), ("test", 6))}
    path = saved(tmp_path, **pictures)
    np.testing.assert_array_equal(load(path).train.x, pictures["x_train"])
    assert load(path, size=8).train.x.shape == (12, 8, 8, 3)
    data = load(path, rom=rom)
    assert data.train.x.shape == (12, rom.width) and data.train.group.tolist() == [0] * 6 + [1] * 6
    with pytest.raises(ConfigError, match="are no pictures, so no ROM looks at them"):
        load(saved(tmp_path), rom=rom)
