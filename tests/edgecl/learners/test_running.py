"""The runner against a learner whose answers are known beforehand."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from edgecl.errors import ConfigError, DataError
from edgecl.learners.base import Learner
from edgecl.learners.figures import FIGURES, figures
from edgecl.learners.running import run
from edgecl.streams.base import Experience, Samples, Stream
from edgecl.types import Floats, Ints


class Rote(Learner):
    """Knows the classes that it has seen, each by its only input, and notes how it was used."""

    def __init__(self, shape: tuple[int, ...] = (1,), k: int = 4, seed: int = 0, config: Any = None) -> None:
        super().__init__(shape, k, seed, config)
        self.calls: list[Any] = []
        self.known: set[int] = set()

    def begin_task(self, task: int | None) -> None:
        self.calls.append(("begin", task))

    def observe(self, x: Any, y: Ints) -> None:
        self.calls.append(x[:, 0].tolist())
        self.known |= set(y.tolist())

    def end_task(self) -> None:
        self.calls.append("end")

    def predict(self, x: Any, task: int | None = None) -> Floats:
        scores = np.zeros((len(x), self.k), np.float32)
        for i, value in enumerate(x[:, 0].astype(int)):
            scores[i, value if value in self.known else -1] = 1
        return scores

    def nbytes(self) -> int:
        return 8 * len(self.known)


class AtTheEnd(Rote):
    """Learns only when an experience is over: looks in between find what it was before."""

    online = False

    def observe(self, x: Any, y: Ints) -> None:
        self.waiting = getattr(self, "waiting", set()) | set(y.tolist())

    def end_task(self) -> None:
        self.known |= self.waiting


def stream(k: int = 4, given: bool = False, train: int = 5, val: int = 0) -> Stream:
    """One class an experience, which is its own input; class c has c + 1 test samples."""

    def of(c: int, n: int) -> Samples:
        return Samples.of(np.full((n, 1), c), np.full(n, c))

    parts = tuple(Experience(f"e{c}", c, of(c, train), of(c, val), of(c, c + 1)) for c in range(k))
    return Stream("rote", "class", tuple("abcdefghijkl"[:k]), parts, task_given=given)


def test_the_matrix_says_what_was_known_when() -> None:
    # Class k-1 is what an ignorant learner answers, so it is right about it from the start.
    found = run(Rote(), stream(val=2))
    expected = np.tril(np.ones((4, 4)))
    expected[:, 3] = 1
    assert np.array_equal(found.accuracy, expected) and np.array_equal(found.val, expected)
    assert found.untrained.tolist() == [0, 0, 0, 1]
    assert (found.samples, found.test_counts.tolist(), found.bytes_held.tolist()) == (20, [1, 2, 3, 4], [8, 16, 24, 32])
    assert np.isnan(found.top5).all()  # four classes


def test_top_five_needs_ten_classes() -> None:
    # Of 11 classes 7 are learned. For the others all score 0 but the last class: before it come the first four of equals.
    found = run(Rote(k=11), stream(11)[:7])
    assert found.top5.tolist() == [1] * 7 and figures(found)["top5"] == 1
    ignorant = Rote(k=11)
    ignorant.observe = lambda x, y: None  # type: ignore[method-assign]
    assert run(ignorant, stream(11)).top5.tolist() == [1, 1, 1, 1, *[0] * 6, 1]


def test_top_five_of_a_given_task_needs_ten_classes_in_it() -> None:
    assert np.isnan(run(Rote(k=11), stream(11, given=True)).top5).all()


def test_no_validation_samples_no_figure() -> None:
    assert np.isnan(run(Rote(), stream()).val).all()


def test_batches_come_in_order_and_stay_within_an_experience() -> None:
    learner = Rote()
    run(learner, stream(2), batch=2)
    assert learner.calls == [
        *(("begin", None), [0, 0], [0, 0], [0], "end"),
        *(("begin", None), [1, 1], [1, 1], [1], "end"),
    ]


def test_the_task_is_told_only_where_the_stream_gives_it() -> None:
    learner = Rote()
    run(learner, stream(2, given=True))
    assert [call for call in learner.calls if call[0] == "begin"] == [("begin", 0), ("begin", 1)]


@pytest.mark.parametrize("given", [False, True])
def test_what_a_learner_is_judged_on_it_never_sees(given: bool) -> None:
    seen = []

    class Curious(Rote):
        def learn(self, experience: Experience, batch: int) -> None:
            seen.append((len(experience.test), len(experience.val), experience.task))
            super().learn(experience, batch)

    run(Curious(), stream(given=given, val=3))
    assert seen == [(0, 0, task if given else 0) for task in range(4)]


def test_test_samples_go_to_a_learner_that_says_it_decides_by_them() -> None:
    """As published figures do. Validation samples stay with the runner: they are for choosing settings."""
    seen = []

    class Published(Rote):
        sees_test = True

        def learn(self, experience: Experience, batch: int) -> None:
            seen.append((len(experience.test), len(experience.val)))

    run(Published(), stream(3, val=2))
    assert seen == [(1, 0), (2, 0), (3, 0)]


def test_pictures_on_a_disk_go_to_learners_that_read_them() -> None:
    class Lazy:
        """As `streams.files` has them."""

        shape = (5, 1)

        def __getitem__(self, rows: Any) -> Any:
            return np.zeros((5, 1))[rows]

    y = np.zeros(5, np.int64)
    samples = Samples(Lazy(), y, y)
    one = Experience("e", 0, samples, samples[:0], samples)
    with pytest.raises(ConfigError, match="cpg, packnet"):
        run(Rote(), Stream("s", "class", ("a",), (one,)))


def test_pairs_are_judged_by_features() -> None:
    """x is the person: same pairs are near, others far, but for one that looks like another."""
    pairs = [(1, 1), (2, 2), (3, 3), (1, 9), (2, 8), (3, 7), (4, 4), (5, 6)]
    angle = {1: 0.0, 2: 0.7, 3: 1.4, 4: 2.1, 5: 2.8, 6: 2.8, 7: 3.5, 8: 4.2, 9: 4.9}
    x = np.array(pairs).reshape(-1, 1)
    test = Samples.of(x, np.repeat([a == b for a, b in pairs], 2))
    train = Samples.of(np.array([[0], [1]]), np.array([0, 1]))
    one = Experience("faces", 0, train, train[:0], test, pairs=True)

    class Sees(Rote):
        def embed(self, x: Any, task: int | None = None) -> Floats:
            at = np.array([angle[int(value)] for value in x[:, 0]])
            return np.stack([np.cos(at), np.sin(at)], 1).astype(np.float32)

    result = run(Sees(k=2), Stream("s", "superclass", ("a", "b"), (one,)))
    assert result.accuracy[0, 0] == pytest.approx(7 / 8) and result.test_counts[0] == 16
    with pytest.raises(ConfigError, match="Rote has no features"):
        run(Rote(k=2), Stream("s", "superclass", ("a", "b"), (one,)))


def test_looks_in_between_make_the_curve_and_change_nothing_else() -> None:
    plain, looked, learner = run(Rote(), stream()), Rote(), Rote()
    found = run(looked, stream(), every=2)
    run(learner, stream())
    assert looked.calls == learner.calls
    assert np.array_equal(found.accuracy, plain.accuracy)
    assert [seen for seen, _ in found.curve] == [2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20]
    assert {accuracy for _, accuracy in found.curve} == {1.0}  # only what has begun counts
    assert [seen for seen, _ in plain.curve] == [5, 10, 15, 20]


def test_a_learner_that_waits_answers_as_before_until_then() -> None:
    found = run(AtTheEnd(k=5), stream(), every=3)
    # At 3 nothing is known; at 8 class 0 of 0 and 1 (1 of 3 test samples), at 13 those of 3 of 6, at 18 6 of 10.
    assert dict(found.curve) == pytest.approx({3: 0, 5: 1, 8: 1 / 3, 10: 1, 13: 0.5, 15: 1, 18: 0.6, 20: 1})


def test_seconds_are_the_learners_own() -> None:
    ticks = count()
    found = run(Rote(), stream(), every=2, clock=lambda: float(next(ticks)))
    # Each experience learns in three stretches, each between two readings of the clock, which ticks once a reading.
    assert found.seconds["learning"] == 12
    assert sum(found.seconds.values()) == next(ticks) - 1


@pytest.mark.parametrize(("batch", "every"), [(0, None), (4, 6), (1, 0), (1, -1)])
def test_numbers_that_make_no_sense_are_refused(batch: int, every: int | None) -> None:
    with pytest.raises(ConfigError, match="got"):
        run(Rote(), stream(), batch=batch, every=every)


def test_a_stream_that_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DataError, match="no experience"):
        run(Rote(), stream()[:0])
    untested = Experience("e", 0, stream()[0].train, stream()[0].val, stream()[0].test[:0])
    with pytest.raises(DataError, match="'e' has no test samples"):
        run(Rote(), Stream("s", "class", ("a", "b"), (untested,)))


def test_figures_are_the_metrics_of_the_run() -> None:
    found = run(Rote(), stream())
    told = figures(found)
    assert set(told) == set(FIGURES) - {"top5"}
    assert (told["accuracy"], told["forgetting"], told["last"], told["bytes"]) == (1, 0, 1, 32)
    assert told["forward"] == pytest.approx((0 + 0 + (1 - 1)) / 3)
