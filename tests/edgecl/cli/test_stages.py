"""Progress as a line: what is inside what, and how long it takes."""

from __future__ import annotations

from edgecl.cli.stages import Stages


def test_the_outermost_stage_says_how_long_it_still_takes() -> None:
    stages = Stages()
    stages.tell("run", 2, 10, 100.0)
    assert stages.line(130.0) == "run: 2 of 10", "nothing was done since it began, so nothing is known of its pace"
    stages.tell("run", 4, 10, 160.0)
    stages.tell("task", 7, 60, 165.0)
    assert stages.line(160.0) == "run: 4 of 10, about 3 min 0 s left; task: 7 of 60"  # 30 s each, 6 left
    stages.tell("run", 10, 10, 200.0)
    assert stages.line(201.0) == "run: 10 of 10"


def test_a_stage_ends_when_the_one_around_it_goes_on_or_when_it_is_done() -> None:
    stages = Stages()
    stages.tell("run", 0, 5, 0.0)
    stages.tell("learning", 3, 3, 1.0)
    stages.tell("picking again", 4, 30, 2.0)
    assert stages.line(2.0) == "run: 0 of 5; picking again: 4 of 30", "what is done is over"
    stages.tell("run", 1, 5, 3.0)
    assert stages.line(10.0) == "run: 1 of 5, about 40 s left", "it ended early"
    stages.tell("learning", 1, 3, 11.0)
    stages.tell("learning", 1, 4, 12.0)
    assert stages.line(12.0).endswith("; learning: 1 of 4"), "the same stage of something else"


def test_long_times_are_told_in_hours() -> None:
    stages = Stages()
    stages.tell("run", 0, 4, 0.0)
    stages.tell("run", 1, 4, 3600.0)
    assert stages.line(3600.0) == "run: 1 of 4, about 3 h 0 min left"
