"""The live view counts as the trace says, and draws where there is a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from firmware_sim import analysis, trace
from firmware_sim.live import Live, sparkline


def followed(path: Path, console: Console, every: float = 1e9) -> Live:
    with Live(20, 14, console, every) as live:
        for event in trace.read(path / "trace.jsonl"):
            live.event(event)
    return live


def test_the_counts_are_the_reports(make_run: Callable[..., Path]) -> None:
    folder = make_run(dies_at=6.5)
    live, run = followed(folder, Console(file=io.StringIO())), analysis.read(folder)
    assert live.bytes == sum(run.traffic.links.values())
    assert (live.sessions, live.faults) == (run.traffic.sessions, len(run.troubles.faults))
    assert (live.attacks, live.refused) == (12, 12)
    assert live.knowing[13] == 19, "all but the one that died with its task"
    assert sum(live.knowing) == 20


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(make_run: Callable[..., Path]) -> None:
    out = io.StringIO()
    followed(make_run(), Console(file=out), every=0)
    last = out.getvalue().splitlines()[-1]
    assert "20 of 20 agents know all 14 tasks" in last
    assert "12 of 12 attacks refused" in last
    assert "\x1b" not in out.getvalue()


def test_a_terminal_shows_the_screen_and_is_left_clean(make_run: Callable[..., Path]) -> None:
    out = io.StringIO()
    live = followed(make_run(), Console(file=out, force_terminal=True, width=100))
    shown = Console(file=io.StringIO(), width=100, record=True)
    shown.print(live.view())
    text = shown.export_text()
    assert "20 of 20 agents know all 14 tasks" in text
    assert "brown_out" in text, "the last notable event"
    assert out.getvalue().endswith("\x1b[2K") or "\x1b[?25h" in out.getvalue(), "the cursor is there again"


def test_a_hostile_name_neither_moves_the_cursor_nor_is_markup(make_run: Callable[..., Path]) -> None:
    live = Live(1, 1, Console(file=io.StringIO()))
    live.event({"t": 1.0, "agent": "\x1b[2J[red]x", "event": "fault", "kind": "[bold]\x07clock"})
    shown = Console(file=io.StringIO(), width=100, record=True)
    shown.print(live.view())
    text = shown.export_text()
    assert "[red]x" in text and "[bold]" in text
    assert "\x1b" not in text and "\x07" not in text


def test_stages_are_shown_until_they_are_done() -> None:
    live = Live(3, 2, Console(file=io.StringIO()))
    live.stage("learning", 1, 3)
    assert live.line() == "learning: 1 of 3"
    live.stage("learning", 3, 3)
    assert "virtual" in live.line()


def test_a_sparkline_hides_nobody() -> None:
    assert sparkline([1, 0, 1000]) == "▁ █"
    assert len(sparkline([1] * 501)) <= 40
