"""What every continual-learning method must satisfy.

`make` turns (shape of one input, classes, seed) into a learner. Each check raises AssertionError with a sentence. `CHECKS` fit
every method, `BOUNDED` those whose memory does not grow with the stream, `BLIND` those to which the order of the samples of a
class is nothing.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

import numpy as np

from edgecl.checks import synthetic
from edgecl.learners.base import Learner
from edgecl.streams.base import Experience, Samples
from edgecl.types import Floats, Ints

WIDTH, CLASSES, EXPERIENCES = 64, 4, 3
SHAPE = (WIDTH,)
Make = Callable[[tuple[int, ...], int, int], Learner]
Check = Callable[[Make], None]


def check_scores_are_finite_numbers(make: Make) -> None:
    """(n, k) float32, finite: before anything was learned, between experiences and at the end; n = 0 and n = 1 included."""
    learner = make(SHAPE, CLASSES, 0)
    for _ in _stages(learner):
        for n in (0, 1, 7):
            scores = learner.predict(_test()[0][:n])
            assert scores.shape == (n, CLASSES) and scores.dtype == np.float32, (
                f"{_name(learner)} answers {n} inputs by {scores.shape} {scores.dtype}"
            )
            assert np.isfinite(scores).all(), f"{_name(learner)} answers scores that are no numbers"


def check_same_seed_same_answers(make: Make) -> None:
    """To the bit."""
    first, second = (_learned(make(SHAPE, CLASSES, 5)) for _ in range(2))
    assert _answers(first) == _answers(second), f"{_name(first)} answers otherwise when it learns again with the same seed"


def check_global_randomness_is_not_touched(make: Make) -> None:
    """The states of Python, NumPy and PyTorch are what they were: nothing was drawn from them, nobody seeded them."""
    before = _global_randomness()
    learner = _learned(make(SHAPE, CLASSES, 5))
    assert _global_randomness() == before, f"{_name(learner)} uses global random state"


def check_asking_changes_nothing(make: Make) -> None:
    """Who was asked after every batch learns the same bits as who was not, and answers the same twice."""
    quiet, asked = make(SHAPE, CLASSES, 1), make(SHAPE, CLASSES, 1)
    for learner, often in ((quiet, False), (asked, True)):
        for _ in _stages(learner, ask=often):
            pass
    before = asked.nbytes()
    assert _answers(asked) == _answers(asked), f"{_name(asked)} answers otherwise when it is asked again"
    assert asked.nbytes() == before, f"{_name(asked)} holds more after it was asked"
    assert _answers(quiet) == _answers(asked), f"{_name(asked)} learns otherwise when it is asked in between"


def check_batch_of_questions_equals_one_by_one(make: Make) -> None:
    """Up to rounding: an input's scores are its own."""
    learner, x = _learned(make(SHAPE, CLASSES, 0)), _test()[0][::5]
    together, alone = learner.predict(x), np.concatenate([learner.predict(x[i : i + 1]) for i in range(len(x))])
    drift = float(np.abs(together - alone).max() / max(1.0, np.abs(together).max()))
    assert drift < 1e-4, f"{_name(learner)}: scores move by {drift:.1e} of the largest in a batch"


def check_easy_stream_is_learned(make: Make) -> None:
    """Classes apart, samples in no order, one experience: nearly all new ones are right, batch by 1 and by 16."""
    for batch in (1, 16):
        learner = make(SHAPE, CLASSES, 0)
        x, y = synthetic.features(3, CLASSES, 200, WIDTH, spread=0.1)
        order = np.random.default_rng(2).permutation(len(y))
        _teach(learner, x[order], y[order], None, batch)
        share = _right(learner)
        assert share > 0.9, f"{_name(learner)} is right about {share:.2f} of an easy stream that came by {batch}"


def check_inputs_are_left_alone(make: Make) -> None:
    """Learning and answering write to none of the arrays; they may be read-only, and later be somebody else's."""
    learner, (x, y), (new, _) = make(SHAPE, CLASSES, 0), _train(), _test()
    kept = [array.tobytes() for array in (x, y, new)]
    for array in (x, y, new):
        array.setflags(write=False)
    _teach(learner, x, y, None, 8)
    learner.predict(new)
    assert [array.tobytes() for array in (x, y, new)] == kept, f"{_name(learner)} changes its inputs"


def check_batches_may_be_overwritten(make: Make) -> None:
    """What a batch's arrays hold after `observe` is of no matter: a stream may read pictures into one and the same place."""
    plain, reused = make(SHAPE, CLASSES, 0), make(SHAPE, CLASSES, 0)
    x, y = _train()
    room, labels = np.empty((8, WIDTH), np.float32), np.empty(8, np.int64)
    plain.begin_task(None)
    reused.begin_task(None)
    for start in range(0, len(y) - len(y) % 8, 8):
        room[:], labels[:] = x[start : start + 8], y[start : start + 8]
        plain.observe(x[start : start + 8], y[start : start + 8])
        reused.observe(room, labels)
        room[:], labels[:] = 0, 0
    plain.end_task()
    reused.end_task()
    assert _answers(plain) == _answers(reused), f"{_name(plain)} keeps a batch that is not its own"


def check_cut_experience_is_the_same(make: Make) -> None:
    """An online method learns the same bits from an experience in two pieces."""
    whole, cut = make(SHAPE, CLASSES, 0), make(SHAPE, CLASSES, 0)
    if not whole.online:
        return
    x, y = _train()
    for learner, pieces in ((whole, (slice(None),)), (cut, (slice(0, 32), slice(32, None)))):
        learner.begin_task(None)
        for piece in pieces:
            learner.learn(_experience(x[piece], y[piece]), 1)
        learner.end_task()
    assert _answers(whole) == _answers(cut), f"{_name(whole)} learns otherwise from an experience in pieces"


def check_bytes_are_counted(make: Make) -> None:
    """A positive number, which does not shrink while the stream goes on."""
    learner = make(SHAPE, CLASSES, 0)
    held = [learner.nbytes() for _ in _stages(learner)]
    assert held[-1] >= 4 * CLASSES, f"{_name(learner)} claims to hold {held[-1]} bytes"
    assert all(isinstance(n, int) for n in held), f"{_name(learner)} counts bytes that are no whole numbers"


def check_given_task_is_used_or_ignored(make: Make) -> None:
    """Told the task, a learner answers at least as well as it does without: it may not be led astray."""
    learner = make(SHAPE, CLASSES, 0)
    x, y = _train()
    for task in (0, 1):
        mine = y // 2 == task
        _teach(learner, x[mine], y[mine], task, 1)
    new, labels = _test()
    told = np.concatenate([learner.predict(new[labels // 2 == t], t).argmax(1) == labels[labels // 2 == t] for t in (0, 1)])
    assert told.mean() >= _right(learner), f"{_name(learner)} is worse when it is told the task"
    assert np.isfinite(learner.predict(new, 7)).all(), f"{_name(learner)} has no answer for a task that has not come"


# -- of those that claim a bounded memory


def check_memory_is_bounded(make: Make) -> None:
    """From some point on, more samples add no bytes."""
    learner = make(SHAPE, CLASSES, 0)
    x, y = synthetic.features(3, CLASSES, 300, WIDTH)
    held = []
    for _ in range(4):
        _teach(learner, x, y, None, 16)
        held.append(learner.nbytes())
    assert max(held[1:]) <= held[0] * 1.02, f"{_name(learner)} holds {held} bytes after as many passes"


# -- of those to which the order of samples is nothing


def check_order_does_not_matter(make: Make) -> None:
    """Class after class, or mixed: the same answers, up to rounding."""
    x, y = _train()
    sorted_by_class = np.argsort(y, kind="stable")
    scores = []
    for order in (np.arange(len(y)), sorted_by_class):
        learner = make(SHAPE, CLASSES, 0)
        _teach(learner, x[order], y[order], None, 1)
        scores.append(learner.predict(_test()[0]))
    drift = float(np.abs(scores[0] - scores[1]).max() / np.abs(scores[0]).max())
    assert drift < 1e-3, f"{_name(learner)}: the order moves scores by {drift:.1e} of the largest"


CHECKS: tuple[Check, ...] = (
    check_scores_are_finite_numbers,
    check_same_seed_same_answers,
    check_global_randomness_is_not_touched,
    check_asking_changes_nothing,
    check_batch_of_questions_equals_one_by_one,
    check_easy_stream_is_learned,
    check_inputs_are_left_alone,
    check_batches_may_be_overwritten,
    check_cut_experience_is_the_same,
    check_bytes_are_counted,
    check_given_task_is_used_or_ignored,
)
BOUNDED: tuple[Check, ...] = (check_memory_is_bounded,)
BLIND: tuple[Check, ...] = (check_order_does_not_matter,)


def _global_randomness() -> tuple[str, str, bytes]:
    torch = sys.modules.get("torch")  # a method without it must not need it here
    return repr(random.getstate()), repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes() if torch else b""


def _name(learner: Learner) -> str:
    return f"learner '{type(learner).__name__}'"


def _train() -> tuple[Floats, Ints]:
    """In no order."""
    x, y = synthetic.features(3, CLASSES, 24, WIDTH)
    order = np.random.default_rng(1).permutation(len(y))
    return x[order], y[order]


def _test() -> tuple[Floats, Ints]:
    return synthetic.features(3, CLASSES, 20, WIDTH, spread=0.1, seed=1)


def _experience(x: Floats, y: Ints, task: int = 0) -> Experience:
    samples = Samples.of(x, y)
    return Experience("check", task, samples, samples[:0], samples[:0])


def _teach(learner: Learner, x: Floats, y: Ints, task: int | None, batch: int) -> None:
    learner.begin_task(task)
    learner.learn(_experience(x, y, task or 0), batch)
    learner.end_task()


def _stages(learner: Learner, ask: bool = False) -> Iterator[None]:
    """A short stream of EXPERIENCES; gives control before it, and after each. ask: put questions after every batch."""
    yield
    x, y = _train()
    for part in range(EXPERIENCES):
        learner.begin_task(None)
        for at in range(part * len(y) // EXPERIENCES, (part + 1) * len(y) // EXPERIENCES):
            learner.learn(_experience(x[at : at + 1], y[at : at + 1]), 1)
            if ask:
                learner.predict(_test()[0][:2])
        learner.end_task()
        yield


def _learned(learner: Learner) -> Learner:
    for _ in _stages(learner):
        pass
    return learner


def _answers(learner: Learner) -> bytes:
    return learner.predict(_test()[0]).tobytes()


def _right(learner: Learner) -> float:
    x, y = _test()
    return float((learner.predict(x).argmax(1) == y).mean())
