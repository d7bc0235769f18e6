"""Synthetic tasks are the same everywhere, cost nothing until they are looked at, and can be learned by the code that ships."""

import pickle

import numpy as np
import pytest

from edgecl.errors import ConfigError
from firmware_sim.synthetic import TEST, feature_tasks, synthetic_tasks


def test_a_picture_is_the_same_in_another_process_and_in_a_longer_list():
    """A task that travels is its numbers. Pickled here as a pool of processes would; nothing is unpickled from elsewhere."""
    task = synthetic_tasks(3, side=32, seed=5)[2]
    sent = pickle.dumps(task)
    assert len(sent) < 2000
    for other in (pickle.loads(sent), synthetic_tasks(500, side=32, seed=5)[2]):
        assert all(np.array_equal(a, b) for a, b in zip(task.train, other.train, strict=True))
        assert np.array_equal(task.test[-1], other.test[len(task.test) - 1])


def test_no_two_pictures_are_alike():
    """A test picture that is a training picture would be known by heart."""
    tasks = synthetic_tasks(4, side=32, seed=1) + synthetic_tasks(2, side=32, seed=2)
    seen = {picture.tobytes() for task in tasks for part in (task.train, task.test) for picture in part}
    assert len(seen) == 6 * 4 * (12 + 5)
    assert all(picture.shape == (32, 32, 3) and picture.dtype == np.uint8 for picture in tasks[0].train)


def test_a_device_learns_drawn_tasks_and_finds_them(device):
    """The tiny ROM has random weights: much better than chance (joint 1 in 16) is what it can show."""
    edge, tasks = device(), synthetic_tasks(4)
    for task in tasks:
        edge.learn_pictures(task.name, task.train, task.train_labels, task.classes)
    right = [
        answer.nearest_task == task.name and answer.nearest_label == task.classes[label]
        for task in tasks
        for answer, label in zip(edge.infer(task.test), task.test_labels, strict=True)
    ]
    assert np.mean(right) > 0.4


def test_a_device_learns_features_and_finds_them(device):
    edge = device()
    tasks = feature_tasks(12, edge.rom.width, seed=3)
    for task in tasks:
        edge.learn_features(task.task())
    right = [
        answer.nearest_task == task.name and answer.nearest_label == task.classes[label]
        for task in tasks
        for answer, label in zip(edge.answer_features(task.features(TEST)), task.test_labels, strict=True)
    ]
    assert 0.85 < np.mean(right) < 1, "neither hopeless nor too easy to show anything"


def test_features_are_drawn_from_the_seed_alone():
    one, again, other = (feature_tasks(20, 64, seed=seed)[7] for seed in (1, 1, 2))
    assert np.array_equal(one.features(), again.features()) and not np.array_equal(one.features(), other.features())
    assert not np.array_equal(one.features(TEST)[:5], one.features()[:5])
    assert one.features().shape == (48, 64) and one.features().dtype == np.float32


@pytest.mark.parametrize("wrong", [{"classes": 1}, {"classes": 11}, {"per_class": 2}, {"test_per_class": 0}, {"count": 0}])
def test_numbers_that_make_no_task_are_refused(wrong):
    with pytest.raises(ConfigError, match="synthetic tasks need"):
        synthetic_tasks(**{"count": 1, **wrong})
    with pytest.raises(ConfigError, match="synthetic tasks need"):
        feature_tasks(**{"count": 1, "width": 64, **wrong})
