"""The automatic choice: by its stated rule on made-up answers, and within its bounds on made-up methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecl.checks import synthetic
from edgecl.errors import ConfigError, MissingDependency
from edgecl.heads import auto, linear
from edgecl.heads.base import QUIET, Head, Learned, Session
from edgecl.heads.parts.recipe import hold_out
from edgecl.rom.base import Rom
from edgecl.types import Task

Y = np.arange(300) % 3
HELD = np.flatnonzero(hold_out(Y, 0))  # 60 pictures


def answers(first: int, last: int) -> Learned:
    """A head that is wrong for that range of the held-out pictures, and for all that are not held out."""
    scores = np.eye(3, dtype=np.float32)[(Y + 1) % 3]
    right = np.delete(HELD, np.s_[first:last])
    scores[right] = np.eye(3, dtype=np.float32)[Y[right]]
    head = Head("linear", ("a", "b", "c"), "0" * 64, {"w": np.zeros((3, 4), np.float32)})
    return Learned(head, scores, {"validation_accuracy": 0.0})


@pytest.mark.parametrize(
    ("bb_wrong", "clr_wrong", "winner"),
    [
        ((0, 20), (0, 20), "clr"),  # nothing is seen between them: what is expected anyway decides
        ((0, 10), (0, 20), "bb"),  # bb is seen to be better
        ((0, 20), (0, 10), "clr"),
        ((0, 32), (0, 35), "linear"),  # both are worse by more than chance
        ((0, 26), (0, 30), "linear"),  # six worse, and agreed on all others: no chance
        ((0, 21), (0, 30), "bb"),  # one worse: that may be chance, and more is expected of it
        ((15, 36), (0, 30), "bb"),  # one worse, but they differ over 31: that is chance
    ],
)
def test_what_is_seen_is_weighed_against_what_is_expected(
    bb_wrong: tuple[int, int], clr_wrong: tuple[int, int], winner: str
) -> None:
    """Linear is wrong for the first 20 of 60."""
    tried = {"linear": answers(0, 20), "bb": answers(*bb_wrong), "clr": answers(*clr_wrong)}
    choice = auto.choose(tried, Y, 0)
    assert choice.winner == winner
    assert choice.rows["linear"]["expected_gain"] == 0 and choice.rows["linear"]["bytes"] == 48
    right = 1 - (bb_wrong[1] - bb_wrong[0]) / 60
    assert choice.rows["bb"]["validation_accuracy"] == round(right, 4)  # only pictures that none had seen count
    assert choice.why.startswith(f"{winner}: right for") and "of 60 held-out pictures" in choice.why and "points" in choice.why


def test_the_gain_is_the_mean_of_two_normals() -> None:
    """Ten of 60 pictures more, mean 0.025 and spread 0.03 expected; one disagreement is added to those that were seen."""
    right, base = np.ones(60, bool), np.arange(60) >= 10
    noise = (10 + 1) / 60**2
    expected = (0.025 / 0.03**2 + (10 / 60) / noise) / (1 / 0.03**2 + 1 / noise)
    assert auto._weighed(right, base, 0.025, 0.03) == pytest.approx(expected)
    assert 0.025 < expected < 10 / 60


def test_with_linear_alone_linear_is_kept() -> None:
    assert auto.choose({"linear": answers(0, 9)}, Y, 0).winner == "linear"


def test_settings() -> None:
    assert {name: config.sockets for name, config in auto.Config(sockets="last:7", seed=3).candidates().items()} == {
        "bb": "last:7",
        "clr": "last:7",
    }
    for wrong in ({"recipe": "paper"}, {"sockets": "last:0"}, {"false_reject": 0.7}):
        with pytest.raises(ConfigError):
            auto.Config(**wrong)


# -- trying


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.task(3, 100, rom.width, spread=1.5)


Given = list[tuple[str, Session]]
Try = Callable[..., tuple[Learned, Given]]


@pytest.fixture
def tries(rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch) -> Try:
    """`auto.learn` with made-up methods: what each does is given by name; also returns the sessions that they were given."""

    def run(session: Session = QUIET, **does: Callable[[Session], Any]) -> tuple[Learned, Given]:
        given: Given = []

        def method(name: str) -> Any:
            def learn(task: Task, rom: Rom, config: Any, previous: None, session: Session) -> Learned:
                given.append((name, session))
                return does[name](session)

            return SimpleNamespace(learn=learn)

        monkeypatch.setattr(auto, "_MODULES", {name: method(name) for name in ("bb", "clr")})
        return auto.learn(task, rom, auto.Config(), None, session), given

    return run


def found(stopped: bool = False, right: bool = True) -> Callable[[Session], Learned]:
    """A method that knows every picture, or none."""

    def learn(session: Session) -> Learned:
        labels = np.repeat(np.arange(3), 100)
        scores = np.eye(3, dtype=np.float32)[labels if right else (labels + 1) % 3]
        head = Head("linear", ("a", "b", "c"), "0" * 64, {"w": np.ones((3, 4), np.float32)})
        return Learned(head, scores, {"validation_accuracy": 1.0, "training": {"seconds": 2.0, "stopped_early": stopped}})

    return learn


def fails(error: BaseException) -> Callable[[Session], Learned]:
    def learn(session: Session) -> Learned:
        raise error

    return learn


def test_the_best_is_kept_and_the_report_says_why(tries: Try) -> None:
    said: list[str] = []
    learned, _ = tries(Session(say=said.append), bb=found(), clr=found(right=False))
    chosen = learned.report["chosen"]
    assert set(chosen) == {"why", "tried", "skipped"} and set(chosen["tried"]) == {"linear", "bb", "clr"}
    assert chosen["why"].startswith("bb: ") and chosen["skipped"] == {} and chosen["tried"]["bb"]["seconds"] == 2.0
    assert (learned.head.arrays["w"] == 1).all() and learned.report["validation_accuracy"] == 1.0  # the winner's own
    assert any("kept bb: " in line for line in said)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("it would take about 99 s, the budget has 3 s left"),
        MissingDependency("it learns in PyTorch"),
        ConfigError("this ROM image has no sockets"),
    ],
)
def test_a_method_that_cannot_be_tried_is_skipped_with_its_reason(tries: Try, error: Exception) -> None:
    said: list[str] = []
    learned, given = tries(Session(say=said.append), clr=fails(error), bb=found())
    assert learned.report["chosen"]["skipped"] == {"clr": str(error)} and learned.report["chosen"]["why"].startswith("bb: ")
    assert [name for name, _ in given] == ["clr", "bb"]
    assert f"clr is not tried: {error}" in said
    alone, _ = tries(bb=fails(error), clr=fails(error))
    assert alone.head.method == "linear" and set(alone.report["chosen"]["skipped"]) == {"bb", "clr"}
    assert np.array_equal(alone.head.arrays["w"], tries(bb=found(right=False), clr=found(right=False))[0].head.arrays["w"])


def test_ctrl_c_ends_the_trying_and_keeps_what_is_there(tries: Try) -> None:
    learned, given = tries(clr=fails(KeyboardInterrupt()), bb=found())
    assert [name for name, _ in given] == ["clr"] and learned.head.method == "linear"
    assert "stopped" in learned.report["chosen"]["skipped"]["clr"]
    learned, given = tries(clr=found(stopped=True), bb=found())
    assert [name for name, _ in given] == ["clr"] and learned.report["chosen"]["why"].startswith("clr: ")


def test_what_convinces_ends_the_trying(tries: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "CONVINCING", 0.001)
    assert [name for name, _ in tries(clr=found(), bb=found())[1]] == ["clr"]
    assert [name for name, _ in tries(clr=found(right=False), bb=found())[1]] == ["clr", "bb"]


def test_each_method_gets_what_is_left_of_the_budget_and_a_state_of_its_own(tries: Try, tmp_path: Path) -> None:
    ticks = iter(range(0, 1000, 7))
    session = Session(budget=100, checkpoint=tmp_path / "birds.safetensors", resume=True, clock=lambda: float(next(ticks)))
    _, given = tries(session, clr=found(right=False), bb=found())
    assert [one.budget for _, one in given] == [93, 86]
    assert [one.checkpoint.name for _, one in given] == ["birds.safetensors.clr", "birds.safetensors.bb"]
    assert all(one.resume for _, one in given)


def test_what_does_not_fit_the_budget_is_left_out_before_it_begins(rom: Rom) -> None:
    """The real methods, with a budget that a clock of whole minutes overruns at once."""
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    minutes = iter(range(0, 100_000, 60))
    session = Session(budget=30, clock=lambda: float(next(minutes)))
    learned = auto.learn(synthetic.pictures_task(rom, 2, 4), rom, auto.Config(sockets="last:3"), None, session)
    assert learned.head.method == "linear"
    skipped = learned.report["chosen"]["skipped"]
    assert set(skipped) == {"bb", "clr"} and all("budget" in why and "Nothing was changed" in why for why in skipped.values())


def test_where_the_rom_has_no_sockets_linear_is_kept(rom: Rom) -> None:
    image, task = rom.image, synthetic.pictures_task(rom, 2, 4)
    rom.image = dataclasses.replace(image, sockets=())
    try:
        learned = auto.learn(task, rom, auto.Config())
    finally:
        rom.image = image
    assert learned.head.method == "linear" and "no sockets" in learned.report["chosen"]["skipped"]["clr"]
    plain = linear.learn(task, rom, linear.Config())
    assert np.array_equal(learned.head.arrays["w"], plain.head.arrays["w"])
