"""The space of heads and mappers, and what storing vectors in 8 bits costs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgecl.space import pack, unit_sqrt, unpack

MATRICES = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.floats(-1e6, 1e6, width=32))


@given(MATRICES)
def test_unpacked_lies_within_half_a_step(rows: np.ndarray) -> None:
    quantised, step = pack(rows)
    assert quantised.dtype == np.int8 and step.dtype == np.float32 and step.shape == (len(rows),)
    assert (step > 0).all() and np.abs(quantised.astype(int)).max() <= 127
    error = np.abs(unpack(quantised, step).astype(np.float64) - rows)
    assert (error <= 0.5001 * step[:, None].astype(np.float64) + 1e-30).all()


@given(MATRICES)
def test_packing_again_changes_nothing(rows: np.ndarray) -> None:
    """So a stored anchor can be read and stored any number of times."""
    first = unpack(*pack(rows))
    np.testing.assert_allclose(unpack(*pack(first)), first, rtol=1e-5, atol=1e-12)


def test_pack_of_no_rows_gives_none() -> None:
    quantised, step = pack(np.zeros((0, 4), np.float32))
    assert unpack(quantised, step).shape == (0, 4)


@given(MATRICES)
def test_unit_sqrt_rows_have_length_one_and_keep_their_signs(x: np.ndarray) -> None:
    z = unit_sqrt(x)
    lengths, some = np.linalg.norm(z, axis=1), np.abs(x).max(1) > 1e-20
    assert z.dtype == np.float32 and z.shape == x.shape
    assert np.allclose(lengths[some], 1, atol=1e-5) and not z[~x.any(1)].any()
    assert (np.sign(z[np.abs(x) > 1e-20 * np.abs(x).max()]) == np.sign(x[np.abs(x) > 1e-20 * np.abs(x).max()])).all()


def test_unit_sqrt_forgets_contrast_and_leaves_its_input() -> None:
    x = np.random.default_rng(0).gamma(1, 1, (3, 20)).astype(np.float32)
    before = x.copy()
    assert np.allclose(unit_sqrt(x), unit_sqrt(7 * x), atol=1e-6) and np.array_equal(x, before)
    expected = np.sqrt(x.astype(np.float64)) / np.sqrt(x.astype(np.float64).sum(1, keepdims=True))
    np.testing.assert_allclose(unit_sqrt(x), expected, atol=1e-6)
