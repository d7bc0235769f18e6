"""What each scenario promises of the order and the inputs, beyond what all must satisfy."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.checks import streams
from edgecl.errors import DataError
from edgecl.streams.base import Dataset, Samples
from edgecl.streams.datasets import modes
from edgecl.streams.scenarios.making import make


def many(classes: int = 100, each: int = 40) -> Dataset:
    """Numbers whose value is their place in the data set; classes one after another, one group."""
    y = np.repeat(np.arange(classes), each)
    part = Samples.of(np.arange(len(y), dtype=float)[:, None], y)
    return Dataset("many", tuple(f"c{i}" for i in range(classes)), ("all",), part, part[:0], part)


def pictures() -> Dataset:
    rng = np.random.default_rng(0)
    part = Samples.of(rng.integers(60, 190, (40, 8, 8, 3), np.uint8), np.arange(40) % 4)
    return Dataset("pictures", ("a", "b", "c", "d"), ("all",), part, part[:0], part)


def test_class_order_of_seed_1993_is_the_one_that_the_fields_tables_are_made_with() -> None:
    stream = make("class", many(), 1993, classes_per_task=10)
    assert sorted(stream[0].classes.tolist()) == sorted([68, 56, 78, 8, 23, 84, 90, 65, 74, 76])
    assert len(stream) == 10 and all(len(e.classes) == 10 for e in stream)


def test_classes_are_shuffled_inside_an_experience_or_come_one_after_another() -> None:
    mixed, sorted_ = (make("class", streams.tasks(), order=order)[2].train.y for order in ("shuffled", "class"))
    assert (np.diff(sorted_) >= 0).all() and np.count_nonzero(np.diff(sorted_)) == 1
    assert np.count_nonzero(np.diff(mixed)) > 10


def test_task_and_superclass_give_the_task_and_no_other_does() -> None:
    given = {name for name in ("iid", "ci", "class", "blurry", "task", "superclass") if make(name, streams.tasks()).task_given}
    assert given == {"task", "superclass"}


def test_superclasses_keep_their_order_or_have_one_drawn() -> None:
    names = [tuple(e.name for e in make("superclass", streams.tasks(), seed, order="drawn")) for seed in range(8)]
    assert len(set(names)) > 1 and {tuple(sorted(n)) for n in names} == {("a", "b", "c")}
    assert [e.name for e in make("superclass", streams.tasks(), 5)] == ["a", "b", "c"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_blurry_leaks_the_stated_share_near_the_boundaries_into_neighbours_only(share: float) -> None:
    data = many(classes=20, each=500)
    stream = make("blurry", data, 1, classes_per_task=2, share=share)
    home = {int(c): i for i, e in enumerate(stream) for c in np.unique(e.test.y)}
    assert [len(e.train) for e in stream] == [1000] * 10 and len(home) == 20
    strange, reach = [], set()
    for i, e in enumerate(stream):
        own = np.array([home[int(c)] for c in e.train.y])
        strange.append((own != i).mean())
        reach |= set((own - i).tolist())
        if share and 0 < i < 9:
            assert (own[:100] < i).mean() > (own[450:550] < i).mean(), "the earlier classes fade out"
    assert np.mean(strange[1:-1]) == pytest.approx(share, abs=0.03) and strange[0] <= share
    assert reach == ({-1, 0, 1} if share else {0})


def test_noise_grows_along_the_stream() -> None:
    data = many()
    stream = make("drift", data, 2, strength=1.0, steps=5)
    sigma = data.train.x.std()
    order = np.concatenate([e.train.y for e in stream])
    for i, e in enumerate(stream):
        # A class has 40 numbers in a row: their mean is known, their spread is small against the noise.
        noise = e.train.x[:, 0] - (e.train.y * 40 + 19.5)
        assert noise.std() == pytest.approx(sigma * (i + 0.5) / 5, rel=0.25)
        assert len(e.train) == len(e.test) == 800
    assert np.count_nonzero(np.diff(order)) > 3000, "classes come mixed"


def test_pictures_grow_darker_and_stay_pictures() -> None:
    stream = make("drift", pictures(), kind="brightness", strength=1.0, steps=4)
    light = [e.train.x.mean() for e in stream]
    expected = [pictures().train.x.mean() * (1 - (i + 0.5) / 4) for i in range(4)]
    np.testing.assert_allclose(light, expected, rtol=0.05)
    noisy = make("drift", pictures(), strength=3.0, steps=4)[3].train.x
    assert noisy.dtype == np.uint8 and {0, 255} <= set(noisy.ravel().tolist()), "cut off, not wrapped around"


def test_permuted_pictures_have_the_same_pixels_elsewhere() -> None:
    stream = make("permuted", pictures(), domains=3)
    plain, moved, other = (e.test.x.reshape(40, 64, 3) for e in stream)
    np.testing.assert_array_equal(plain, pictures().test.x.reshape(40, 64, 3))
    for x in (moved, other):
        assert not np.array_equal(x, plain)
        np.testing.assert_array_equal(_sorted(x), _sorted(plain))
    assert not np.array_equal(moved, other)
    first = [i for i in range(64) if (plain[:, i] == moved[:, 0]).all()]
    assert len(first) == 1, "the first pixel comes from one place in all pictures"


def test_points_turn_around_the_origin() -> None:
    stream = make("rotated", modes.load(), domains=3, degrees=90.0)
    x = modes.load().test.x
    np.testing.assert_allclose(stream[1].test.x, np.stack([-x[:, 1], x[:, 0]], 1), atol=1e-12)
    np.testing.assert_allclose(stream[2].test.x, -x, atol=1e-12)


def test_pictures_turn_around_their_middle_and_nothing_else_turns() -> None:
    stream = make("rotated", pictures(), domains=2, degrees=90.0)
    np.testing.assert_array_equal(stream[1].test.x, np.rot90(pictures().test.x, axes=(1, 2)))
    with pytest.raises(DataError, match="cannot be turned"):
        make("rotated", many())


def _sorted(x: np.ndarray) -> np.ndarray:
    """Pixels (n, p, 3) of each picture in an order of their own."""
    codes = x.astype(np.int64) @ np.array([65536, 256, 1])
    return np.sort(codes, axis=1)
