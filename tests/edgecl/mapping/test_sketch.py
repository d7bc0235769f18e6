"""What is kept of a task's pictures: which ones, how exactly, and that nothing else is read as a sketch."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from edgecl.checks import synthetic
from edgecl.errors import BundleError
from edgecl.mapping.left_out import LeftOut
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.mapping.sketch import PICTURES, chosen, draw, read


def test_pictures_are_chosen_evenly_by_class_and_by_seed() -> None:
    labels = np.repeat(np.arange(5), [3, 100, 100, 4, 100])
    rows = chosen(labels)
    assert len(set(rows)) == PICTURES and np.bincount(labels[rows]).tolist() == [3, 19, 19, 4, 19]
    assert np.array_equal(rows, chosen(labels)) and not np.array_equal(rows, chosen(labels, seed=1))
    assert np.array_equal(chosen(labels[:50]), np.arange(50))


def test_features_come_back_within_half_a_step() -> None:
    x, y = synthetic.features(0, 3, 10, 32)
    x[:, 0] *= -1
    sketch = read(draw(x, y), 32)
    assert sketch.features.dtype == np.float32 and sketch.counts.tolist() == [10.0] * 30
    root = np.sign(x) * np.sqrt(np.abs(x))
    back = np.sign(sketch.features) * np.sqrt(np.abs(sketch.features))
    assert (np.abs(root - back) <= np.abs(root).max(1, keepdims=True) / 250).all()


@pytest.mark.parametrize("damage", ["cut", "empty", "more", "fewer", "nan", "step", "count", "width", "dtype"])
def test_what_is_no_sketch_is_refused(damage: str) -> None:
    good = draw(*synthetic.features(0, 3, 5, 32))
    arrays = load(good)
    changes = {
        "more": {**arrays, "x": np.zeros(1)},
        "fewer": {name: value for name, value in arrays.items() if name != "count"},
        "nan": {**arrays, "size": arrays["size"] * np.nan},
        "step": {**arrays, "step": arrays["step"] * 1e9},
        "count": {**arrays, "count": arrays["count"] * 0},
        "width": {**arrays, "z": np.ascontiguousarray(arrays["z"][:, :31])},
        "dtype": {**arrays, "z": arrays["z"].astype(np.int16)},
    }
    data = {"cut": good[:-1], "empty": b""}.get(damage) if damage in ("cut", "empty") else save(changes[damage])
    with pytest.raises(BundleError):
        read(data or b"", 32)


@pytest.mark.parametrize(("count", "width"), [(20, 48), (6, 256)], ids=["many", "few"])
def test_left_out_pictures_are_lost_to_a_twin_as_new_ones_are(count: int, width: int) -> None:
    """Two tasks from two draws of the same pictures: a new one goes to either, an old one only if it is judged as left out.

    With few pictures the covariance is theirs too: leaving them out of the means alone would show nothing.
    """
    new, plain, left_out = [], [], []
    for task in range(6):
        x, y = synthetic.features(task, 3, count, width, spread=1.0)
        mapper = LeftOut(width)
        mapper.add("known", Mahalanobis.anchor(x, y))
        mapper.add("twin", Mahalanobis.anchor(*synthetic.features(task, 3, count, width, spread=1.0, seed=1)))
        twin = mapper.tasks.index("twin")
        new.append((mapper.assign(synthetic.features(task, 3, 200, width, spread=1.0, seed=2)[0]).task == twin).mean())
        plain.append((mapper.assign(x).task == twin).mean())
        left_out.append((mapper.left_out(x, ["known"] * len(x), np.full(len(x), count, np.float32)) == twin).mean())
    assert 0.4 < np.mean(new) < 0.6 and np.mean(plain) < 0.3 and abs(np.mean(left_out) - np.mean(new)) < 0.2
