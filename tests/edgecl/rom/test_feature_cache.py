"""A cache may be lost, emptied, damaged or out of reach; what it answers is right all the same."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edgecl.rom.feature_cache import FeatureCache

WIDTH = 8
ROW = 4 * WIDTH + 100  # what one picture is reckoned at


def open_cache(path: Path, key: str = "rom/ort/cpu", width: int = WIDTH, rows: int = 1000) -> FeatureCache:
    return FeatureCache(path, key, width, rows * (4 * width + 100))


def features(*names: str, width: int = WIDTH) -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(sum(name.encode())).normal(size=width).astype(np.float32) for name in names}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "features.sqlite"


def test_what_was_put_is_got_bit_for_bit_also_by_a_later_process(path: Path) -> None:
    cache, given = open_cache(path), features("a", "b")
    cache.put(given)
    for _ in range(2):
        found = cache.get(["b", "missing", "a", "a"])
        assert set(found) == {"a", "b"}
        assert all(np.array_equal(found[k], given[k]) and found[k].dtype == np.float32 for k in given)
        cache.close()
        cache = open_cache(path)


def test_other_roms_and_runtimes_do_not_see_each_other(path: Path) -> None:
    open_cache(path).put(features("a"))
    assert not open_cache(path, "rom/pytorch/cpu").get(["a"])
    wide = open_cache(path, "other", 16)
    wide.put(features("a", width=16))
    assert wide.get(["a"])["a"].shape == (16,) and open_cache(path).get(["a"])["a"].shape == (8,)


def test_same_key_of_another_width_is_no_hit(path: Path) -> None:
    open_cache(path).put(features("a"))
    assert not open_cache(path, width=4).get(["a"])


def test_newer_features_replace_older_ones(path: Path) -> None:
    cache = open_cache(path)
    cache.put(features("a"))
    cache.put({"a": np.full(WIDTH, 7, np.float32)})
    assert (cache.get(["a"])["a"] == 7).all()


def test_least_recently_used_goes_first_past_the_bound(path: Path) -> None:
    cache = open_cache(path, rows=3)
    for name in "abc":
        cache.put(features(name))
    cache.get(["a"])
    cache.put(features("d"))
    assert set(cache.get(list("abcd"))) == {"a", "c", "d"}
    cache.put(features(*"pqrstu"))
    assert len(cache.get(list("abcdpqrstu"))) == 3


def test_bound_smaller_than_one_picture_keeps_nothing(path: Path) -> None:
    cache = FeatureCache(path, "k", WIDTH, ROW - 1)
    cache.put(features("a"))
    assert not cache.get(["a"])


@pytest.mark.parametrize(
    "damage",
    [b"", b"no database at all", b"SQLite format 3\0" + bytes(200), os.urandom(8192)],
    ids=["empty", "text", "header", "noise"],
)
def test_damaged_file_is_begun_anew(path: Path, damage: bytes) -> None:
    open_cache(path).close()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(damage)
    cache = open_cache(path)
    cache.put(features("a"))
    assert np.array_equal(cache.get(["a"])["a"], features("a")["a"])


def test_flipped_bit_in_the_features_is_a_miss_and_no_wrong_answer(path: Path) -> None:
    cache = open_cache(path)
    cache.put(features("a", "b"))
    cache.close()
    with sqlite3.connect(path) as db:
        ((blob,),) = db.execute("SELECT x FROM features WHERE picture = 'a'").fetchall()
        db.execute("UPDATE features SET x = ? WHERE picture = 'a'", (bytes([blob[0] ^ 1]) + blob[1:],))
    assert set(open_cache(path).get(["a", "b"])) == {"b"}


def test_file_that_is_damaged_in_the_middle_costs_the_cache_only(path: Path) -> None:
    cache = open_cache(path)
    cache.put(features(*(f"p{i}" for i in range(500))))
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    cache, given = open_cache(path), features("p1", "new")
    cache.put(given)
    assert all(np.array_equal(x, given[k]) for k, x in cache.get(list(given)).items())
    cache.close()


def test_table_of_another_layout_costs_the_cache_only(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE features (other TEXT, used INTEGER)")
    cache = open_cache(path)
    cache.put(features("a"))
    assert not cache.get(["a"])


@pytest.mark.parametrize("place", ["a folder", "under a file"])
def test_place_that_cannot_be_used_costs_the_cache_only(tmp_path: Path, place: str) -> None:
    path = tmp_path / "x"
    if place == "a folder":
        path.mkdir()
    else:
        path.write_text("")
        path = path / "features.sqlite"
    cache = open_cache(path)
    cache.put(features("a"))
    assert set(cache.get(["a"])) <= {"a"}
    cache.close()


def test_error_leaves_no_transaction_behind(path: Path) -> None:
    """Else this process would keep all others from writing for as long as it lives."""
    cache, other = open_cache(path), open_cache(path)
    cache.put(features("a"))
    cache._db.execute("CREATE TRIGGER no BEFORE UPDATE ON features BEGIN SELECT RAISE(FAIL, 'no'); END")
    assert cache.get(["a"])
    assert not cache._db.in_transaction
    other.put(features("b"))
    assert other.get(["b"])


def test_two_processes_write_at_once_and_lose_nothing(path: Path) -> None:
    import multiprocessing

    def work(which: str) -> None:
        cache = open_cache(path)
        for i in range(30):
            cache.put(features(f"{which}{i}"))
        cache.close()

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=work, args=(which,)) for which in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join()
    names = [f"{which}{i}" for which in "ab" for i in range(30)]
    assert set(open_cache(path).get(names)) == set(names)
