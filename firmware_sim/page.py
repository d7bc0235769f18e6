"""A run as one HTML file: nothing is fetched, it reads without JavaScript, and no name from the trace can become markup.

Every foreign name goes through `_text`; the page's own policy lets no other script run than the one below, by its digest.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgecl.text import duration, printable, size
from firmware_sim import drawing, wording
from firmware_sim.analysis import Run, accuracies, boards
from firmware_sim.knowledge import number
from firmware_sim.page_style import SCRIPT, STYLE

ROWS = 40  # kinds on the time line at most
MOST = 1000  # agents that are shown one by one
STYLES = ("a", "b", "c", "d", "e", "f")  # of lines, in this order
CELLS = 200_000  # of the heat map at most, to be read out


def page(run: Run) -> str:
    """report.html."""
    title, *more = wording.headline(run)
    name, *under = wording.conditions(run)
    figures = [*_knowledge(run), *_accuracy(run), *_traffic(run), *_troubles(run), *_boards(run)]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    good = run.knowledge.complete == int(run.knowledge.live.sum()) > 0 and not run.knowledge.foreign
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(name)}</title><style>{STYLE}</style></head><body>",
            f"<header><h1>{_text(name, 80)}</h1>",
            f'<p class="headline {"good" if good else "short"}">{escape(title)}</p>',
            *(f"<p>{escape(sentence)}</p>" for sentence in more),
            f'<p class="conditions">{escape(" · ".join(under))}</p></header>',
            f'<main><div class="figures">{"".join(figures)}</div>{_agents(run)}</main>',
            f"<script>{SCRIPT}</script></body></html>\n",
        ]
    )


def _figure(title: str, body: str, note: str = "", wide: bool = False) -> str:
    said = f"<p>{note}</p>" if note else ""
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{said}{body}</section>"


def _knowledge(run: Run) -> list[str]:
    known = run.knowledge
    if not known.tasks or not known.agents:
        return []
    step = math.ceil(len(known.agents) / MOST)
    shown = dataclasses.replace(known, agents=known.agents[::step], arrived=known.arrived[::step])
    svg, cells = drawing.heat("When each agent first knew each task", shown)
    data = {"agents": [printable(a, 60) for a in shown.agents], "tasks": [printable(t, 60) for t in shown.tasks]}
    last = float(known.arrived[np.isfinite(known.arrived)].max())
    body = f'<div id="map" tabindex="0" aria-describedby="cell">{svg}</div>'
    if shown.arrived.size <= CELLS:
        packed = json.dumps({**data, "last": last, "cells": cells}).replace("<", "\\u003c")
        body += f'<output id="cell"></output><script type="application/json" id="data">{packed}</script>'
    some = f" Each {step}th agent is shown." if step > 1 else ""
    times = known.times
    curves = [
        ("mean of the live agents", times, known.mean, "a"),
        ("the agent that knows least", times, known.least, "b"),
        ("tasks that every live agent knows", times, known.everywhere, "c flat"),
    ]
    waits: NDArray[np.float64] = known.spread()
    order = np.argsort(waits[:, 2], kind="stable")
    spreads = []
    for column, (label, style) in enumerate((("half of the live agents", "a"), ("nine tenths", "b"), ("all", "c"))):
        ys = np.asarray(waits[order, column], np.float64)
        there = np.isfinite(ys)
        spreads.append((label, np.flatnonzero(there).astype(np.float64) + 1, ys[there], style))
    top = float(waits[np.isfinite(waits)].max(initial=0.0))
    return [
        _figure("Who knew what when", body, f"Agents down, tasks across; the colour is the moment a task arrived.{some}"),
        _figure(
            "The fleet’s knowledge",
            drawing.lines("Tasks known over time", curves, "virtual seconds", "tasks known", len(known.tasks), steps=True),
        ),
        _figure(
            "Time to knowledge",
            drawing.lines("Time to knowledge", spreads, "tasks, the quickest first", "seconds since learned", top)
            + _details("Each task", wording.SPREAD_COLUMNS, wording.spread_rows(run)),
            "From a task’s first learning until live agents know it; a line that ends early: never.",
        ),
    ]


def _traffic(run: Run) -> list[str]:
    traffic, known = run.traffic, run.knowledge
    if not traffic.links:
        return []
    total = size(float(sum(traffic.links.values())))
    note = f"{total} in {traffic.sessions:,} sessions over {len(traffic.links):,} links; {traffic.broken:,} sessions broke."
    everyone = sorted({*known.agents, *run.troubles.foes})
    if len(everyone) <= drawing.CIRCLE:
        marks = {agent: "" if up else "down" for agent, up in zip(known.agents, known.live, strict=True)}
        marks |= dict.fromkeys(run.troubles.foes, "foe")
        drawn = drawing.circle("Bytes per link", everyone, marks, traffic.links)
        kinds = [
            ("agent", "live"),
            *(("agent " + m, say) for m, say in (("down", "down"), ("foe", "foe")) if m in marks.values()),
        ]
        drawn += '<ul class="legend">' + "".join(f'<li><span class="dot {style}"></span>{say}</li>' for style, say in kinds)
        drawn += "<li>a line is as wide as the root of its bytes</li></ul>"
    else:
        drawn = drawing.bars("Bytes per link", list(traffic.links.values()), "bytes of a link", "links")
    gone = [("bytes so far", traffic.times, traffic.total / 1e6, "a")]
    return [
        _figure("Link traffic", drawn, note),
        _figure(
            "Traffic over time",
            drawing.lines("MB so far", gone, "virtual seconds", "MB so far", float(traffic.total[-1]) / 1e6, steps=True),
        ),
    ]


def _troubles(run: Run) -> list[str]:
    troubles = run.troubles
    if not troubles.faults and not troubles.attacks and not troubles.revoked:
        return [_figure("Faults and attacks", "<p>None in this run.</p>")]
    whole = {agent for agent, missing in wording.lacks(run) if not missing}
    rows: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for trouble in troubles.faults:
        rows[trouble.kind].append((trouble.t, "good" if trouble.came or trouble.agent in whole else "bad"))
    for trouble in troubles.attacks:
        rows[f"! {trouble.kind}"].append((trouble.t, "foiled" if trouble.came else "bad"))
    for t, *_ in troubles.revoked:
        rows["revocations"].append((t, "good"))
    line = drawing.moments("Faults and attacks over time", dict(sorted(rows.items())[:ROWS]), run.end or 1.0)
    legend = "".join(
        f'<li><span class="key {style}"></span>{say}</li>'
        for style, say in (("good", "mended"), ("foiled", "! attack, refused"), ("bad", "not mended, or not refused"))
    )
    body = f'{line}<ul class="legend">{legend}</ul>'
    if found := wording.fault_rows(run):
        body += "<h3>Faults</h3>" + _table(wording.TROUBLE_COLUMNS, found)
    if found := wording.attack_rows(run):
        body += "<h3>Attacks</h3>" + _table(wording.TROUBLE_COLUMNS, found)
    if gone := troubles.revoked:
        body += f"<p>{len(gone):,} revocations took {sum(row[3] for row in gone):,} heads out of force.</p>"
    return [_figure("Faults and attacks", body, wide=True)]


def _boards(run: Run) -> list[str]:
    rows = wording.board_rows(run)
    if not rows:
        return []
    body = _table(wording.BOARD_COLUMNS, rows)
    for key, unit, name, of in (
        ("energy_j", 1.0, "Energy", "J of an agent"),
        ("flash_written", 1e6, "Flash written", "MB written by an agent"),
    ):
        values = [value / unit for row in boards(run).values() if (value := number(row, key)) is not None and value >= 0]
        if any(values):
            body += f'<div class="half"><h3>{name}</h3>{drawing.bars(name, values, of, "agents")}</div>'
    return [
        _figure(
            "Energy and flash",
            body,
            "Median / highest of the agents; life used: the share of the flash’s endurance.",
            wide=True,
        )
    ]


def _accuracy(run: Run) -> list[str]:
    answers = accuracies(run)
    if not answers:
        return []
    longest = max((x for _, curve in answers.values() for x, _ in curve), default=2.0)
    series = []
    for i, (name, (joint, curve)) in enumerate(answers.items()):
        xs, ys = zip(*curve, strict=True) if len(curve) > 1 else ((1, longest), (joint, joint))
        style = STYLES[i % len(STYLES)] + ("" if len(curve) > 1 else " flat")
        series.append((f"{printable(name, 40)} ({joint:.3f})", xs, ys, style))
    return [
        _figure(
            "Accuracy",
            drawing.lines("Joint accuracy as tasks are added", series, "tasks learned", "joint accuracy", 1.0),
            "Task and class right, without a task label, as tasks are added; dotted: the end result alone.",
        )
    ]


def _agents(run: Run) -> str:
    """All agents as a table that can be searched, the ones that lack something first."""
    known, spent = run.knowledge, boards(run)
    down = {agent for agent, up in zip(known.agents, known.live, strict=True) if not up}
    rows = []
    for i, agent in enumerate(known.agents):
        row = spent.get(agent, {})
        has = np.isfinite(known.settled[i])
        state = "down" if agent in down else "all" if has.all() else "short"
        since = duration(float(known.settled[i].max())) if has.all() and has.size else "-"
        figures = [size(v) if (v := number(row, key)) is not None else "-" for key in ("out", "in", "flash_written")]
        energy = f"{v:,.0f} J" if (v := number(row, "energy_j")) is not None else "-"
        rows.append((state, [agent, str(row.get("board", "-")), state, f"{has.sum()} of {has.size}", since, *figures, energy]))
    rows.sort(key=lambda row: ("short", "down", "all").index(row[0]))
    columns = ("agent", "board", "state", "tasks", "has all since", "out", "in", "flash written", "energy")
    cut = f"<p>The first {MOST:,} of {len(rows):,}.</p>" if len(rows) > MOST else ""
    return (
        f'<section class="wide"><details id="agents"><summary>Each agent ({len(rows):,})</summary>{cut}'
        '<label hidden>Show only <input id="filter" type="search" placeholder="part of a name, board or state"></label>'
        f"{_table(columns, [row for _, row in rows[:MOST]])}</details></section>"
    )


def _details(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<details><summary>{escape(title)}</summary>{_table(columns, rows)}</details>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell, 90)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(name: str, limit: int = 40) -> str:
    return escape(printable(name, limit))
