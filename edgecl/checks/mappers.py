"""What every task mapper must satisfy.

`mapper` is the class. Each check raises AssertionError with a sentence. `CHECKS` fit every mapper, `CALIBRATED` those that
say "unknown task", `MONOTONE` those whose score of one task does not depend on the other tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgecl.checks import synthetic
from edgecl.errors import BundleError
from edgecl.mapping.base import Assignment, Mapper
from edgecl.types import Arrays, Floats, Ints

WIDTH, TASKS, CLASSES, PER_CLASS = 48, 5, 3, 20
Check = Callable[[type[Mapper]], None]


def check_distant_tasks_are_told_apart(mapper: type[Mapper]) -> None:
    """Blobs many sigma apart: never a wrong task, on pictures it has not seen (skill.md, section 11, point 13)."""
    built, right = mapper(WIDTH), []
    for t in range(TASKS):
        built.add(_name(t), mapper.anchor(*synthetic.features(t, CLASSES, 40, WIDTH, spread=0.1)))
    for t in range(TASKS):
        right.append(built.assign(synthetic.features(t, CLASSES, 40, WIDTH, spread=0.1, seed=1)[0]).task == t)
    share = float(np.mean(right))
    assert share == 1.0, f"mapper '{mapper.name}' finds the task of {share:.4f} of pictures of distant tasks"


def check_answer_has_the_stated_shapes(mapper: type[Mapper]) -> None:
    """task int64, strangeness float32 and not negative, known bool, all (n,), n = 0 and n = 1 included."""
    built = _built(mapper)
    for n in (0, 1, 7):
        answer = built.assign(_queries()[0][:n])
        assert answer.task.shape == answer.strangeness.shape == answer.known.shape == (n,), (
            f"mapper '{mapper.name}' answers wrong shapes for {n}"
        )
        types = [str(part.dtype) for part in (answer.task, answer.distance, answer.strangeness, answer.known)]
        assert types == ["int64", "float32", "float32", "bool"], f"mapper '{mapper.name}' answers dtypes {types}"
        assert np.isfinite(answer.strangeness).all(), f"mapper '{mapper.name}' answers a strangeness that is no number"
        assert (answer.strangeness >= 0).all(), f"mapper '{mapper.name}' answers a negative strangeness"
        assert np.array_equal(answer.known, answer.strangeness <= 1), (
            f"mapper '{mapper.name}' contradicts itself about what is known"
        )


def check_removed_task_leaves_no_trace(mapper: type[Mapper]) -> None:
    """Added and removed again, used in between, a task changes no bit of any answer."""
    clean, used = _built(mapper), _built(mapper)
    used.add("visitor", _anchor(mapper, TASKS))
    used.assign(_queries()[0])
    used.remove("visitor")
    _require_equal(clean, used, f"mapper '{mapper.name}' answers differently after a task came and went")


def check_replaced_task_leaves_no_trace(mapper: type[Mapper]) -> None:
    """A new generation of a task counts as if it had been the only one."""
    clean, used = _built(mapper), _built(mapper, replaced={0: _anchor(mapper, TASKS)})
    used.assign(_queries()[0])
    used.add(_name(0), _anchor(mapper, 0))
    _require_equal(clean, used, f"mapper '{mapper.name}' remembers the earlier generation of a task")


def check_order_of_arrival_does_not_matter(mapper: type[Mapper]) -> None:
    """Any order of the same anchors gives the same bits (skill.md, section 11, point 9)."""
    first = _built(mapper)
    for order in (range(TASKS - 1, -1, -1), np.random.default_rng(0).permutation(TASKS)):
        _require_equal(first, _built(mapper, order), f"mapper '{mapper.name}' depends on the order in which tasks arrive")


def check_adding_twice_changes_nothing(mapper: type[Mapper]) -> None:
    """The same anchor under the same name again (skill.md, section 11, point 11)."""
    once, twice = _built(mapper), _built(mapper)
    twice.assign(_queries()[0])
    twice.add(_name(1), _anchor(mapper, 1))
    _require_equal(once, twice, f"mapper '{mapper.name}' counts a task twice that was added twice")


def check_anchor_survives_bytes(mapper: type[Mapper]) -> None:
    """An anchor of plain arrays of stored types, read back from raw bytes, gives the same bits."""
    back = {}
    for t in range(TASKS):
        anchor = _anchor(mapper, t)
        mapper.check(anchor)
        types = {str(value.dtype) for value in anchor.values()}
        assert types <= {"float16", "float32", "int64", "int32", "int8", "uint8"}, (
            f"mapper '{mapper.name}' makes anchors of dtypes {types}"
        )
        back[t] = {k: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape) for k, v in anchor.items()}
    _require_equal(
        _built(mapper), _built(mapper, replaced=back), f"mapper '{mapper.name}' differs after its anchors were stored"
    )


def check_same_pictures_give_the_same_anchor(mapper: type[Mapper]) -> None:
    """And making it leaves features and labels as they were."""
    x, y = synthetic.features(0, CLASSES, PER_CLASS, WIDTH)
    before = x.copy(), y.copy()
    first, second = (mapper.anchor(x, y, 0.05, 3) for _ in range(2))
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1]), (
        f"mapper '{mapper.name}' changes the pictures it is given"
    )
    for name, value in first.items():
        assert np.array_equal(value, second[name]), (
            f"mapper '{mapper.name}': '{name}' differs between two anchors of the same pictures"
        )


def check_refuses_anchors_that_do_not_fit(mapper: type[Mapper]) -> None:
    """An anchor with an array missing, more, of another type or size is refused by `check`; one of another width by `add`."""
    good = _anchor(mapper, 0)
    bad: dict[str, Arrays] = {"without arrays": {}, "with a foreign array": {**good, "foreign": np.zeros(1, np.float32)}}
    for name, value in good.items():
        bad[f"without '{name}'"] = {k: v for k, v in good.items() if k != name}
        bad[f"whose '{name}' is float64"] = {**good, name: value.astype(np.float64)}
        bad[f"whose '{name}' has a dimension more"] = {**good, name: value[None]}
        bad[f"whose '{name}' has a dimension less"] = {**good, name: value[0]}
        bad[f"whose '{name}' is empty"] = {**good, name: value[:0]}
    for what, anchor in bad.items():
        _require_refused(partial(mapper.check, anchor), f"mapper '{mapper.name}' accepts an anchor {what}", BundleError)
    other = mapper.anchor(*synthetic.features(0, CLASSES, PER_CLASS, WIDTH // 2))
    built = _built(mapper)
    _require_refused(
        lambda: built.add("narrow", other), f"mapper '{mapper.name}' accepts an anchor of another width", BundleError
    )
    _require_equal(_built(mapper), built, f"mapper '{mapper.name}' kept something of an anchor that it refused")


def check_merged_anchor_knows_the_pictures_of_both(mapper: type[Mapper]) -> None:
    """Two halves of a task's pictures, classes in another order: merged they are found and known as the halves are."""
    x, y = synthetic.features(0, CLASSES, 2 * PER_CLASS, WIDTH)
    half, counts = np.arange(len(y)) % 2 == 0, np.full(CLASSES, PER_CLASS)
    order = np.roll(np.arange(CLASSES), 1)
    a, b = mapper.anchor(x[half], y[half]), mapper.anchor(x[~half], order[y[~half]])
    merged = mapper.merge(a, b, counts, counts, order)
    mapper.check(merged)
    new = synthetic.features(0, CLASSES, 40, WIDTH, seed=1)[0]
    answers = [_built(mapper, replaced={0: anchor}).assign(new) for anchor in (a, b, merged)]
    found = [float((answer.task == 0).mean()) for answer in answers]
    lost = [float(1 - answer.known.mean()) for answer in answers]
    words = f"mapper '{mapper.name}', halves and merged: finds {found}, calls unknown {lost}"
    assert found[2] >= min(found) - 0.02 and lost[2] <= max(lost) + 0.02, words


def check_empty_mapper_says_unknown(mapper: type[Mapper]) -> None:
    """Before the first task, and after the last one is gone."""
    fresh, emptied = mapper(WIDTH), _built(mapper)
    for t in range(TASKS):
        emptied.remove(_name(t))
    for one in (fresh, emptied):
        answer = one.assign(_queries()[0])
        assert not answer.known.any(), f"mapper '{mapper.name}' knows a task where there is none"
        assert one.tasks == (), f"mapper '{mapper.name}' lists tasks where there is none"


def check_single_task_is_always_the_answer(mapper: type[Mapper]) -> None:
    """With one task there is nothing to confuse (skill.md, section 11, point 12)."""
    one = mapper(WIDTH)
    one.add("only", _anchor(mapper, 0))
    answer = one.assign(_queries()[0])
    assert (answer.task == 0).all() and one.tasks == ("only",), f"mapper '{mapper.name}' answers another than the only task"


def check_batch_equals_one_by_one(mapper: type[Mapper]) -> None:
    """A picture's task is its own: alone or among others the same, the strangeness up to rounding."""
    built, (x, _) = _built(mapper), _queries()
    together, alone = built.assign(x), [built.assign(row[None]) for row in x]
    assert np.array_equal(together.task, [a.task[0] for a in alone]), (
        f"mapper '{mapper.name}' finds another task for a picture in a batch"
    )
    drift = np.abs(together.strangeness - np.array([a.strangeness[0] for a in alone])).max()
    assert drift < 1e-3, f"mapper '{mapper.name}': strangeness moves by {drift:.1e} in a batch"


def check_few_and_equal_pictures(mapper: type[Mapper]) -> None:
    """Six pictures, or pictures that are all the same, give an anchor that is finite, accepted and found."""
    x, y = synthetic.features(TASKS, 2, 3, WIDTH)
    for features in (x, np.ones_like(x), np.zeros_like(x)):
        anchor = mapper.anchor(features, y)
        mapper.check(anchor)
        for name, value in anchor.items():
            assert np.isfinite(value).all(), f"mapper '{mapper.name}': '{name}' is not finite for a poor task"
        built = _built(mapper)
        built.add("poor", anchor)
        if features.any():
            found = np.array(built.tasks)[built.assign(features).task]
            assert (found == "poor").all(), f"mapper '{mapper.name}' does not find a task of {len(x)} pictures"


# -- of those that say "unknown task"


def check_false_rejects_are_as_stated(mapper: type[Mapper]) -> None:
    """Of new pictures of the tasks themselves, about the stated share is called unknown."""
    for stated in (0.05, 0.2):
        rates = []
        for t in range(3):
            one = mapper(WIDTH)
            one.add("own", mapper.anchor(*synthetic.features(t, CLASSES, 40, WIDTH), stated))
            rates.append(1 - one.assign(synthetic.features(t, CLASSES, 200, WIDTH, seed=1)[0]).known.mean())
        rate = float(np.mean(rates))
        assert stated / 2.5 < rate < stated * 2, (
            f"mapper '{mapper.name}' calls {rate:.3f} of known pictures unknown; stated is {stated}"
        )


def check_other_tasks_are_unknown(mapper: type[Mapper]) -> None:
    """Pictures of tasks that were never learned, and features like none of them, are called unknown."""
    built = _built(mapper)
    strangers = np.concatenate([synthetic.features(100 + t, CLASSES, 20, WIDTH)[0] for t in range(3)])
    noise = np.random.default_rng(0).gamma(0.2, 10, (60, WIDTH)).astype(np.float32)
    for what, x in (("pictures of other tasks", strangers), ("noise", noise)):
        caught = 1 - float(built.assign(x).known.mean())
        assert caught > 0.95, f"mapper '{mapper.name}' calls only {caught:.2f} of {what} unknown"


def check_other_tasks_do_not_move_the_limit(mapper: type[Mapper]) -> None:
    """A picture that keeps its task keeps its strangeness, whoever else comes; so a limit stays right."""
    alone, x = mapper(WIDTH), synthetic.features(0, CLASSES, 20, WIDTH, seed=1)[0]
    alone.add(_name(0), _anchor(mapper, 0))
    among = _built(mapper).assign(x)
    kept = among.task == 0
    moved = np.abs(alone.assign(x).strangeness - among.strangeness)[kept].max()
    assert moved < 1e-3, f"mapper '{mapper.name}': strangeness of a picture moves by {moved:.1e} when other tasks come"


# -- of those whose score of a task does not depend on the others


def check_accuracy_only_falls_as_tasks_come(mapper: type[Mapper]) -> None:
    """Picture by picture: once its task is not found, it is never found again (skill.md, section 11, point 7)."""
    close = [synthetic.features(t, 4, 20, WIDTH, spread=2.5) for t in range(8)]
    anchors = [mapper.anchor(x, y) for x, y in close]
    new = [synthetic.features(t, 4, 20, WIDTH, spread=2.5, seed=1)[0] for t in range(8)]
    built, right, errors = mapper(WIDTH), dict[int, NDArray[np.bool_]](), 0
    for t, anchor in enumerate(anchors):
        built.add(_name(t), anchor)
        for known in range(t + 1):
            now = built.assign(new[known]).task == known
            came_back = now & ~right.get(known, np.ones_like(now))
            assert not came_back.any(), f"mapper '{mapper.name}': a picture lost before is found again after task {t + 1} came"
            right[known] = now
            errors += int((~now).sum())
    assert errors, f"mapper '{mapper.name}': the tasks are too easy for this check to mean anything"


CHECKS: tuple[Check, ...] = (
    check_distant_tasks_are_told_apart,
    check_answer_has_the_stated_shapes,
    check_removed_task_leaves_no_trace,
    check_replaced_task_leaves_no_trace,
    check_order_of_arrival_does_not_matter,
    check_adding_twice_changes_nothing,
    check_anchor_survives_bytes,
    check_same_pictures_give_the_same_anchor,
    check_refuses_anchors_that_do_not_fit,
    check_merged_anchor_knows_the_pictures_of_both,
    check_empty_mapper_says_unknown,
    check_single_task_is_always_the_answer,
    check_batch_equals_one_by_one,
    check_few_and_equal_pictures,
)
CALIBRATED: tuple[Check, ...] = (
    check_false_rejects_are_as_stated,
    check_other_tasks_are_unknown,
    check_other_tasks_do_not_move_the_limit,
)
MONOTONE: tuple[Check, ...] = (check_accuracy_only_falls_as_tasks_come,)


def _name(t: int) -> str:
    return f"task-{t}"


def _anchor(mapper: type[Mapper], t: int) -> Arrays:
    return mapper.anchor(*synthetic.features(t, CLASSES, PER_CLASS, WIDTH))


def _built(mapper: type[Mapper], order: Iterable[int] = range(TASKS), replaced: Mapping[int, Arrays] | None = None) -> Mapper:
    built = mapper(WIDTH)
    for t in order:
        built.add(_name(int(t)), (replaced or {}).get(int(t)) or _anchor(mapper, int(t)))
    return built


def _queries() -> tuple[Floats, Ints]:
    """New pictures of all tasks, with their task."""
    x = [synthetic.features(t, CLASSES, 10, WIDTH, seed=1)[0] for t in range(TASKS)]
    return np.concatenate(x), np.repeat(np.arange(TASKS), len(x[0]))


def _require_equal(a: Mapper, b: Mapper, sentence: str) -> None:
    x = np.concatenate([_queries()[0], synthetic.features(100, CLASSES, 10, WIDTH)[0]])
    first, second = a.assign(x), b.assign(x)
    assert a.tasks == b.tasks, f"{sentence}: tasks {a.tasks} and {b.tasks}"
    for name in Assignment.__dataclass_fields__:
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), f"{sentence}: {name}"


def _require_refused(act: Callable[[], None], sentence: str, error: type[Exception]) -> None:
    try:
        act()
    except error:
        return
    raise AssertionError(sentence)
