"""The SKILL experiment: agents judged as evaluate judges, figures out of a trace, baselines that are what they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.evaluate import Evaluation, evaluate
from edgecl.judging import Plugged, judge, read_task
from edgecl.rom.base import Rom
from edgecl.sharing.trust import Peer
from edgecl.streams.base import TaskPictures
from edgecl.streams.folders import find_tasks
from edgecl.types import Task
from firmware_sim import baselines, skill
from firmware_sim.softmax import Pooled, SharedHead, average, descend

Make = Callable[..., EdgeDevice]


@pytest.fixture(scope="module")
def stream(pictures_task: Mapping[str, Path]) -> list[TaskPictures]:
    return find_tasks(next(iter(pictures_task.values())).parent)


@pytest.fixture(scope="module")
def author(
    tmp_path_factory: pytest.TempPathFactory, rom: Rom, stream: list[TaskPictures]
) -> Iterator[tuple[EdgeDevice, Evaluation]]:
    """A device that has learned all tasks under `evaluate`. Read only."""
    with EdgeDevice(tmp_path_factory.mktemp("author") / "home", rom=rom) as edge:
        yield edge, evaluate(edge, stream)


@pytest.fixture(scope="module")
def tests(author: tuple[EdgeDevice, Evaluation], stream: list[TaskPictures]) -> list[Task]:
    return [read_task(author[0], task.name, task.classes, task.test, task.test_labels) for task in stream]


@pytest.fixture
def agent(author: tuple[EdgeDevice, Evaluation], rom: Rom, tmp_path: Path) -> Iterator[Make]:
    """Devices on the same open ROM that have taken the named tasks from the author."""
    opened: list[EdgeDevice] = []

    def make(*tasks: str) -> EdgeDevice:
        opened.append(EdgeDevice(tmp_path / f"agent-{len(opened)}", rom=rom))
        opened[-1].trust.trust(Peer("author", author[0].trust.signer.key))
        taken = opened[-1].import_bundles([author[0].export(task) for task in tasks])
        assert not [one.error for one in taken if one.error]
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_who_took_the_heads_is_judged_as_evaluate_judged_who_learned_them(author, agent: Make, tests: list[Task]) -> None:
    """To the bit, or "all can do all" would be said of something else than what evaluate measures."""
    said = author[1]
    judged = judge(agent(*author[0].tasks), tests)
    for name, row in judged.tasks.items():
        assert row == {key: said.tasks[name][key] for key in row}
    assert judged.summary == {key: said.summary[key] for key in judged.summary}
    assert np.array_equal(judged.confusion, said.confusion)
    assert judged.summary["joint"] > 0.7, "equal figures of heads that know nothing would say nothing"


def test_answered_is_what_the_device_itself_answers(author, tests: list[Task]) -> None:
    judged = judge(author[0], tests)
    for test in tests:
        right = [
            said.task == test.name and said.label == test.classes[label]
            for said, label in zip(author[0].answer_features(test.features), test.labels, strict=True)
        ]
        assert judged.tasks[test.name]["answered"] == np.mean(right)


def test_a_task_that_is_not_known_is_wrong_and_the_known_one_is_not_confused(agent: Make, tests: list[Task]) -> None:
    judged = judge(agent("stripes"), tests)
    assert judged.tasks["stripes"]["joint"] == judged.tasks["stripes"]["oracle"] > 0
    assert judged.tasks["colours"]["joint"] == judged.tasks["colours"]["oracle"] == judged.tasks["colours"]["answered"] == 0
    place = [test.name for test in tests].index("stripes")
    assert judged.confusion.sum() == judged.confusion[:, place].sum()  # it has no other word for them


def test_a_device_that_knows_nothing_is_wrong_everywhere(agent: Make, tests: list[Task]) -> None:
    judged = judge(agent(), tests)
    assert judged.summary["joint"] == judged.summary["oracle"] == judged.confusion.sum() == 0


def test_a_known_task_without_test_pictures_can_still_be_found(agent: Make, author, tests: list[Task]) -> None:
    """An agent may know more than is asked about; what it then finds is wrong, and no index runs over."""
    some = [test for test in tests if test.name != "shapes"]
    assert judge(agent(*author[0].tasks), some).tasks == {t.name: judge(author[0], tests).tasks[t.name] for t in some}


def test_scores_are_the_author_s_until_somebody_learns_anew(author, agent: Make, tests: list[Task], pictures_task) -> None:
    wanted = skill.score_digests(author[0], tests)
    taker = agent("colours", "stripes")
    assert skill.same_as_author(taker, wanted, tests) == {"colours": True, "stripes": True, "shapes": False}
    found = skill.examine(taker, tests, wanted)
    assert found["known"] == 2 and found["differs"] == [] and set(found["tasks"]) == {"colours", "stripes"}
    assert found["everywhere"] == pytest.approx(found["joint"] * 2 / 3, abs=1e-6)
    fewer = TaskPictures("stripes", *_part(pictures_task["stripes"]))
    taker.learn_pictures("stripes", fewer.train, fewer.train_labels, fewer.classes)
    assert skill.examine(taker, tests, wanted)["differs"] == ["stripes"]


def test_what_a_head_with_plugs_has_seen_serves_all_agents(
    rom: Rom, tmp_path: Path, tests: list[Task], pictures_task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pass of the network is the dear one: for the same head and picture it is made once a process."""
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    from edgecl.heads.parts.recipe import Recipe

    monkeypatch.setattr(Recipe, "main_epochs", lambda self, pictures: 1)
    some = [test for test in tests if test.name == "stripes"]
    passes: list[int] = []
    plain = type(rom).features
    monkeypatch.setattr(type(rom), "features", lambda self, *a: (passes.append(len(a)), plain(self, *a))[1])
    with EdgeDevice(tmp_path / "a", rom=rom) as a, EdgeDevice(tmp_path / "b", rom=rom) as b:
        a.learn("stripes", pictures_task["stripes"], method="bb", sockets="last:5")
        b.trust.trust(Peer("a", a.trust.signer.key))
        b.import_bundle(a.export("stripes"))
        plugged: Plugged = {}
        wanted = skill.examine(a, some, skill.score_digests(a, some), plugged)
        passes.clear()
        assert skill.examine(b, some, {}, plugged) == wanted and not passes
        assert skill.examine(b, some, {}) == wanted and passes  # asked anew, it says the same


def test_figures_out_of_a_trace() -> None:
    """Two agents, two tasks of 10 s and 30 s; the last head comes at 40 s, of a run that began at 0."""

    def seen(t: float, agent: str, a: float, b: float | None) -> dict[str, Any]:
        rows = {"a": {"joint": a, "oracle": 0.9}} | ({"b": {"joint": b, "oracle": 0.8}} if b is not None else {})
        joint = float(np.mean([row["joint"] for row in rows.values()]))
        counts = [["a", "a", 9], ["a", "b", 1]] if b is not None else [["a", "a", 10]]
        base = {"t": t, "agent": agent, "event": "evaluated", "known": len(rows), "tasks": rows, "confusion": counts}
        return {**base, "joint": joint, "everywhere": sum(row["joint"] for row in rows.values()) / 2}

    events = [
        {"event": "scenario", "seed": 7},
        {"t": 0.0, "agent": "x", "event": "learn_start", "task": "a"},
        {"t": 0.0, "agent": "y", "event": "learn_start", "task": "b"},
        {"t": 10.0, "agent": "x", "event": "learned", "task": "a", "seconds": 10.0},
        seen(10.0, "x", 0.9, None),
        {"t": 30.0, "agent": "y", "event": "learned", "task": "b", "seconds": 30.0},
        {"t": 38.0, "agent": "x", "event": "session", "peer": "y", "out": 100, "in": 40},
        {"t": 38.0, "agent": "x", "event": "taken", "task": "b"},
        {"t": 40.0, "agent": "y", "event": "taken", "task": "a"},
        seen(41.0, "x", 0.8, 0.8),
        seen(41.0, "y", 0.6, 0.8),
    ]
    found = skill.figures(events, ["x", "y"], ["a", "b"])
    assert found["time_to_knowledge"] == 40 and found["sequential"] == 40
    assert found["speed_up"] == 1 and found["bound"] == pytest.approx(4 / 3) and found["of_bound"] == pytest.approx(0.75)
    assert found["curve"] == [
        {"tasks": 1, "agents": 1, "joint": 0.9, "everywhere": 0.45},
        {"tasks": 2, "agents": 2, "joint": pytest.approx(0.75), "everywhere": pytest.approx(0.75)},
    ]
    assert found["traffic"]["agents"] == {"x": {"out": 100, "in": 40}, "y": {"out": 40, "in": 100}}
    assert found["confusion"] == [[18, 2], [0, 0]]
    assert found["forgetting"] == {"oracle": 0.0, "joint": pytest.approx(0.1)}
    revoked = [*events, {"t": 50.0, "agent": "y", "event": "revoked", "peer": "x", "tasks": ["a"]}]
    assert skill.figures(revoked, ["x", "y"], ["a", "b"])["time_to_knowledge"] is None
    again = [*revoked, {"t": 60.0, "agent": "y", "event": "taken", "task": "a"}]
    assert skill.figures(again, ["x", "y"], ["a", "b"])["time_to_knowledge"] == 60


@pytest.fixture(scope="module")
def clouds() -> tuple[list[Task], list[Task]]:
    """Three tasks of three classes each, well apart: training and test pictures as features."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(1.0, 1.0, (3, 3, 32))

    def draw(t: int, n: int) -> Task:
        y = np.repeat(np.arange(3), n)
        x = np.abs(centres[t][y] + rng.normal(0, 0.1, (len(y), 32))).astype(np.float32)
        return Task(f"task-{t}", ("p", "q", "r"), x, y)

    return [draw(t, 10) for t in range(3)], [draw(t, 20) for t in range(3)]


def cost(work: baselines.Work) -> float:
    return {"learn": 10.0, "read": 1.0 * work.pictures, "train": 0.1 * work.pictures * work.epochs, "radio": 1e-3 * work.bytes}[
        work.kind
    ]


def test_a_shared_head_forgets_alone_and_not_together(clouds) -> None:
    alone = baselines.finetuned(*clouds, cost, rates=(10.0,))
    together = baselines.together(*clouds, cost, rates=(10.0,))
    assert together["joint"] > 0.95 and alone["curve"][0]["joint"] > 0.95
    assert alone["joint"] < 0.5 < alone["tasks"]["task-2"]["joint"]
    assert alone["oracle"] > alone["joint"], "with the task given, only its own classes compete"
    assert alone["seconds"] == pytest.approx(90 + 0.1 * 90 * 20) and alone["bytes"] == 0
    assert together["confusion"][0] == [60, 0, 0]


def test_one_averaged_full_step_is_one_step_over_everybody_s_pictures(clouds) -> None:
    """McMahan et al., section 2: with one local step over all pictures, averaging by their numbers is gradient descent."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 8)).astype(np.float32), rng.integers(0, 4, 30)
    data = Pooled(x, y, np.repeat([0, 1], [10, 20]), 4)
    empty = SharedHead.zeros(4, 8)
    steps = [(descend(empty, data.of(data.t == a), 1.0, 1, rng), int((data.t == a).sum())) for a in (0, 1)]
    wrong = np.full((30, 4), 0.25)
    wrong[np.arange(30), y] -= 1
    assert np.allclose(average(steps).w, -np.einsum("nk,nd->kd", wrong, x) / 30, atol=1e-6)
    assert np.allclose(average(steps).b, -wrong.mean(0), atol=1e-6)


def test_averaging_learns_all_tasks_and_counts_what_it_sends(clouds) -> None:
    first = baselines.federated(*clouds, cost, rounds=30, rates=(1.0, 30.0))
    assert first["joint"] > 0.9, "the mean knows all tasks, though no agent has seen more than one"
    size = 4 * (9 * 32 + 9)
    assert [row["bytes"] for row in first["curve"][:2]] == [2 * size, 4 * size] and first["bytes"] == 60 * size
    assert first["seconds"] == pytest.approx(30 + 30 * (2e-3 * size + 0.1 * 30 * 5))
    assert first["rate"] == max(first["tried"], key=first["tried"].get)
    assert baselines.federated(*clouds, cost, rounds=30, rates=(1.0, 30.0)) == first


def test_averaging_takes_any_division_of_the_pictures(clouds) -> None:
    owners = np.random.default_rng(0).integers(0, 7, 90)
    assert baselines.federated(*clouds, cost, rounds=2, rates=(30.0,), owners=owners)["agents"] == 7
    with pytest.raises(ConfigError, match="90"):
        baselines.federated(*clouds, cost, owners=owners[1:])


def test_one_device_alone_learns_what_evaluate_learns(author, rom: Rom, tmp_path: Path, stream, tests: list[Task]) -> None:
    with EdgeDevice(tmp_path / "alone", rom=rom) as device:
        found = baselines.sequential(device, stream, tests, cost)
    assert found["joint"] == author[1].summary["joint"] and [row["joint"] for row in found["curve"]] == author[1].curve
    assert found["seconds"] == 30 and [row["seconds"] for row in found["curve"]] == [10, 20, 30]


def test_who_shares_nothing_knows_only_its_own(author, rom: Rom, tmp_path: Path, stream, tests: list[Task]) -> None:
    def agents() -> Iterator[tuple[EdgeDevice, list[TaskPictures]]]:
        for task in stream:
            with EdgeDevice(tmp_path / task.name, rom=rom) as device:
                yield device, [task]

    found = baselines.isolated(agents(), tests, cost)
    assert found["joint"] == pytest.approx(author[1].summary["oracle"] / 3) and found["mapper"] == pytest.approx(1 / 3)
    assert found["seconds"] == 10 and found["agents"] == 3
    with pytest.raises(ConfigError, match="there is none"):
        baselines.isolated([], tests, cost)


@pytest.mark.slow
def test_every_agent_does_the_fourteen_real_tasks_as_the_author(shared_tasks: Path, tmp_path: Path) -> None:
    from edgecl.rom.opening import ensure_default

    real = find_tasks(shared_tasks)
    place = ensure_default(tmp_path / "rom", print)
    with EdgeDevice(tmp_path / "a", rom=place) as a, EdgeDevice(tmp_path / "b", rom=place, cache=tmp_path / "a" / "cache") as b:
        said = evaluate(a, real)
        b.trust.trust(Peer("a", a.trust.signer.key))
        assert not [one.error for one in b.import_bundles([a.export(task) for task in a.tasks]) if one.error]
        asked = [read_task(b, task.name, task.classes, task.test, task.test_labels) for task in real]
        assert judge(b, asked).summary == {key: said.summary[key] for key in judge(b, asked).summary}
        assert all(skill.same_as_author(b, skill.score_digests(a, asked), asked).values())


def _part(folder: Path) -> tuple[Any, ...]:
    """Classes, then training and test pictures with labels, of half of a task's pictures."""
    (whole,) = [task for task in find_tasks(folder.parent) if task.name == folder.name]
    return whole.classes, whole.train[::2], whole.train_labels[::2], whole.test, whole.test_labels
