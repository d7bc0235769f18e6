"""A run in sentences and in rows of words, for whoever writes them down. Names in rows are as the trace has them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgecl.text import duration, printable
from firmware_sim.analysis import Run, Trouble, accuracies, boards
from firmware_sim.knowledge import STOPS, number

NAME = 24  # characters of a foreign name in a sentence
_CONDITIONS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("virtual_s", lambda x: f"{duration(x)} virtual"),
    ("real_s", lambda x: f"{duration(x)} real"),
    ("events", lambda x: f"{x:,.0f} events"),
    ("events_per_s", lambda x: f"{x:,.0f} events/s"),
    ("processes", lambda x: f"{x:.0f} process{'es' if x != 1 else ''}"),
    ("speed_up", lambda x: f"speed-up {x:.1f} over one learner for all tasks"),
    ("bound", lambda x: f"which no fleet brings above {x:.1f}"),
)
_SPENT = (
    ("energy_j", 1, ",.0f"),
    ("flash_written", 1e6, ",.1f"),
    ("flash_life", 1, ".0e"),
    ("out", 1e6, ",.2f"),
    ("in", 1e6, ",.2f"),
)
BOARD_COLUMNS = ("board", "agents", "energy J", "flash MB", "life used", "out MB", "in MB")
TROUBLE_COLUMNS = ("kind", "times", "agents", "what became of it")
SPREAD_COLUMNS = ("task", "learned by", "at", "half", "90 %", "all")


def headline(run: Run) -> list[str]:
    """What came out, in sentences; the result first. Names are printable, not escaped for any markup."""
    known, n, tasks = run.knowledge, int(run.knowledge.live.sum()), len(run.knowledge.tasks)
    if not tasks:
        return ["Nobody learned a task in this run."]
    if not n:
        return [f"No agent is live at the end, after {duration(run.end)} of virtual time."]
    there = ~known.lost
    held = known.settled[known.live][:, there]
    which = f"all {tasks} tasks" if there.all() else f"{there.sum()} of the {tasks} tasks"
    sentences = []
    if not there.any():
        sentences.append(f"No live agent knows any of the {tasks} tasks at the end, after {duration(run.end)} of virtual time.")
    elif np.isfinite(held).all():
        sentences.append(
            f"All {n:,} live agents know {which}, each head bit-identical to its author's, after {duration(float(held.max()))} "
            "of virtual time."
        )
    else:
        lacking = [(agent, missing) for agent, missing in lacks(run) if missing]
        short = [
            f"{printable(agent, NAME)} (lacks {some([printable(t, NAME) for t in missing])})" for agent, missing in lacking
        ]
        sentences.append(
            f"{n - len(short):,} of {n:,} live agents know {which} at the end, after {duration(run.end)} of virtual time. "
            f"Short of them: {some(short)}."
        )
    if not there.all() and there.any():
        gone = [known.tasks[j] for j in np.flatnonzero(~there)]
        authors = [f"'{printable(task, NAME)}', learned by {printable(known.authors[task][0], NAME)}" for task in gone]
        sentences.append(f"Tasks that no live agent has at the end: {some(authors)}.")
    if known.foreign:
        strange = [f"{printable(agent, NAME)} holds '{printable(task, NAME)}'" for agent, task in known.foreign]
        sentences.append(f"Heads in force that no author of this run made: {some(strange)}.")
    if down := [printable(a, NAME) for a, up in zip(known.agents, known.live, strict=True) if not up]:
        sentences.append(f"Down at the end: {some(down)}.")
    if attacks := run.troubles.attacks:
        through = Counter(attack.kind for attack in attacks if not attack.came)
        if through:
            kinds = some([f"{printable(kind, NAME)} ({count:,})" for kind, count in through.most_common()])
            sentences.append(f"Of {len(attacks):,} attacks, {through.total():,} were not refused: {kinds}.")
        else:
            sentences.append(f"All {len(attacks):,} attacks were refused.")
    if isinstance(missed := run.summary.get("not_learned"), list) and missed:
        sentences.append(f"Tasks that nobody has learned: {some([printable(str(task), NAME) for task in missed])}.")
    answers = accuracies(run)
    if "the fleet" in answers:
        others = [f"{printable(name, NAME)} {joint:.3f}" for name, (joint, _) in answers.items() if name != "the fleet"]
        compared = f" (baselines: {', '.join(others)})" if others else ""
        sentences.append(f"Joint accuracy without a task label: {answers['the fleet'][0]:.3f}{compared}.")
    return sentences


def lacks(run: Run) -> list[tuple[str, list[str]]]:
    """For each live agent, the tasks of which it does not end with an author's latest head, though another does."""
    known = run.knowledge
    missing = ~np.isfinite(known.settled) & ~known.lost
    return [(known.agents[i], [known.tasks[j] for j in np.flatnonzero(missing[i])]) for i in np.flatnonzero(known.live)]


def conditions(run: Run) -> list[str]:
    """Under what the figures were had: one phrase each, those that the summary has."""
    s = run.summary
    found = s.get("scenario")
    name = found.get("name") if isinstance(found, dict) else found
    words = [f"scenario {printable(str(name), 60)}"] if name is not None else []
    words += [f"seed {int(seed)}"] if (seed := number(s, "seed")) is not None else []
    words.append(f"{len(run.knowledge.agents):,} agents, {len(run.knowledge.tasks)} tasks")
    for key, say in _CONDITIONS:
        if (value := number(s, key)) is not None:
            words.append(say(value))
    return words


def fault_rows(run: Run) -> list[list[str]]:
    """kind, how often, agents, what became of it."""
    whole = {agent for agent, missing in lacks(run) if not missing}
    rows = []
    for kind, group in _by_kind(run.troubles.faults).items():
        open_end = "STILL DOWN" if kind in STOPS else "LACKS HEADS at the end"
        came = Counter(trouble.came or ("knows all at the end" if trouble.agent in whole else open_end) for trouble in group)
        waits = [trouble.after for trouble in group if trouble.came]
        middle = f", half within {duration(float(np.median(waits)))}" if waits else ""
        became = "; ".join(
            f"{count:,} {what}{middle if what in ('up', 'healed') else ''}" for what, count in came.most_common()
        )
        rows.append([kind.replace("_", " "), f"{len(group):,}", f"{len({trouble.agent for trouble in group}):,}", became])
    return rows


def attack_rows(run: Run) -> list[list[str]]:
    """kind, how often, agents, what became of it."""
    rows = []
    for kind, group in _by_kind(run.troubles.attacks).items():
        reasons = Counter(f"refused ({trouble.reason})" if trouble.came else "NOT REFUSED" for trouble in group)
        became = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(4))
        rows.append([kind.replace("_", " "), f"{len(group):,}", f"{len({trouble.agent for trouble in group}):,}", became])
    return rows


def board_rows(run: Run) -> list[list[str]]:
    """board, agents, then median and highest: energy, flash written, share of its life, bytes out and in."""
    kinds: dict[str, list[Any]] = defaultdict(list)
    for row in boards(run).values():
        kinds[str(row.get("board", "?"))].append(row)
    out = []
    for kind, rows in sorted(kinds.items()):
        cells = [kind, f"{len(rows):,}"]
        for key, unit, form in _SPENT:
            values = [value for row in rows if (value := number(row, key)) is not None]
            cells.append(f"{np.median(values) / unit:{form}} / {max(values) / unit:{form}}" if values else "-")
        out.append(cells)
    return out


def spread_rows(run: Run) -> list[list[str]]:
    """task, author, learned at, seconds until half, nine tenths and all live agents knew it; the slowest first."""
    known = run.knowledge
    waits = known.spread()
    order = sorted(range(len(known.tasks)), key=lambda j: (-waits[j, 2], j))
    return [
        [known.tasks[j], some(known.authors[known.tasks[j]], 1), duration(known.learned[j]), *map(wait, waits[j])]
        for j in order
    ]


def wait(seconds: float) -> str:
    return duration(seconds) if math.isfinite(seconds) else "never"


def some(words: Sequence[str], most: int = 3) -> str:
    """The first few of a list that may be long."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def _by_kind(troubles: Iterable[Trouble]) -> dict[str, list[Trouble]]:
    kinds: dict[str, list[Trouble]] = defaultdict(list)
    for trouble in troubles:
        kinds[trouble.kind].append(trouble)
    return dict(sorted(kinds.items()))
