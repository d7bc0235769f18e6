"""Assignments are plain numbers that mean the same pictures everywhere; each can be learned; each kind divides as it says."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from edgecl.errors import ConfigError, DataError, EmptyTask, UnknownName
from edgecl.learning import MIN_PER_CLASS, check_learnable
from edgecl.streams.base import TaskPictures
from firmware_sim.assignment import GENERATORS, assign
from firmware_sim.synthetic import feature_tasks, synthetic_tasks
from firmware_sim.views import VIEWS, View

TASKS = synthetic_tasks(5, classes=6, per_class=20, side=32)
ALL = [
    ("one_each", {}),
    ("overlapping", {}),
    ("dirichlet", {}),
    ("viewpoints", {"by": "classes"}),
    ("viewpoints", {"by": "domain"}),
    ("drifting", {"by": "pictures"}),
    ("drifting", {"by": "classes"}),
    ("drifting", {"by": "other"}),
]


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_each_can_be_learned_and_shows_what_its_labels_say(kind, options):
    origins = {task.name: task for task in TASKS}
    for one in assign(kind, TASKS, 8, seed=3, **options):
        origin = origins[one.task]
        check_learnable(one.name, one.classes, np.array(one.train_labels))
        assert len(set(one.train)) == len(one.train) and 0 <= one.agent < 8
        for rows, labels, truth in (
            (one.train, one.train_labels, origin.train_labels),
            (one.test, one.test_labels, origin.test_labels),
        ):
            assert [one.classes[label] for label in labels] == [origin.classes[truth[row]] for row in rows]
        assert set(one.test_labels) == set(range(len(one.classes))), "it is judged on every class that it learns"


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_the_same_seed_gives_the_same_numbers(kind, options):
    first, again, other = (
        json.dumps([asdict(one) for one in assign(kind, TASKS, 8, seed=seed, **options)]) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_every_kind_is_tried_here():
    assert {kind for kind, _ in ALL} == set(GENERATORS)


def test_one_each_is_spread_evenly_round_the_fleet():
    assert [one.agent for one in assign("one_each", TASKS, 100)] == [0, 20, 40, 60, 80]
    assert sorted(one.agent for one in assign("one_each", TASKS, 2)) == [0, 0, 0, 1, 1]
    assert {one.name for one in assign("one_each", TASKS, 2)} == {task.name for task in TASKS}


def test_dirichlet_shares_no_picture_and_grows_alike_with_alpha():
    def unlike(alpha):
        """Mean over the assignments of the largest class's share of the pictures, in 0..1."""
        found = assign("dirichlet", synthetic_tasks(10, classes=6, per_class=80), 8, alpha=alpha)
        for task in {one.task for one in found}:
            rows = [row for one in found if one.task == task for row in one.train]
            assert len(set(rows)) == len(rows)
        return np.mean([np.bincount(one.train_labels).max() / len(one.train) for one in found])

    assert unlike(0.3) > unlike(1000.0) + 0.1


def test_viewpoints_by_classes_share_none():
    found = [one for one in assign("viewpoints", TASKS, 8, by="classes") if one.task == TASKS[0].name]
    assert len(found) == 3  # six classes are enough for three agents only
    assert sorted(name for one in found for name in one.classes) == sorted(TASKS[0].classes)


def test_viewpoints_by_domain_look_different_and_the_same_again():
    found = assign("viewpoints", TASKS[:1], 6, by="domain", parts=6)
    assert {one.view.kind for one in found} == set(VIEWS)
    seen = [one.pictures(TASKS).train[0] for one in found]
    assert len({picture.tobytes() for picture in seen}) == 6
    again = assign("viewpoints", TASKS[:1], 6, by="domain", parts=6)
    assert all(np.array_equal(one.pictures(TASKS).train[0], picture) for one, picture in zip(again, seen, strict=True))
    assert {picture.shape for picture in seen} == {(256, 256, 3)}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_changes_a_picture_and_keeps_it_recognisable(kind):
    picture = np.kron(np.random.default_rng(0).integers(60, 200, (8, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    plain = View("blurred", 0.0, 1)(picture, 0).astype(float)
    seen = View(kind, 1.0, 1)(picture, 0).astype(float)
    assert np.abs(seen - plain).mean() > 2
    if kind not in ("turned", "nearer"):  # those move what is in it
        assert np.corrcoef(seen.mean(2).ravel(), plain.mean(2).ravel())[0, 1] > 0.6


def test_noise_is_of_each_picture_its_own():
    view, grey = View("noisy", 0.5, 1), np.full((40, 40, 3), 128, np.uint8)
    assert np.array_equal(view(grey, 3), view(grey, 3)) and not np.array_equal(view(grey, 3), view(grey, 4))


def stages_of(by):
    found = assign("drifting", TASKS, 8, by=by, stages=4, every_s=60.0)
    own = [one for one in found if one.task == TASKS[0].name]
    assert [one.arrives_s for one in own] == [0.0, 60.0, 120.0, 180.0]
    assert len({(one.agent, one.name) for one in own}) == 1, "generations of one task on one agent"
    return own


def test_a_drifting_task_gains_pictures():
    sets = [set(one.train) for one in stages_of("pictures")]
    assert all(a < b for a, b in itertools.pairwise(sets)) and len(sets[-1]) == len(TASKS[0].train)


def test_a_drifting_task_gains_classes():
    sets = [set(one.classes) for one in stages_of("classes")]
    assert [len(classes) for classes in sets] == [2, 3, 4, 6] and all(a < b for a, b in itertools.pairwise(sets))


def test_a_drifting_task_moves_on():
    rows = [row for one in stages_of("other") for row in one.train]
    assert len(set(rows)) == len(rows) == len(TASKS[0].train)


def test_pictures_are_taken_when_they_are_asked_for():
    one = assign("overlapping", TASKS, 8)[0]
    task = one.pictures(TASKS)
    origin = next(task for task in TASKS if task.name == one.task)
    assert task.name == one.name == f"{one.task}-00" and len(task.train) == len(one.train)
    assert np.array_equal(task.train[2], origin.train[one.train[2]]) and np.array_equal(
        task.test[-1], origin.test[one.test[-1]]
    )


def test_features_follow_the_same_rows():
    tasks = feature_tasks(5, 64, classes=6, per_class=20)
    one = assign("dirichlet", tasks, 8)[0]
    origin = next(task for task in tasks if task.name == one.task)
    task, test = one.features(tasks)
    assert np.array_equal(task.features, origin.features()[list(one.train)]) and len(test) == len(one.test_labels)
    with pytest.raises(ConfigError, match="no pictures"):
        assign("viewpoints", tasks, 8)[0].features(tasks)


def test_a_device_learns_what_it_is_assigned(device):
    """Through a view, with array pictures made one by one."""
    one = assign("viewpoints", synthetic_tasks(1, classes=3, side=48), 4)[1]
    task = one.pictures(synthetic_tasks(1, classes=3, side=48))
    report = device().learn_pictures(task.name, task.train, task.train_labels, task.classes)
    assert report.task == "synthetic-000-01" and report.pictures == 36 and not report.warnings


def test_real_tasks_are_divided(shared_tasks):
    from edgecl.streams.folders import find_tasks

    tasks = find_tasks(shared_tasks)
    assert len(assign("one_each", tasks, 100)) == len(tasks)
    found = assign("dirichlet", tasks, 100, seed=1)
    assert len(found) > 2 * len(tasks)
    assert min(min(np.bincount(one.train_labels)) for one in found) >= MIN_PER_CLASS
    assert assign("viewpoints", tasks, 20)[0].pictures(tasks).train[0].shape == (256, 256, 3)


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownName, match="one_each"):
        assign("each", TASKS, 5)
    with pytest.raises(ConfigError, match="takes alpha, parts"):
        assign("dirichlet", TASKS, 5, by="classes")
    for kind, options in (("dirichlet", {"alpha": 0.0}), ("dirichlet", {"parts": 9}), ("viewpoints", {"by": "light"})):
        with pytest.raises(ConfigError):
            assign(kind, TASKS, 8, **options)
    for kind, options in (("drifting", {"stages": 0}), ("drifting", {"by": "time"}), ("overlapping", {"share": 0.0})):
        with pytest.raises(ConfigError):
            assign(kind, TASKS, 8, **options)
    with pytest.raises(ConfigError, match="same name"):
        assign("one_each", [*TASKS, TASKS[0]], 8)
    with pytest.raises(EmptyTask, match="too few"):
        assign("one_each", [TaskPictures("bare", ("a", "b"), (), (0, 0, 0, 1), (), ())], 8)
    with pytest.raises(DataError, match="not among"):
        assign("one_each", TASKS, 8)[0].pictures(synthetic_tasks(5, per_class=3))
