"""Learning from features is the learning that pictures go through, with the reading left out."""

import dataclasses

import numpy as np
import pytest

from edgecl.checks.synthetic import features, pictures
from edgecl.errors import ConfigError, DataError, EmptyTask
from edgecl.pictures.decode import decode
from edgecl.types import Task

CLASSES = ("a", "b", "c")


def of_width(width, seed=0):
    x, y = features(0, 3, 12, width, seed=seed)
    return Task("made-up", CLASSES, x, y)


def test_pictures_and_their_features_give_the_same_head_and_anchors(device, tmp_path):
    made, labels = pictures(3, 12, 96)
    one, other = device(), device(tmp_path / "other")
    first = one.learn_pictures("t", made, labels.tolist(), CLASSES)
    x = one.rom.features([decode(picture, one.rom.preprocess) for picture in made])
    second = other.learn_features(Task("t", CLASSES, x, labels))
    a, b = one.bundle(first.digest), other.bundle(second.digest)
    assert all(np.array_equal(a.head.arrays[key], b.head.arrays[key]) for key in a.head.arrays)
    assert all(np.array_equal(a.anchors[m][key], b.anchors[m][key]) for m in a.anchors for key in a.anchors[m])
    assert first.pictures == second.pictures and first.validation_accuracy == second.validation_accuracy
    assert set(second.seconds) == set(first.seconds) - {"reading"}


def test_what_was_learned_is_signed_and_in_force_and_the_next_is_its_next_generation(device):
    edge = device()
    for generation in (1, 2):
        report = edge.learn_features(of_width(edge.rom.width, seed=generation))
        assert report.generation == generation
    assert edge.bundle(report.digest).signer == edge.trust.signer.key
    assert edge.answer_features(of_width(edge.rom.width, seed=9).features[:1])[0].task == "made-up"


def test_what_cannot_be_learned_from_leaves_the_bank_as_it_was(device):
    edge = device()
    good = of_width(edge.rom.width)
    broken = good.features.copy()
    broken[3, 5] = np.nan
    for task, error in (
        (of_width(edge.rom.width + 1), DataError),
        (dataclasses.replace(good, features=broken), DataError),
        (dataclasses.replace(good, features=good.features[:-1]), DataError),
        (dataclasses.replace(good, labels=good.labels + 1), DataError),
        (dataclasses.replace(good, features=good.features[:13], labels=good.labels[:13]), EmptyTask),
        (dataclasses.replace(good, name="../up"), ConfigError),
    ):
        with pytest.raises(error):
            edge.learn_features(task)
    with pytest.raises(ConfigError, match="left beside anchors"):
        edge.learn_features(good, max_bytes=2000)
    assert not edge.bank.current()
