"""MODES and MOONS are the published points: the specification's sums and first points, and scikit-learn's own generators."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.streams.base import Dataset
from edgecl.streams.datasets.introsort import argsort

SUMS = {"modes": (-130.98186, -86.25848), "moons": (68.57341, 213.94218)}
FIRST_CDID = {"modes": (-0.79943240, -0.57332949), "moons": (-0.34735806, -0.09915813)}
FIRST_IID = {"modes": (-0.89233712, 0.72666082), "moons": (-0.18454427, 0.30531089)}
SIZES = {"modes": [100, 200, 50, 150] * 2, "moons": [200, 50, 150, 100] * 2}
NAMES = tuple(SUMS)
VECTORS = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"


def load(name: str) -> Dataset:
    return import_module(f"edgecl.streams.datasets.{name}").load()


@pytest.mark.parametrize("name", NAMES)
def test_golden_sum_and_first_points(name: str) -> None:
    train = load(name).train
    np.testing.assert_allclose(train.x.sum(0), SUMS[name], atol=5e-6)
    np.testing.assert_allclose(train.x[0], FIRST_IID[name], atol=5e-9)
    own = train.x[(train.y == 0) & (train.group == 0)]
    np.testing.assert_allclose(own[own[:, 0].argmin()], FIRST_CDID[name], atol=5e-9)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_scale(name: str) -> None:
    data = load(name)
    assert [len(part) for part in (data.train, data.val, data.test)] == [1000, 500, 500]
    counts = np.bincount(data.train.group * 4 + data.train.y)
    assert counts.tolist() == SIZES[name]
    every = np.concatenate([data.train.x, data.val.x, data.test.x])
    assert len(np.unique(every, axis=0)) == 2000, "a point is in two parts"
    np.testing.assert_array_equal([every.min(0), every.max(0)], [[-1, -1], [1, 1]])


def test_blobs_are_those_of_scikit_learn() -> None:
    made = pytest.importorskip("sklearn.datasets", reason="compares with scikit-learn").make_blobs
    modes = import_module("edgecl.streams.datasets.modes")
    for domain in range(2):
        for c in range(4):
            ours = modes.block(domain, c)
            centre, std, seed = modes.CENTRES[domain][c], modes.SPREADS[domain][c], modes.SEEDS[domain][c]
            theirs, _ = made(len(ours), centers=[centre], cluster_std=std, shuffle=False, random_state=seed)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-16)


def test_moons_are_those_of_scikit_learn() -> None:
    made = pytest.importorskip("sklearn.datasets", reason="compares with scikit-learn").make_moons
    moons = import_module("edgecl.streams.datasets.moons")
    for domain in range(2):
        for pair in range(2):
            first, second = (moons.block(domain, 2 * pair + i) for i in range(2))
            noise, seed = moons.NOISES[domain][pair], moons.SEEDS[domain][pair]
            theirs, _ = made((len(first), len(second)), shuffle=False, noise=noise, random_state=seed)
            theirs = theirs + moons.OFFSETS[domain][pair]
            np.testing.assert_allclose(np.concatenate([first, second]), theirs, rtol=0, atol=5e-16)


@pytest.mark.parametrize("name", NAMES)
def test_published_orders_are_the_generators_bit_by_bit(name: str) -> None:
    """Written as the generator does it, with the sort that NumPy has where a processor has no vector instructions for it."""
    program = f"""
import numpy as np
from edgecl.streams.datasets.{name} import load
train = load().train
once = np.argsort(np.random.RandomState(1234).permutation(1000))
y, group = train.y[once], train.group[once]
ci = np.argsort(y)
rows = np.argsort(group)
cdi = np.concatenate([rows[group[rows] == d][np.argsort(y[rows][group[rows] == d])] for d in range(2)])
print((once[ci] == load().published["ci"]).all() and (once[cdi] == load().published["cdi"]).all())
"""
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": VECTORS}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    if "ImportError" in done.stderr or "RuntimeError" in done.stderr:
        pytest.skip("this NumPy was built without the instructions that would have to be switched off")
    assert done.stdout == "True\n", done.stderr


@given(st.lists(st.integers(0, 3), max_size=300))
def test_sorted_rows_are_a_permutation_that_sorts(values: list[int]) -> None:
    rows = argsort(np.array(values, np.int64))
    assert sorted(rows.tolist()) == list(range(len(values)))
    assert np.array(values)[rows].tolist() == sorted(values)
