"""A run while it goes on: one screen on a terminal, a line now and then elsewhere.

Events come from the simulation's own loop, so they are only counted here; a thread that reads the counts draws the screen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgecl.text import duration, printable, size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EVERY = 10.0  # real seconds between two lines, where there is no terminal
DRAWS = 8  # a second, at most
COLUMNS = 40  # of the sparkline
_LEVELS = " ▁▂▃▄▅▆▇█"
_NOTABLE = frozenset({"fault", "healed", "attack", "revoked", "learn_failed", "broken", "evaluated"})


class Live:
    """A context manager; `event` takes each line of the trace, `stage` what is done before and after.

    console: of rich; where it is no terminal, a line every `every` real seconds goes to it.   tasks: how many there will be.
    """

    def __init__(self, total_agents: int, tasks: int, console: Console, every: float = EVERY) -> None:
        self.agents, self.tasks, self.console = total_agents, tasks, console
        self.t, self.events, self.sessions, self.bytes, self.faults = 0.0, 0, 0, 0, 0
        self.attacks, self.refused = 0, 0
        self.knowing = [total_agents] + [0] * tasks  # k -> agents that know k tasks
        self._known: dict[str, set[str]] = {}
        self._off: set[str] = set()
        self._last: deque[Mapping[str, Any]] = deque(maxlen=5)
        self._stage: tuple[str, int, int] | None = None
        self._began = self._said = time.monotonic()
        self._every, self._terminal = every, console.is_terminal
        self._speed = (self._began, 0, 0.0)  # real second, events by then, events a second before
        self._screen: Any = None
        self._do: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "scenario": self._begin,
            "learned": self._gain,
            "taken": self._gain,
            "healed": self._gain,
            "revoked": self._revoke,
            "session": self._session,
            "fault": self._fault,
            "boot": self._boot,
            "attack": self._attack,
        }

    def event(self, event: Mapping[str, Any]) -> None:
        """One line of the trace."""
        self.events += 1
        self.t = event.get("t", 0.0)
        name = event["event"]
        do = self._do.get(name)
        if do:
            do(event)
        if name in _NOTABLE:
            self._last.append(event)
        if not self._terminal:
            self._maybe_say()

    def _begin(self, event: Mapping[str, Any]) -> None:
        """The first line says how many tasks there will be."""
        if isinstance(tasks := event.get("tasks"), int) and 0 <= tasks <= 100_000:
            self.tasks, self.knowing = tasks, [self.agents] + [0] * tasks

    def stage(self, name: str, done: int, total: int) -> None:
        """What is being done outside of virtual time, such as learning or evaluating; gone when all of it is done."""
        self._stage = (name, done, total) if done < total else None
        if not self._terminal:
            self._maybe_say()

    def line(self) -> str:
        """All of it in one line."""
        if self._stage:
            return f"{printable(self._stage[0], 60)}: {self._stage[1]:,} of {self._stage[2]:,}"
        return (
            f"virtual {duration(self.t)}, real {duration(time.monotonic() - self._began)}: {self.events:,} events, "
            f"{self.knowing[-1]:,} of {self.agents:,} agents know all {self.tasks} tasks, {self.sessions:,} sessions, "
            f"{size(self.bytes)}, {self.faults:,} faults, {self.refused:,} of {self.attacks:,} attacks refused"
        )

    def view(self) -> RenderableType:
        """The screen as it is now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        then, count, before = self._speed
        if now - then >= 1:
            before = (self.events - count) / (now - then)
            self._speed = now, self.events, before
        known = sum(k * agents for k, agents in enumerate(self.knowing)) / max(self.agents * self.tasks, 1)
        attacks = f"{self.refused:,} of {self.attacks:,} refused"
        rows = (
            ("time", f"virtual {duration(self.t)}, real {duration(now - self._began)}"),
            ("events", f"{self.events:,}, {before:,.0f}/s"),
            (
                "knowledge",
                f"{self.knowing[-1]:,} of {self.agents:,} agents know all {self.tasks} tasks; {known:.0%} of all there is",
            ),
            ("agents by tasks", f"0 |{sparkline(self.knowing)}| {self.tasks}"),
            ("traffic", f"{self.sessions:,} sessions, {size(self.bytes)}"),
            ("faults", f"{self.faults:,}, {len(self._off):,} agents down"),
            ("attacks", Text(attacks, style="bold red" if self.refused < self.attacks else "")),
        )
        grid = Table.grid(padding=(0, 2))
        for name, value in rows:
            grid.add_row(Text(name, style="dim"), value if isinstance(value, Text) else Text(value))
        stage = self._stage
        if stage:
            grid.add_row(Text("doing", style="dim"), Text(f"{printable(stage[0], 60)}: {stage[1]:,} of {stage[2]:,}"))
        return Group(grid, *(Text(_told(event), style="dim", no_wrap=True, overflow="ellipsis") for event in tuple(self._last)))

    def __enter__(self) -> Live:
        if self._terminal:
            from rich.live import Live as Screen

            self._screen = Screen(
                get_renderable=self.view, console=self.console, refresh_per_second=DRAWS, transient=True, redirect_stdout=False
            )
            self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._screen:
            self._screen.stop()

    def _maybe_say(self) -> None:
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

    def _gain(self, event: Mapping[str, Any]) -> None:
        known = self._known.get(event["agent"])
        if known is None:
            known = self._known[event["agent"]] = set()
        if event["task"] not in known:
            known.add(event["task"])
            self._move(len(known) - 1, len(known))

    def _lose(self, agent: str, tasks: Any) -> None:
        known = self._known.get(agent, set())
        before = len(known)
        known.difference_update(tasks)
        self._move(before, len(known))

    def _move(self, before: int, after: int) -> None:
        self.knowing[min(before, self.tasks)] -= 1
        self.knowing[min(after, self.tasks)] += 1

    def _revoke(self, event: Mapping[str, Any]) -> None:
        self._lose(event["agent"], event["tasks"])

    def _session(self, event: Mapping[str, Any]) -> None:
        self.sessions += 1
        self.bytes += event["out"] + event["in"]

    def _fault(self, event: Mapping[str, Any]) -> None:
        self.faults += 1
        if event["kind"] in ("power_cut", "brown_out"):
            self._off.add(event["agent"])
        self._lose(event["agent"], event.get("lost", ()))

    def _boot(self, event: Mapping[str, Any]) -> None:
        self._off.discard(event["agent"])

    def _attack(self, event: Mapping[str, Any]) -> None:
        self.attacks += 1
        self.refused += bool(event.get("refused"))


def sparkline(counts: list[int]) -> str:
    """A bar a bin, of at most `COLUMNS` equal bins; any agent at all is at least the lowest bar."""
    width = -(-len(counts) // COLUMNS)
    bins = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
    most = max(*bins, 1)
    return "".join(_LEVELS[-(-count * (len(_LEVELS) - 1) // most)] for count in bins)


def _told(event: Mapping[str, Any]) -> str:
    more = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("t", "agent", "event"))
    return printable(f"{event.get('t', 0):10.1f} s  {event.get('agent', '')}  {event['event']}  {more}", 200)
