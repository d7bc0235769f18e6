"""Where the stream gives the task, only its classes are answered; where it does not, nothing of it is used."""

from __future__ import annotations

import numpy as np

from edgecl.checks import synthetic
from edgecl.learners.baselines.ncm import Config, Ncm


def learned(tell: bool) -> Ncm:
    learner = Ncm((64,), 4, 0, Config())
    x, y = synthetic.features(0, 4, 10)
    for task in (0, 1):
        learner.begin_task(task if tell else None)
        learner.observe(x[y // 2 == task], y[y // 2 == task])
        learner.end_task()
    return learner


def test_only_classes_of_the_task_are_answered() -> None:
    x = np.random.default_rng(0).gamma(1, 1, (50, 64)).astype(np.float32)
    told, untold = learned(True), learned(False)
    assert set(told.predict(x, 0).argmax(1)) <= {0, 1} and set(told.predict(x, 1).argmax(1)) <= {2, 3}
    assert np.array_equal(told.predict(x), untold.predict(x)), "learning was changed by the task's number"
    assert np.array_equal(told.predict(x)[:, :2], told.predict(x, 0)[:, :2]), "the task's own scores were changed"
    assert told.nbytes() == untold.nbytes() + 2 * 4
