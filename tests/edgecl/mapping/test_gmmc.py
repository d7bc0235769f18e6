"""The default GMMC: its inner-product form, its expectation maximisation, and what is stored."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from edgecl.checks import synthetic
from edgecl.mapping.gmmc import COMPONENTS, Gmmc, fit, lift, terms
from edgecl.space import unit_sqrt, unpack


def blobs(k: int = 4, n: int = 50, d: int = 12, sigma: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    part = np.repeat(np.arange(k), n)
    return rng.normal(0, 5, (k, d))[part] + sigma * rng.normal(size=(k * n, d)), part


def test_terms_equal_sklearns_log_density() -> None:
    rng = np.random.default_rng(0)
    counts, means, variances, z = (
        rng.uniform(1, 9, 5),
        rng.normal(size=(5, 7)),
        rng.uniform(0.1, 2, (5, 7)),
        rng.normal(size=(30, 7)),
    )
    mixture = GaussianMixture(5, covariance_type="diag")
    mixture.weights_, mixture.means_, mixture.precisions_cholesky_ = counts / counts.sum(), means, variances**-0.5
    rows, bias = terms(counts, means, variances)
    ours = lift(z) @ rows.T + bias - 7 / 2 * np.log(2 * np.pi) - np.log(counts.sum())
    np.testing.assert_allclose(np.logaddexp.reduce(ours, 1), mixture.score_samples(z), rtol=1e-12)


def test_fit_finds_separate_blobs_exactly() -> None:
    z, part = blobs()
    counts, means, variances, found = fit(z, 4, 1e-6, rounds=100)
    order = [int(found[part == b][0]) for b in range(4)]
    assert sorted(order) == [0, 1, 2, 3] and all((found[part == b] == order[b]).all() for b in range(4))
    np.testing.assert_allclose(counts[order], 50, rtol=1e-6)
    np.testing.assert_allclose(means[order], [z[part == b].mean(0) for b in range(4)], rtol=1e-6)
    np.testing.assert_allclose(variances[order], [z[part == b].var(0) + 1e-6 for b in range(4)], rtol=1e-3)


def test_fit_is_as_likely_as_sklearns() -> None:
    """On overlapping blobs, the best of a few starts: both methods end in a poorer place now and then."""
    z, _ = blobs(4, 60, 6, sigma=3)
    theirs = GaussianMixture(4, covariance_type="diag", n_init=4, random_state=0).fit(z)
    ours = []
    for seed in range(4):
        counts, means, variances, _ = fit(z, 4, 1e-6, rounds=100, seed=seed)
        rows, bias = terms(counts / counts.sum(), means, variances)
        ours.append(float(np.logaddexp.reduce(lift(z) @ rows.T + bias - 3 * np.log(2 * np.pi), 1).mean()))
    assert max(ours) == pytest.approx(theirs.score(z), abs=0.02)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_fit_of_equal_points_and_more_components_than_points_is_finite(k: int) -> None:
    for z in (np.ones((5, 4)), np.repeat(np.eye(4), 2, 0)):
        counts, means, variances, part = fit(z, k, 1e-3)
        assert np.isfinite(means).all() and (variances >= 1e-3).all() and counts.sum() == pytest.approx(len(z), rel=1e-4)
        assert part.shape == (len(z),) and part.max() < len(means) <= max(k, 1)


def test_variances_do_not_collapse_on_few_pictures() -> None:
    """What made the published form lose a third of the pictures of real tasks: components of a handful of pictures."""
    x, y = synthetic.features(0, 3, 8, 64)
    anchor = Gmmc.anchor(x, y)
    variances = np.exp(unpack(anchor["log_variances"], anchor["log_variances_step"]))
    own = unit_sqrt(x).var(0)
    assert (variances > 0.25 * own).all()
    assert len(anchor["means"]) <= min(COMPONENTS, len(x) // 4)


def test_mapper_scores_equal_densities_of_the_stored_components() -> None:
    """From the anchors' bytes to the answer, computed without the inner product."""
    built, anchors = Gmmc(32), [Gmmc.anchor(*synthetic.features(t, 3, 20, 32, spread=2.0)) for t in range(3)]
    for t, anchor in enumerate(anchors):
        built.add(f"t{t}", anchor)
    x = np.concatenate([synthetic.features(t, 3, 20, 32, spread=2.0, seed=1)[0] for t in range(3)])
    z, best = unit_sqrt(x).astype(np.float64), []
    for anchor in anchors:
        means = unpack(anchor["means"], anchor["means_step"]).astype(np.float64)
        logs = unpack(anchor["log_variances"], anchor["log_variances_step"]).astype(np.float64)
        far = ((z[:, None] - means) ** 2 / np.exp(logs)).sum(2)
        best.append((np.log(anchor["counts"]) - 0.5 * logs.sum(1) - 0.5 * far).max(1))
    scores = np.stack(best, 1)
    clear = np.diff(np.sort(scores, 1)[:, -2:], axis=1)[:, 0] > 0.05  # float32 decides the rest
    assert clear.mean() > 0.9 and np.array_equal(built.assign(x).task[clear], scores.argmax(1)[clear])
    assert built.search.startswith("exact")
