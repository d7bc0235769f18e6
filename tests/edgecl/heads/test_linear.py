"""The linear head against what it claims: leave-one-out without refits, calibrated, and the paper's recipe."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from edgecl.checks import synthetic
from edgecl.errors import BundleError, ConfigError
from edgecl.heads import linear
from edgecl.heads.base import Head, Learned
from edgecl.heads.parts import discriminant
from edgecl.metrics.accuracy import softmax
from edgecl.metrics.calibration import expected_calibration_error
from edgecl.rom.base import Rom
from edgecl.space import unit_sqrt
from edgecl.types import Task


def learn(task: Task, rom: Rom, **options: object) -> Learned:
    return linear.learn(task, rom, linear.Config(**options))


def uneven(width: int = 24, spread: float = 1.5, counts: tuple[int, ...] = (9, 5, 12)) -> Task:
    """Classes of different sizes that overlap."""
    full = synthetic.task(len(counts), max(counts), width, spread=spread)
    keep = np.concatenate([np.flatnonzero(full.labels == c)[:n] for c, n in enumerate(counts)])
    return dataclasses.replace(full, features=full.features[keep], labels=full.labels[keep])


def brute_force(z: np.ndarray, y: np.ndarray, k: int, i: int, ridge: float, n: int) -> np.ndarray:
    """-(z_i - m_j)'A^-1(z_i - m_j), with picture i in neither the means nor A = R'R / n + ridge I."""
    rest = np.arange(len(y)) != i
    means = np.stack([z[rest & (y == c)].mean(0) for c in range(k)])
    residuals = z[rest] - means[y[rest]]
    a = residuals.T @ residuals / n + ridge * np.eye(z.shape[1])
    gap = z[i] - means
    return -np.einsum("kd,de,ke->k", gap, np.linalg.inv(a), gap)


@pytest.mark.parametrize("width", [24, 80], ids=["more-pictures-than-features", "more-features-than-pictures"])
def test_leave_one_out_distances_equal_refits(width: int) -> None:
    """The rank-one downdate against twenty-six fits without the picture, at one ridge."""
    task = uneven(width)
    z, y, k, ridge = unit_sqrt(task.features).astype(np.float64), task.labels, 3, 3e-3
    n, count = len(y), np.bincount(y).astype(np.float64)
    means = np.stack([z[y == c].mean(0) for c in range(k)])
    r = z - means[y]
    inverse = np.linalg.inv(r.T @ r / n + ridge * np.eye(width))
    gap = z[:, None] - means
    dist, cross = np.einsum("nkd,de,nke->nk", gap, inverse, gap), np.einsum("nkd,de,ne->nk", gap, inverse, r)
    expected = np.stack([-brute_force(z, y, k, i, ridge, n) for i in range(n)])
    np.testing.assert_allclose(discriminant.leave_out(dist, y, cross, count), expected, rtol=1e-9)


@pytest.mark.parametrize("width", [24, 80], ids=["more-pictures-than-features", "more-features-than-pictures"])
def test_held_out_scores_equal_refits(width: int, rom: Rom) -> None:
    """What `learn` returns, refitted picture by picture at the ridge and temperature that it chose."""
    task = uneven(width)
    learned = learn(task, rom)
    z, y, k, n = unit_sqrt(task.features).astype(np.float64), task.labels, 3, len(task)
    ridge = learned.report["ridge"] * ((z - z.mean(0)) ** 2).sum(1).mean()
    distance = -np.stack([brute_force(z, y, k, i, ridge, n) for i in range(n)])
    others = 1 / (np.bincount(y)[None] - np.eye(k)[y])
    own = np.arange(n), y
    noise = np.mean(distance[own] / (1 + others[own]))  # undoes the handicap of a mean of few pictures
    expected = (noise * others - distance) / 2
    expected = (expected - expected.mean(1, keepdims=True)) / learned.report["temperature"]
    np.testing.assert_allclose(learned.held_out, expected, rtol=1e-4, atol=1e-4)
    assert learned.report["validation_accuracy"] == pytest.approx((expected.argmax(1) == y).mean(), abs=1e-4)


def test_map_equals_sklearns_discriminant_with_the_same_covariance(rom: Rom) -> None:
    """Equal counts, so that the correction for small classes is common to all and drops out."""
    task = synthetic.task(4, 30, 20, spread=1.5)
    learned = learn(task, rom)
    z = unit_sqrt(task.features).astype(np.float64)
    ridge = learned.report["ridge"] * ((z - z.mean(0)) ** 2).sum(1).mean()

    class Ridge:
        """sklearn's covariance estimator interface: the pooled covariance plus a multiple of the identity."""

        def fit(self, x: np.ndarray) -> Ridge:
            self.covariance_ = np.cov(x.T, bias=True) + ridge * np.eye(x.shape[1])
            return self

    theirs = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Ridge()).fit(z, task.labels)
    expected = theirs.decision_function(z) / learned.report["temperature"]
    ours = learned.head.scores(task.features)

    def centred(s: np.ndarray) -> np.ndarray:
        return s - s.mean(1, keepdims=True)

    np.testing.assert_allclose(centred(ours), centred(expected), atol=linear._HALF_BOUND * 2)
    assert np.array_equal(ours.argmax(1), theirs.predict(z))


def test_probabilities_are_calibrated_on_new_pictures(rom: Rom) -> None:
    """Overlapping classes: how sure it says it is, it is right."""
    task = synthetic.task(4, 40, 32, spread=2.5)
    learned = learn(task, rom)
    new = synthetic.task(4, 500, 32, spread=2.5, seed=1)
    p = softmax(learned.head.scores(new.features))
    right = p.argmax(1) == new.labels
    assert 0.5 < right.mean() < 0.97, "the classes do not overlap as this test needs"
    assert expected_calibration_error(p.max(1), right) < 0.08
    twice = softmax(3 * learned.head.scores(new.features))
    assert expected_calibration_error(twice.max(1), right) > expected_calibration_error(p.max(1), right)


def test_unknown_class_threshold_rejects_the_stated_share(rom: Rom) -> None:
    task, new = synthetic.task(4, 60, 32, spread=1.5), synthetic.task(4, 500, 32, spread=1.5, seed=1)
    for stated in (0.05, 0.2):
        head = learn(task, rom, false_reject=stated).head
        scores = head.scores(new.features)
        rejected = float((scores.max(1) - scores.mean(1) < head.unknown_below).mean())
        assert stated / 2 < rejected < stated * 2


def test_class_that_was_not_learned_is_rejected_more_often(rom: Rom) -> None:
    task = synthetic.task(5, 60, 32, spread=1.0)
    known = task.labels < 4
    head = learn(
        dataclasses.replace(task, classes=task.classes[:4], features=task.features[known], labels=task.labels[known]), rom
    ).head
    new = synthetic.task(5, 100, 32, spread=1.0, seed=1)
    scores = head.scores(new.features)
    low = scores.max(1) - scores.mean(1) < head.unknown_below
    assert low[new.labels == 4].mean() > 3 * low[new.labels < 4].mean()


def test_float16_is_chosen_only_where_scores_hardly_move(rom: Rom) -> None:
    easy = learn(synthetic.task(3, 20, 32, spread=2.0), rom)
    assert easy.head.arrays["w"].dtype == np.float16
    assert easy.report["float16_score_change"] <= linear._HALF_BOUND
    sharp = learn(synthetic.task(3, 200, 32, spread=0.1), rom)
    assert sharp.head.arrays["w"].dtype == np.float32, "a map with steep scores loses too much in 16 bits"
    assert sharp.report["float16_score_change"] is None or sharp.report["float16_score_change"] > linear._HALF_BOUND


def test_report_says_what_was_measured(rom: Rom) -> None:
    learned = learn(synthetic.task(3, 10, 32), rom)
    assert set(learned.report) >= {"validation_accuracy", "validation_pictures", "ridge", "temperature", "weights_dtype"}
    assert learned.head.rom_id == rom.rom_id and learned.head.settings["recipe"] == "default"


# -- the paper's recipe


def paper(task: Task, rom: Rom, **options: object) -> Learned:
    pytest.importorskip("torch", reason="recipe 'paper' trains in PyTorch: pip install 'edgecl[learn]'")
    return learn(task, rom, recipe="paper", **options)


def test_paper_recipe_trains_and_the_seed_decides_all(rom: Rom) -> None:
    task = synthetic.task(3, 20, 32)
    first, again, other = (paper(task, rom, seed=seed, epochs=40, learning_rate=1e-2) for seed in (1, 1, 2))
    assert first.report["validation_accuracy"] > 0.8
    assert first.report["validation_pictures"] == 12
    for name, value in first.head.arrays.items():
        assert np.array_equal(value, again.head.arrays[name])
    assert not np.array_equal(first.head.arrays["w"], other.head.arrays["w"])


def test_paper_recipe_leaves_torchs_own_generator_alone(rom: Rom) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    paper(synthetic.task(3, 6, 8), rom, epochs=2)
    assert torch.equal(torch.rand(3), expected)


def test_paper_recipe_scores_plain_features(rom: Rom) -> None:
    """W x + b, no square root (skill.md, section 3)."""
    task = synthetic.task(3, 20, 16)
    head = paper(task, rom, epochs=5).head
    expected = task.features.astype(np.float64) @ head.arrays["w"].astype(np.float64).T + head.arrays["b"]
    np.testing.assert_allclose(head.scores(task.features), expected, rtol=1e-4, atol=1e-3)


def test_paper_recipe_stops_after_its_patience(rom: Rom) -> None:
    report = paper(synthetic.task(3, 20, 16, spread=0.1), rom, epochs=100, patience=3, learning_rate=1e-2).report
    assert report["epochs"] < 100 and report["epochs"] - report["best_epoch"] == 4  # "stop when epoch - best_epoch > patience"


# -- what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "secret"},
        {"false_reject": 0},
        {"false_reject": 0.5},
        {"epochs": 0},
        {"patience": 0},
        {"batch": 0},
        {"learning_rate": 0},
    ],
    ids=str,
)
def test_setting_out_of_range_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError):
        linear.Config(**options)


@pytest.mark.parametrize("value", [3e38, 1e15], ids=str)
def test_map_whose_scores_would_overflow_is_refused(value: float) -> None:
    head = Head(
        "linear",
        ("a", "b"),
        "0" * 64,
        {"w": np.full((2, 4), value, np.float32), "b": np.zeros(2, np.float32)},
        {"phi": "identity"},
    )
    with pytest.raises(BundleError):
        head.check()
