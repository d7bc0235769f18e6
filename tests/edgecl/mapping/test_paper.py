"""The published mappers against scikit-learn and against the formulas as they are written (skill.md, sections 6, 7 and 11)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import pinvh
from sklearn.covariance import EmpiricalCovariance
from sklearn.mixture import GaussianMixture

from edgecl.checks import synthetic
from edgecl.mapping.paper import COMPONENTS, SHARED, GmmcPaper, MahalanobisPaper

WIDTH = 16
TASKS = ("ants", "bees", "cats")


def tasks(classes: int = 3, per_class: int = 40, seed: int = 0, spread: float = 1.0) -> list[tuple[np.ndarray, np.ndarray]]:
    return [synthetic.features(t, classes, per_class, WIDTH, spread, seed) for t in range(len(TASKS))]


def gmmc() -> tuple[GmmcPaper, list[dict]]:
    """Three tasks of 4, 1 and 6 components, written by hand."""
    rng, built, anchors = np.random.default_rng(0), GmmcPaper(WIDTH), []
    for task, k in zip(TASKS, (4, 1, 6), strict=True):
        anchors.append(
            {
                "counts": rng.uniform(1, 50, k).astype(np.float32),
                "means": rng.normal(0, 2, (k, WIDTH)).astype(np.float32),
                "inverse_deviations": rng.uniform(0.3, 3, (k, WIDTH)).astype(np.float32),
            }
        )
        built.add(task, anchors[-1])
    return built, anchors


def joined_mixture(anchors: list[dict]) -> GaussianMixture:
    """scikit-learn's mixture object with the components of all tasks, in float64."""
    counts, means, inverse = (
        np.concatenate([a[n] for a in anchors]).astype(np.float64) for n in ("counts", "means", "inverse_deviations")
    )
    mixture = GaussianMixture(len(counts), covariance_type="diag")
    mixture.weights_, mixture.means_ = counts / counts.sum(), means
    mixture.covariances_, mixture.precisions_cholesky_ = inverse**-2, inverse
    return mixture


def test_gmmc_scores_equal_sklearns_mixture_of_the_joined_components() -> None:
    built, anchors = gmmc()
    x = np.random.default_rng(1).normal(0, 2, (50, WIDTH)).astype(np.float32)
    built.assign(x)
    ours, mixture = built.row_scores(x), joined_mixture(anchors)
    total = np.log(np.exp(ours - ours.max(1, keepdims=True)).sum(1)) + ours.max(1)
    np.testing.assert_allclose(total, mixture.score_samples(x.astype(np.float64)), rtol=1e-12)
    posterior = np.exp(ours - total[:, None])
    np.testing.assert_allclose(posterior, mixture.predict_proba(x.astype(np.float64)), atol=1e-10)


def test_gmmc_scores_equal_the_formula() -> None:
    """log w + sum log s - D/2 log 2 pi - sum ((x - mu) s)^2 / 2, component by component."""
    built, anchors = gmmc()
    x = np.random.default_rng(1).normal(0, 2, (20, WIDTH)).astype(np.float32)
    built.assign(x)
    counts, means, s = (
        np.concatenate([a[n] for a in anchors]).astype(np.float64) for n in ("counts", "means", "inverse_deviations")
    )
    far = (((x[:, None].astype(np.float64) - means) * s) ** 2).sum(2)
    expected = np.log(counts / counts.sum()) + np.log(s).sum(1) - WIDTH / 2 * np.log(2 * np.pi) - far / 2
    np.testing.assert_allclose(built.row_scores(x), expected, rtol=1e-12)


def test_gmmc_decides_by_the_best_single_component() -> None:
    built, anchors = gmmc()
    x = np.random.default_rng(1).normal(0, 2, (200, WIDTH)).astype(np.float32)
    owner = np.repeat(np.arange(3), [len(a["counts"]) for a in anchors])
    expected = owner[joined_mixture(anchors).predict(x.astype(np.float64))]
    assert np.array_equal(built.assign(x).task, expected)
    assert len(np.unique(expected)) == 3


def test_gmmc_component_and_summed_posterior_agree_on_separated_tasks() -> None:
    built, queries = GmmcPaper(WIDTH), tasks(seed=1, spread=0.2)
    anchors = [GmmcPaper.anchor(x, y) for x, y in tasks(spread=0.2)]
    for task, anchor in zip(TASKS, anchors, strict=True):
        built.add(task, anchor)
    x = np.concatenate([x for x, _ in queries])
    found = built.assign(x).task
    scores, owner = built.row_scores(x), np.repeat(np.arange(3), [len(a["counts"]) for a in anchors])
    summed = np.stack([np.logaddexp.reduce(scores[:, owner == t], 1) for t in range(3)], 1)
    assert np.array_equal(found, summed.argmax(1))


def test_gmmc_anchor_has_the_published_form() -> None:
    x, y = tasks()[0]
    anchor = GmmcPaper.anchor(x, y)
    assert anchor["means"].shape == (COMPONENTS, WIDTH) == (25, WIDTH)
    assert anchor["counts"].sum() == pytest.approx(len(x), rel=1e-5)
    assert (anchor["inverse_deviations"] <= 1e3 + 1).all(), "1e-6 is added to the variances"
    few = GmmcPaper.anchor(x[:6], y[:6])
    assert len(few["counts"]) <= 6, "no more components than pictures"


def test_gmmc_needs_no_labels() -> None:
    x, y = tasks()[0]
    a, b = GmmcPaper.anchor(x, y), GmmcPaper.anchor(x, np.zeros_like(y))
    assert all(np.array_equal(a[name], b[name]) for name in a)


# -- Mahalanobis


def mahalanobis(per_class: int = 40) -> tuple[MahalanobisPaper, list[dict]]:
    built, anchors = MahalanobisPaper(WIDTH), []
    for task, (x, y) in zip(TASKS, tasks(3, per_class), strict=True):
        anchors.append(MahalanobisPaper.anchor(x, y))
        built.add(task, anchors[-1])
    return built, anchors


def covariance(anchors: list[dict]) -> np.ndarray:
    residuals = np.concatenate([a["residuals"] for a in anchors]).astype(np.float64)
    return EmpiricalCovariance(assume_centered=False).fit(residuals).covariance_


def test_mahalanobis_covariance_of_sklearn_equals_the_formula_of_the_specification() -> None:
    _, anchors = mahalanobis()
    r = np.concatenate([a["residuals"] for a in anchors]).astype(np.float64)
    loc = r.mean(0)
    formula = sum(np.outer(row - loc, row - loc) for row in r) / len(r)
    np.testing.assert_allclose(covariance(anchors), formula, rtol=1e-12, atol=1e-12 * np.abs(formula).max())


@pytest.mark.parametrize("per_class", [40, 2], ids=["full-rank", "singular"])
def test_mahalanobis_linear_form_equals_the_quadratic_form(per_class: int) -> None:
    """Up to what all classes have in common; so with the same argmax."""
    built, anchors = mahalanobis(per_class)
    s = covariance(anchors)
    assert np.linalg.matrix_rank(s, tol=1e-6 * s.max()) == (WIDTH if per_class == 40 else 9)
    p, means = pinvh(s, rtol=1e-8), np.concatenate([a["means"] for a in anchors]).astype(np.float64)
    x = np.concatenate([x for x, _ in tasks(3, 20, seed=1)])
    gap = x[:, None].astype(np.float64) - means
    quadratic = -0.5 * np.einsum("nmd,de,nme->nm", gap, p, gap)
    found = built.assign(x).task
    linear = built.row_scores(x) - 0.5 * np.einsum("nd,de,ne->n", x.astype(np.float64), p, x.astype(np.float64))[:, None]
    np.testing.assert_allclose(linear, quadratic, atol=1e-7 * np.abs(quadratic).max())
    assert np.array_equal(found, np.repeat(np.arange(3), 3)[quadratic.argmax(1)])


def test_mahalanobis_ignores_directions_in_which_no_residual_varies() -> None:
    """With few pictures the covariance is singular; what rounding leaves in its null directions must not decide."""
    built, anchors = mahalanobis(per_class=2)
    residuals = np.concatenate([a["residuals"] for a in anchors]).astype(np.float64)
    _, _, axes = np.linalg.svd(residuals - residuals.mean(0))
    x = tasks(3, 5, seed=1)[0][0]
    built.assign(x)
    along = x + (50 * axes[-1]).astype(np.float32)
    np.testing.assert_allclose(
        built.row_scores(along), built.row_scores(x), rtol=1e-4, atol=1e-4 * np.abs(built.row_scores(x)).max()
    )


def test_mahalanobis_anchor_draws_five_residuals_of_each_class_from_its_mean() -> None:
    x, y = tasks()[0]
    anchor = MahalanobisPaper.anchor(x, y, seed=1)
    means = np.stack([x[y == c].astype(np.float64).mean(0) for c in range(3)])
    np.testing.assert_allclose(anchor["means"], means, rtol=1e-5)
    assert anchor["residuals"].shape == (3 * SHARED, WIDTH) == (15, WIDTH)
    for i, row in enumerate(anchor["residuals"]):
        back = row + means[i // SHARED]
        assert np.abs(x[y == i // SHARED] - back).max(1).min() < 1e-3, "a residual is that of a picture of its class"
    assert len(np.unique(anchor["residuals"].round(4), axis=0)) == 15, "drawn without replacement"
    assert not np.array_equal(anchor["residuals"], MahalanobisPaper.anchor(x, y, seed=2)["residuals"])
    few = MahalanobisPaper.anchor(x[::20], y[::20])
    assert len(few["residuals"]) == 6, "a class of two pictures gives both"


def test_paper_forms_know_no_unknown() -> None:
    for built in (gmmc()[0], mahalanobis()[0]):
        answer = built.assign(np.full((3, WIDTH), 1e4, np.float32))
        assert answer.known.all() and not answer.strangeness.any()
