"""NCM, streaming LDA and RanPAC against the same thing computed at once, in float64, from all samples."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.learners.baselines import ncm, ranpac, slda
from edgecl.learners.baselines.vectors import VectorLearner
from edgecl.space import unit_sqrt

D, K = 40, 5


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 samples in no order, classes of different sizes, and new inputs."""
    x, y = synthetic.features(2, K, 90, D)
    rows = np.random.default_rng(0).permutation(len(y))[:300]
    rows = rows[(y[rows] != 1) | (rows % 4 == 0)]
    return x[rows], y[rows], synthetic.features(2, K, 8, D, seed=1)[0]


def fed(learner: VectorLearner, x: np.ndarray, y: np.ndarray, batch: int) -> VectorLearner:
    for start in range(0, len(y), batch):
        learner.observe(x[start : start + batch], y[start : start + batch])
    return learner


@pytest.mark.parametrize("space", ["plain", "unit_sqrt"])
def test_ncm_answers_the_nearest_mean(space: str) -> None:
    x, y, new = data()
    z, q = (unit_sqrt(x), unit_sqrt(new)) if space == "unit_sqrt" else (x, new)
    means = np.stack([z[y == c].mean(0, dtype=np.float64) for c in range(K)])
    nearest = np.linalg.norm(q[:, None] - means, axis=2).argmin(1)
    assert np.array_equal(fed(ncm.Ncm((D,), K, 0, ncm.Config(space)), x, y, 1).predict(new).argmax(1), nearest)


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_slda_is_the_pooled_covariance_of_all_samples(batch: int) -> None:
    """Residuals from the final means, although each was taken from a running one; waiting residuals count."""
    x, y, new = data()
    x64, share = x.astype(np.float64), 0.1
    means = np.stack([x64[y == c].mean(0) for c in range(K)])
    residuals = x64 - means[y]
    covariance = residuals.T @ residuals / len(y)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / D * np.eye(D)
    inverse = np.linalg.inv(shrunk)
    far = np.array([[(q - m) @ inverse @ (q - m) for m in means] for q in new.astype(np.float64)])
    scores = fed(slda.Slda((D,), K, 0, slda.Config("plain", share)), x, y, batch).predict(new)
    common = scores - scores.mean(1, keepdims=True)  # what all classes share is left out
    assert np.allclose(common, -0.5 * (far - far.mean(1, keepdims=True)), rtol=2e-3, atol=2e-3 * np.abs(far).max() / 2)


def test_slda_of_one_sample_a_class_is_the_nearest_mean() -> None:
    """Without a single residual there is no covariance to speak of."""
    x, y, new = data()
    first = np.array([np.flatnonzero(y == c)[0] for c in range(K)])
    learner = fed(slda.Slda((D,), K, 0, slda.Config("plain")), x[first], y[first], 1)
    nearest = np.linalg.norm(new[:, None] - x[first], axis=2).argmin(1)
    assert np.array_equal(learner.predict(new).argmax(1), nearest)


@pytest.mark.parametrize("held_out", [3, 1000])
def test_ranpac_is_ridge_regression_on_every_sample(held_out: int) -> None:
    """Those held out, those that were pushed out of there, and those that wait, all count in the end, and once."""
    x, y, new = data()
    learner = fed(ranpac.Ranpac((D,), K, 3, ranpac.Config("plain", 60, held_out, ridge=0.1)), x, y, 1)
    projection = np.random.default_rng([3, 0]).standard_normal((D, 60), np.float32).astype(np.float64)
    h, q = (np.maximum(rows.astype(np.float64) @ projection, 0) for rows in (x, new))
    # Ridge as least squares with rows added: another way than the normal equations. Its size is of what was not held out.
    kept, gone = learner._held_out.all((D,))[0], len(y) // 5
    assert len(kept) == min(held_out, gone)
    apart = np.maximum(kept.astype(np.float64) @ projection, 0)
    size = ((h * h).sum() - (apart * apart).sum()) / 60 + (apart * apart).sum() / 60
    stacked = np.concatenate([h, np.sqrt(0.1 * size) * np.eye(60)])
    wanted = np.concatenate([np.eye(K)[y], np.zeros((60, K))])
    expected = q @ np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    assert np.allclose(learner.predict(new), expected, rtol=0, atol=2e-3)


def test_ranpac_chooses_the_ridge_that_errs_least_on_what_is_held_out() -> None:
    x, y, _ = data()
    noisy = x + np.random.default_rng(0).normal(scale=8, size=x.shape).astype(np.float32)
    chosen = {}
    for name, inputs in (("clean", x), ("noisy", noisy)):
        learner = fed(ranpac.Ranpac((D,), K, 0, ranpac.Config("plain", 400)), inputs, y, 1)
        gram, sums = learner._with(learner._gram, learner._sums, learner._rows.waiting, learner._labels[: learner._rows.n])
        held, labels = learner._held_out.all((D,))
        chosen[name] = learner._choose(gram, sums, held, labels)
        errors = {}
        for ridge in 10.0 ** np.arange(-4, 1):
            w = np.linalg.solve(gram.astype(np.float64) + ridge * np.trace(gram) / 400 * np.eye(400), sums)
            errors[ridge] = float(((learner._lift(held) @ w - np.eye(K)[labels]) ** 2).sum())
        assert np.isclose(chosen[name], min(errors, key=errors.__getitem__))
    assert chosen["noisy"] > chosen["clean"], "noise asks for no more damping: the test is too easy"


def test_class_that_has_not_come_is_never_the_answer() -> None:
    x, y, new = data()
    seen = y != 4
    for learner in (
        ncm.Ncm((D,), K, 0, ncm.Config()),
        slda.Slda((D,), K, 0, slda.Config()),
        ranpac.Ranpac((D,), K, 0, ranpac.Config(projections=30)),
    ):
        assert (fed(learner, x[seen], y[seen], 1).predict(new).argmax(1) != 4).all()


def test_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"feature vectors, these inputs are of shape \(8, 8, 3\)"):
        slda.Slda((8, 8, 3), K, 0, slda.Config())
