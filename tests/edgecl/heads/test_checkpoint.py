"""The state of a learning on disk: whole or not at all, its own or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import BankError
from edgecl.heads.parts.checkpoint import Checkpoint, forget
from firmware_sim.faults import small_disk

STATE = {"value/0": np.arange(40, dtype=np.float32), "counts": np.array([3, 7])}
MORE = {"value/0": np.ones((2, 3), np.float32)}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file with the states of two stages, in a folder that the first write makes."""
    place = tmp_path / "learning" / "birds.safetensors"
    saved = Checkpoint(place, "key", resume=False)
    saved.write("main", {name: value * 0 for name, value in STATE.items()})
    saved.write("main", STATE)
    saved.write("refresh", MORE)
    return place


def same(a: object, b: dict[str, np.ndarray]) -> bool:
    return isinstance(a, dict) and set(a) == set(b) and all(np.array_equal(a[n], b[n]) for n in b)


def test_the_newest_state_of_each_stage_comes_back(written: Path) -> None:
    found = Checkpoint(written, "key", resume=True)
    assert found.found
    assert same(found.read("main"), STATE) and same(found.read("refresh"), MORE) and found.read("other") is None
    assert [path.name for path in written.parent.iterdir()] == [written.name]  # nothing half-written is left beside it


def test_a_stage_stays_as_it_was_written_though_its_arrays_change_later(tmp_path: Path) -> None:
    """The next stage learns on in the same memory, and each write puts all stages into the file."""
    saved, live = Checkpoint(tmp_path / "x", "key", resume=False), np.zeros(3, np.float32)
    saved.write("main", {"value": live})
    live += 1
    saved.write("refresh", {"value": live})
    found = Checkpoint(tmp_path / "x", "key", resume=True)
    assert same(found.read("main"), {"value": np.zeros(3)}) and same(found.read("refresh"), {"value": np.ones(3)})


def test_without_resume_nothing_is_taken_up(written: Path) -> None:
    fresh = Checkpoint(written, "key", resume=False)
    assert not fresh.found and fresh.read("main") is None


def test_the_state_of_another_learning_is_none(written: Path) -> None:
    """Other pictures, another ROM or another setting: another key."""
    other = Checkpoint(written, "other", resume=True)
    assert not other.found and other.read("main") is None


@pytest.mark.parametrize(
    "damage", ["gone", "empty", "noise", "cut short", "header", "a flipped bit", "no metadata", "a folder"]
)
def test_a_damaged_file_is_as_good_as_none(written: Path, damage: str) -> None:
    data = bytearray(written.read_bytes())
    if damage == "no metadata":
        from safetensors.numpy import save

        data = bytearray(save({"main|counts": STATE["counts"]}))
    elif damage == "a flipped bit":
        data[-5] ^= 1  # in the numbers, which safetensors itself does not check
    elif damage == "header":
        data[12] ^= 0x55
    elif damage == "noise":
        data = bytearray(np.random.default_rng(0).bytes(500))
    elif damage == "cut short":
        del data[-9:]
    elif damage == "empty":
        data.clear()
    written.unlink()
    if damage == "a folder":
        written.mkdir()
    elif damage != "gone":
        written.write_bytes(data)
    found = Checkpoint(written, "key", resume=True)
    assert not found.found and found.read("main") is None


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BankError, match=r"cannot be kept in .*file"):
        Checkpoint(tmp_path / "file" / "x.safetensors", "key", resume=False).write("main", STATE)


def test_a_full_disk_leaves_the_state_of_the_epoch_before(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place, 1 << 20) as how:
        if how != "tmpfs":
            pytest.skip("a small disk needs the right to mount one")
        saved = Checkpoint(place / "x.safetensors", "key", resume=False)
        saved.write("main", STATE)
        with pytest.raises(BankError, match=r"space.*--resume"):
            saved.write("main", {"value/0": np.ones(1 << 19, np.float32)})
        assert same(Checkpoint(place / "x.safetensors", "key", resume=True).read("main"), STATE)
        assert [path.name for path in place.iterdir()] == ["x.safetensors"]


def test_forgetting_takes_all_that_the_learning_left_and_no_more(written: Path) -> None:
    names = (written.name, f"{written.name}.bb", f"{written.name}.clr")
    beside = [written.with_name(name) for name in (*names, *(f".{name}-1f.part" for name in names))]
    other = written.with_name("birds-two.safetensors")
    for path in (*beside, other):
        path.touch()
    forget(written)
    assert list(written.parent.iterdir()) == [other]
    forget(written)  # again, and where there is no folder
    forget(written.parent / "nowhere" / "x.safetensors")
