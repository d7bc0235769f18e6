"""The device's memory head against what all pictures at once would give, and going on from what is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgecl.errors import BundleError, ConfigError, DataError
from edgecl.heads import linear, memory_head
from edgecl.heads.base import Session
from edgecl.heads.memory_head import Config, Memory
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Task


class Rom:
    rom_id = "0" * 64


def task(k: int = 4, per: int = 40, d: int = 24, seed: int = 0, noise: float = 0.5) -> Task:
    """Features like those of a ROM: above 0."""
    means = np.random.default_rng(7).gamma(1.0, 1.0, size=(12, d))
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(k), per)
    x = np.maximum(means[y] + noise * rng.normal(size=(len(y), d)), 0).astype(np.float32)
    return Task("t", tuple(f"class {c}" for c in range(k)), x, y)


def right(scores: Floats, labels: np.ndarray) -> float:
    return float((scores.argmax(1) == labels).mean())


def taught(some: Task, config: Config, order: np.ndarray | None = None) -> Memory:
    memory = Memory(some.features.shape[1], config)
    for i in np.arange(len(some)) if order is None else order:
        memory.observe(some.features[i], some.classes[some.labels[i]])
    return memory


def test_with_one_key_a_class_the_order_does_not_matter() -> None:
    some = task()
    one, other = (
        taught(some, Config(keys_per_class=1), np.concatenate([[0, 40, 80, 120], rng.permutation(len(some))]))
        for rng in (np.random.default_rng(0), np.random.default_rng(1))
    )
    new = task(seed=1)
    a, b = (memory_head.scores(memory.learned("").head, new.features) for memory in (one, other))
    np.testing.assert_allclose(a, b, atol=2e-2)  # float16 weights


def test_one_pass_is_about_as_good_as_all_pictures_at_once() -> None:
    some, new = task(noise=1.0), task(per=200, seed=1, noise=1.0)
    online = memory_head.learn(some, Rom(), Config())
    at_once = linear.learn(some, Rom(), linear.Config())
    a, b = (right(learned.head.scores(new.features), new.labels) for learned in (online, at_once))
    assert a > b - 0.02 and b > 0.8


def test_held_out_scores_are_those_of_a_memory_without_the_picture() -> None:
    some = task(per=12, noise=1.2)
    held_out = memory_head.learn(some, Rom(), Config(keys_per_class=1)).held_out
    z, k = unit_sqrt(some.features).astype(np.float64), len(some.classes)
    free = len(z) - k
    means = np.stack([z[some.labels == c].mean(0) for c in range(k)])
    residuals = z - means[some.labels]
    covariance = residuals.T @ residuals / free
    d = z.shape[1]
    share = min(0.99, d / free)
    ridge = share / (1 - share) * np.trace(covariance) / d * np.eye(d)
    for i in range(0, len(z), 7):
        rest = np.arange(len(z)) != i
        own = np.stack([z[rest & (some.labels == c)].mean(0) for c in range(k)])
        around = z[rest] - own[some.labels[rest]]
        inverse = np.linalg.inv(around.T @ around / free + ridge)
        expected = -np.einsum("kd,de,ke->k", z[i] - own, inverse, z[i] - own) / 2
        a, b = expected - expected.mean(), held_out[i] - held_out[i].mean()
        assert np.corrcoef(a, b)[0, 1] > 0.999  # a temperature lies between them, and what the smaller class means add


def test_it_knows_how_sure_it_may_be() -> None:
    learned = memory_head.learn(task(noise=1.0), Rom(), Config())
    new = task(per=200, seed=1, noise=1.0)
    found = right(learned.head.scores(new.features), new.labels)
    assert abs(learned.report["validation_accuracy"] - found) < 0.06
    assert 0.005 < 1 - learned.head.knows(learned.head.scores(new.features)).mean() < 0.06  # stated: 2 %


def test_a_class_that_looks_different_at_night_is_known_by_day_and_night() -> None:
    day, night = task(k=4), task(k=8)
    swap = np.array([1, 0, 3, 2])  # class 0's night looks are near class 1's day looks
    dark = night.labels >= 4
    noise = np.random.default_rng(2).normal(size=(160, 24))
    x = np.maximum(0.25 * night.features[dark] + 0.75 * day.features[np.argsort(swap[day.labels], kind="stable")], 0)
    x = np.maximum(x + 0.1 * noise, 0).astype(np.float32)
    both = Task("t", day.classes, np.concatenate([day.features, x]), np.concatenate([day.labels, day.labels]))
    one, many = (taught(both, Config(keys_per_class=n)).learned("").head for n in (1, 4))
    assert right(many.scores(both.features), both.labels) > right(one.scores(both.features), both.labels)
    assert len(many.arrays["owner"]) > 4


def test_new_classes_come_as_they_come_and_old_answers_stay_right() -> None:
    some = task(k=8)
    memory = Memory(24, Config())
    for i in np.flatnonzero(some.labels < 4):
        memory.observe(some.features[i], some.classes[some.labels[i]])
    assert memory.classes == some.classes[:4]
    for i in np.flatnonzero(some.labels >= 4):
        memory.observe(some.features[i], some.classes[some.labels[i]])
    new = task(k=8, seed=1)
    assert memory.classes == some.classes and memory.counts.tolist() == [40] * 8
    assert right(memory.learned("").head.scores(new.features), new.labels) > 0.95


def test_it_goes_on_from_a_bundle_of_another_method() -> None:
    old, more, new = task(k=4), task(k=5), task(k=5, seed=1)
    head = linear.learn(old, Rom(), linear.Config()).head
    anchor = Mahalanobis.anchor(old.features, old.labels)
    memory = Memory.continued(24, Config(), head, anchor, np.full(4, 40))
    for i in np.flatnonzero(more.labels == 4):
        memory.observe(more.features[i], "class 4")
    assert memory.counts.tolist() == [40] * 5
    assert right(memory.learned("").head.scores(new.features), new.labels) > 0.95


def test_it_goes_on_from_a_memory_head_alone() -> None:
    old, new = task(k=4), task(k=4, seed=1)
    head = taught(old, Config()).learned("").head
    memory = Memory.continued(24, Config(), head, Mahalanobis.anchor(old.features, old.labels), np.full(4, 40))
    assert memory.counts.sum() == 160
    assert right(memory.learned("").head.scores(new.features), new.labels) > 0.95


def test_what_a_head_of_another_device_is_taught_takes_nothing_from_what_it_knew() -> None:
    # Few pictures beside hundreds of dimensions, as on a device: what is left out of a scatter that it is not in counts for
    # anything, and a class that was taught a little more than the others lost to them.
    some, more, new = (task(k=8, per=n, d=512, seed=i, noise=3.0) for i, n in enumerate((20, 20, 30)))
    memory = taught(some, Config(), np.random.default_rng(0).permutation(len(some)))
    head, anchor = memory.learned("").head, Mahalanobis.anchor(*memory.sample())
    going_on = Memory.continued(512, Config(), head, anchor, memory.counts)
    for i in np.flatnonzero(more.labels < 3):
        going_on.observe(more.features[i], more.classes[more.labels[i]])
    learned = going_on.learned("")
    before, after = (right(one.scores(new.features), new.labels) for one in (head, learned.head))
    assert after > before - 0.03
    assert 0.3 < learned.head.unknown_below / head.unknown_below < 2  # or all that it knew would be "unknown class"
    assert learned.report["validation_pictures"] == 60  # of what was made up nothing can be learned about its accuracy


def test_what_stands_for_the_pictures_of_another_device_lies_as_far_out_as_they() -> None:
    some, new = (task(k=8, per=30, d=256, seed=i, noise=1.0) for i in (0, 1))
    mine, his = ((np.exp(0.4 * np.random.default_rng(i).standard_normal((240, 1)))) for i in (2, 3))
    x, z = ((one.features * far).astype(np.float32) for one, far in ((some, mine), (new, his)))
    anchor = Mahalanobis.anchor(x, some.labels)
    head = linear.learn(Task("t", some.classes, x, some.labels), Rom(), linear.Config()).head
    going_on = Memory.continued(256, Config(), head, anchor, np.full(8, 30))

    def unknown(of: dict[str, Any]) -> float:
        mapper = Mahalanobis(256)
        mapper.add("t", of)
        return 1 - float(mapper.assign(z).known.mean())

    assert unknown(Mahalanobis.anchor(*going_on.sample())) < unknown(anchor) + 0.12


def test_a_head_that_says_it_has_seen_everything_still_learns() -> None:
    some = task(k=4)
    honest = taught(some, Config()).learned("").head
    boast = np.full(len(honest.arrays["wins"]), 2**31 - 1, np.int32)
    head = dataclasses.replace(honest, arrays={**honest.arrays, "wins": boast})
    memory_head.check(head)
    anchor = Mahalanobis.anchor(some.features, some.labels)
    memory = Memory.continued(24, Config(), head, anchor, np.full(4, 10**9 - 1))
    memory.observe(some.features[0], some.classes[0])
    memory_head.check(memory.learned("").head)


def test_a_head_of_more_classes_than_the_sample_holds_keeps_a_picture_of_each() -> None:
    old = task(k=12)
    head = linear.learn(old, Rom(), linear.Config()).head
    memory = Memory.continued(24, Config(sample=5), head, Mahalanobis.anchor(old.features, old.labels), np.full(12, 40))
    assert set(memory.sample()[1]) == set(range(12))  # or their means were missing from the next anchor


def test_an_anchor_that_does_not_fit_is_refused() -> None:
    old = task(k=4)
    head = linear.learn(old, Rom(), linear.Config()).head
    anchor = Mahalanobis.anchor(old.features, old.labels // 2)
    with pytest.raises(BundleError, match="2 means for 4 classes"):
        Memory.continued(24, Config(), head, anchor, np.full(4, 40))


def test_it_goes_on_from_its_state_to_the_same_bits() -> None:
    some = task(k=5, noise=1.0)
    order = np.random.default_rng(0).permutation(len(some))
    whole, part = taught(some, Config(sample=30), order), taught(some, Config(sample=30), order[:77])
    again = Memory.resume(24, Config(sample=30), part.classes, part.state())
    for i in order[77:]:
        again.observe(some.features[i], some.classes[some.labels[i]])
    a, b = whole.learned("").head, again.learned("").head
    assert a.classes == b.classes and a.settings == b.settings
    assert all(np.array_equal(value, b.arrays[name]) for name, value in a.arrays.items())


@pytest.mark.parametrize(
    ("x", "label"),
    [
        (np.zeros(23, np.float32), "class 0"),
        (np.full(24, np.nan, np.float32), "class 0"),
        (np.zeros(24, np.float32), ""),
        (np.zeros(24, np.float32), "a\nb"),
        (np.zeros(24, np.float32), "x" * 201),
    ],
)
def test_what_cannot_be_learned_changes_nothing(x: Floats, label: str) -> None:
    memory = taught(task(), Config())
    before = memory.state()
    with pytest.raises(DataError):
        memory.observe(x, label)
    assert memory.classes == task().classes
    assert all(np.array_equal(value, memory.state()[name]) for name, value in before.items())


def test_bytes_are_kept_or_refused() -> None:
    some = task(k=4, noise=1.0)
    with pytest.raises(ConfigError, match="Allow more"):
        memory_head.learn(some, Rom(), Config(), session=Session(head_bytes=200))
    for allowed in (4 * (5 * 24 + 16), 2000):
        assert memory_head.learn(some, Rom(), Config(), session=Session(head_bytes=allowed)).head.nbytes <= allowed
