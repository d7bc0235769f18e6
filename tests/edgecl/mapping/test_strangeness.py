"""How unusual a picture is for its task: the distance against its definition, the limit against its promise."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.mapping.strangeness import RANK, _upper_quantile, calibrate, strangeness, subspace
from edgecl.space import pack, unpack


def data(n: int, d: int, groups: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    g = np.arange(n) % groups
    loud = rng.normal(size=(3, d)) * np.array([[3.0], [2.0], [1.0]])
    z = (
        np.random.default_rng(99).normal(size=(groups, d))[g] * 4
        + rng.normal(size=(n, 3)) @ loud / np.sqrt(d)
        + 0.1 * rng.normal(size=(n, d))
    )
    return z.astype(np.float32), g


@pytest.mark.parametrize(("n", "d"), [(30, 80), (200, 20)], ids=["fewer-pictures", "more-pictures"])
def test_subspace_is_the_principal_axes_within_groups(n: int, d: int) -> None:
    z, g = data(n, d)
    means, directions, variances, rest = subspace(z, g)
    r = z.astype(np.float64) - np.stack([z[g == c].astype(np.float64).mean(0) for c in range(3)])[g]
    values, vectors = np.linalg.eigh(r.T @ r / (n - 3))
    k = len(variances)
    assert k == min(RANK, d, n - 3) and means.shape == (3, d)
    np.testing.assert_allclose(variances, values[::-1][:k], rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.einsum("rd,dr->r", directions[:3], vectors[:, ::-1][:, :3])), 1, atol=1e-3)
    np.testing.assert_allclose(directions @ directions.T, np.eye(k), atol=1e-4)
    assert variances.sum() + rest * (d - k) == pytest.approx(np.trace(r.T @ r) / (n - 3), rel=1e-4)


def test_subspace_of_groups_of_one_or_of_equal_pictures_has_no_directions() -> None:
    z, _ = data(5, 12)
    for x, g in ((z, np.arange(5)), (np.ones((6, 12), np.float32), np.zeros(6, np.int64))):
        means, directions, variances, rest = subspace(x, g)
        assert directions.shape == (0, 12) and variances.shape == (0,) and rest == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(strangeness(x, means, directions), 0, atol=1e-4)


def test_strangeness_is_the_distance_outside_the_nearest_flat() -> None:
    """By projection, mean by mean."""
    z, g = data(60, 20)
    means, directions, _, _ = subspace(z, g)
    new = data(40, 20, seed=1)[0].astype(np.float64)
    outside = np.eye(20) - directions.T.astype(np.float64) @ directions
    expected = np.min([(((new - m) @ outside) ** 2).sum(1) for m in means.astype(np.float64)], 0)
    np.testing.assert_allclose(strangeness(new.astype(np.float32), means, directions), expected, rtol=1e-3, atol=1e-3)


def test_moving_along_the_tasks_own_directions_is_not_strange() -> None:
    z, g = data(60, 20)
    means, directions, _, _ = subspace(z, g)
    moved = z[:5] + 10 * directions[0]
    np.testing.assert_allclose(strangeness(moved, means, directions), strangeness(z[:5], means, directions), atol=1e-2)


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("n", [18, 90], ids=["few-pictures", "many-pictures"])
def test_limit_is_exceeded_by_the_stated_share_of_new_pictures(n: int, share: float) -> None:
    rates = []
    for seed in range(12):
        everything, g = data(n + 600, 24, seed=seed)
        z, groups = everything[:n], g[:n]
        means, directions, _, _ = subspace(z, groups)
        stored = unpack(*pack(means)), unpack(*pack(directions))
        rates.append(float((strangeness(everything[n:], *stored) > calibrate(z, groups, share)).mean()))
    # With few pictures each held-out one leaves visibly less behind: the limit then errs towards too few rejections.
    assert share / (2 if n > 50 else 4) < np.mean(rates) < share * 2


@pytest.mark.parametrize("n", [8, 15, 19, 60, 300])
def test_upper_quantile_holds_its_share_for_any_number_of_scores(n: int) -> None:
    """By rank where that reaches, by a fitted log-normal before. Averaged over draws, on log-normal scores."""
    rng, over = np.random.default_rng(0), []
    for _ in range(600):
        limit = _upper_quantile(np.exp(0.4 * rng.normal(size=n)), 0.05)
        over.append(float((np.exp(0.4 * rng.normal(size=200)) > limit).mean()))
    assert 0.035 < np.mean(over) < 0.065


def test_upper_quantile_by_rank_is_the_conformal_one() -> None:
    assert _upper_quantile(np.random.default_rng(0).permutation(np.arange(1.0, 100)), 0.05) == 95  # ceil(0.95 * 100)
    assert _upper_quantile(np.arange(1.0, 20), 0.05) == 19  # ceil(0.95 * 20): the largest


def test_limit_is_positive_for_equal_and_for_single_pictures() -> None:
    for n in (1, 2, 6, 40):
        assert calibrate(np.ones((n, 5), np.float32), np.zeros(n, np.int64), 0.05) > 0


def test_calibration_has_no_randomness() -> None:
    z, g = data(50, 16)
    assert calibrate(z, g, 0.05) == calibrate(z.copy(), g.copy(), 0.05)
