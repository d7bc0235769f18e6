"""The page's figures as inline SVG. Text is escaped here; colours are CSS variables, so that light and dark both work.

All are 480 units wide with text of 13, which stays readable on a phone and fills half of a desk's screen.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecl.text import printable
from firmware_sim.knowledge import Knowledge

WIDTH, LEFT, RIGHT, BOTTOM = 480, 52, 10, 38
SHADES = 254  # of the heat map; 0 is transparent, 255 stands for never
COLOURS = ((0x27, 0x3B, 0x8F), (0x1F, 0x8A, 0x9E), (0x8F, 0xC9, 0x5A), (0xFB, 0xD5, 0x3B))  # early to late, alike to all eyes
NEVER = (0xD6, 0x33, 0x6C)
CIRCLE = 150  # agents at most whose links are drawn one by one
HEAT_AGENTS, HEAT_TASKS = 30, 25  # agents that are named beside the heat map, evenly chosen; tasks, if no more

Values = Sequence[float] | NDArray[np.float64]
Line = tuple[str, Values, Values, str]  # name, x, y, CSS class


def lines(title: str, series: Sequence[Line], x_name: str, y_name: str, top: float, steps: bool = False) -> str:
    """A line chart with a legend below. y runs from 0 to `top`; steps: a value holds until the next one."""
    end = max((float(x[-1]) for _, x, _, _ in series if len(x)), default=1.0) or 1.0
    start = min((float(x[0]) for _, x, _, _ in series if len(x)), default=0.0) if not steps else 0.0
    height = 220
    plot = _Plot(start, max(end, start + 1e-9), top, height)
    body = plot.frame(x_name, y_name)
    for name, xs, ys, style in series:
        points = [plot.at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        path = ""
        for i, (x, y) in enumerate(points):
            path += f"M{x:.1f} {y:.1f}" if not i else f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}"
        if steps and points:
            path += f"H{plot.at(end, 0)[0]:.1f}"
        body += f'<path class="line {style}" d="{path}"><title>{_text(name)}</title></path>'
    legend = "".join(f'<li><span class="key {style}"></span>{_text(name)}</li>' for name, _, _, style in series)
    return _svg(title, height + BOTTOM, body) + (f'<ul class="legend">{legend}</ul>' if len(series) > 1 else "")


def bars(title: str, values: Sequence[float], x_name: str, y_name: str, bins: int = 30) -> str:
    """A histogram of non-negative values."""
    counts, edges = np.histogram(values, bins=min(bins, max(1, len(set(values)))), range=(0, max([*values, 1e-9])))
    height = 200
    plot = _Plot(0, float(edges[-1]), float(max(counts.max(), 1)), height)
    body = plot.frame(x_name, y_name)
    for count, low, until in zip(counts, edges, edges[1:], strict=False):
        (x0, y), (x1, floor) = plot.at(low, count), plot.at(until, 0)
        if count:
            said = f"{_short(low)} to {_short(until)}: {count}"
            wide, high = max(x1 - x0 - 1, 0.5), floor - y
            body += f'<rect class="bar" x="{x0 + 0.5:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}">'
            body += f"<title>{said}</title></rect>"
    return _svg(title, height + BOTTOM, body)


def circle(title: str, agents: Sequence[str], marks: Mapping[str, str], links: Mapping[tuple[str, str], float]) -> str:
    """Agents on a circle, links between them as wide as their bytes. marks: agent -> CSS class."""
    middle, radius, n = WIDTH / 2, 150.0, len(agents)
    place = {a: 2 * math.pi * i / max(n, 1) - math.pi / 2 for i, a in enumerate(agents)}
    spot = {a: (middle + radius * math.cos(w), 190 + radius * math.sin(w)) for a, w in place.items()}
    most = max(links.values(), default=1.0)
    body = ""
    for (a, b), moved in sorted(links.items(), key=lambda link: link[1]):
        if a in spot and b in spot:
            (x0, y0), (x1, y1) = spot[a], spot[b]
            width = 0.4 + 5.6 * math.sqrt(moved / most)
            body += f'<path class="link" stroke-width="{width:.1f}" d="M{x0:.0f} {y0:.0f}L{x1:.0f} {y1:.0f}">'
            body += f"<title>{_text(a)} – {_text(b)}: {_short(moved)}B</title></path>" if len(links) <= 600 else "</path>"
    size = 6 if n <= 40 else 3.5
    for i, a in enumerate(agents):
        x, y = spot[a]
        body += (
            f'<circle class="agent {marks.get(a, "")}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"><title>{_text(a)}</title></circle>'
        )
        if i % max(1, math.ceil(n / 20)) == 0:
            cosine = math.cos(place[a])
            anchor = "middle" if abs(cosine) < 0.25 else "start" if cosine > 0 else "end"
            lx, ly = middle + (radius + 12) * cosine, 194 + (radius + 16) * math.sin(place[a])
            body += f'<text class="small" x="{lx:.0f}" y="{ly:.0f}" text-anchor="{anchor}">{_text(_clip(a, 9))}</text>'
    return _svg(title, 380, body)


def moments(title: str, rows: Mapping[str, Sequence[tuple[float, str]]], end: float) -> str:
    """A time line: a row of marks a kind. rows: kind -> (second, CSS class); marks on one spot are drawn once."""
    left, step = 138, 20
    span = WIDTH - left - RIGHT
    height = step * len(rows) + 8
    body = "".join(
        f'<path class="grid" d="M{left + span * tick / end:.1f} 0V{height}"/>'
        f'<text class="small" x="{left + span * tick / end:.1f}" y="{height + 15}" text-anchor="middle">{_short(tick)}</text>'
        for tick in _ticks(0, end)
    )
    for i, (kind, marks) in enumerate(rows.items()):
        y = step * i + 14
        name = _text(_clip(kind.replace("_", " "), 17))
        body += f'<text class="small" x="{left - 8}" y="{y + 4}" text-anchor="end">{name}</text>'
        spots = {(round(left + span * t / end), style) for t, style in marks}
        for x, style in sorted(spots, key=lambda spot: (spot[1] == "bad", spot)):  # what went badly lies on top
            body += f'<path class="mark {style}" d="M{x} {y - 6}v12"/>'
    body += f'<text x="{left + span / 2}" y="{height + 32}" text-anchor="middle">virtual seconds</text>'
    return _svg(title, height + BOTTOM, body)


def heat(title: str, known: Knowledge) -> tuple[str, str]:
    """Agents (rows) by tasks (columns), coloured by when the agent first knew the task: SVG, and the same as data.

    Data: base64 of uint16, little-endian, agents by tasks: share of the time to the last arrival, of 65534; 65535: never.
    """
    a, n = known.arrived.shape
    there = np.isfinite(known.arrived)
    first, last = float(known.arrived[there].min()), float(known.arrived[there].max())
    late = max(float(np.quantile(known.arrived[there], 0.98, method="higher")), first + 1e-9)  # one straggler hides no one else
    share = np.clip((np.where(there, known.arrived, 0) - first) / (late - first), 0, 1)
    shades = np.where(there, 1 + np.round(share * (SHADES - 1)), 255).astype(np.uint8)
    named = n <= HEAT_TASKS
    left, right, top = (86, 46, 72) if named else (86, 8, 24)
    row = 18 if a <= 30 else 560 / a if a >= 112 else 5
    width, height = WIDTH - left - right, row * a
    body = f'<image id="heat" x="{left}" y="{top}" width="{width}" height="{height:.0f}" preserveAspectRatio="none" '
    body += f'href="data:image/png;base64,{_png(shades)}"/>'
    for i in range(0, a, max(1, math.ceil(a / HEAT_AGENTS))):
        y = top + row * (i + 0.5) + 4
        body += f'<text class="small" x="{left - 5}" y="{y:.1f}" text-anchor="end">{_text(_clip(known.agents[i], 10))}</text>'
    for j in range(n if named else 0):
        x = left + width * (j + 0.5) / n
        name = _text(_clip(known.tasks[j], 11))
        body += f'<text class="small" transform="translate({x + 3:.1f} {top - 5}) rotate(-50)">{name}</text>'
    if not named:
        body += f'<text class="small" x="{left}" y="{top - 7}">{n} tasks, in the order they were learned</text>'
    bar = top + height + 14
    body += "".join(
        f'<rect x="{left + 2 * k}" y="{bar:.0f}" width="2.5" height="9" fill="rgb{tuple(int(v) for v in colour)}"/>'
        for k, colour in enumerate(_palette(80))
    )
    body += f'<text class="small" x="{left}" y="{bar + 23:.0f}">{_short(first)} s</text>'
    over = "≥ " if late < last else ""
    body += f'<text class="small" x="{left + 160}" y="{bar + 23:.0f}" text-anchor="end">{over}{_short(late)} s</text>'
    body += f'<rect x="{left + 200}" y="{bar:.0f}" width="12" height="9" fill="rgb{NEVER}"/>'
    body += f'<text class="small" x="{left + 218}" y="{bar + 9:.0f}">never</text>'
    whole = np.where(there, np.round(65534 * np.where(there, known.arrived, 0) / (last or 1)), 65535).astype("<u2")
    return _svg(title, bar + 30, body), base64.b64encode(whole.tobytes()).decode()


class _Plot:
    """Data to units."""

    def __init__(self, start: float, end: float, top: float, height: float) -> None:
        self.start, self.end, self.top, self.height = start, end, top or 1.0, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        span = WIDTH - LEFT - RIGHT
        return LEFT + span * (x - self.start) / (self.end - self.start), 26 + (self.height - 26) * (1 - y / self.top)

    def frame(self, x_name: str, y_name: str) -> str:
        out = f'<text x="4" y="11">{_text(y_name)}</text>'
        for tick in _ticks(0, self.top):
            y = self.at(0, tick)[1]
            out += f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            out += f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for tick in _ticks(self.start, self.end):
            x = self.at(tick, 0)[0]
            out += f'<text class="small" x="{x:.1f}" y="{self.height + 16}" text-anchor="middle">{_short(tick)}</text>'
        return out + f'<text x="{(LEFT + WIDTH) / 2}" y="{self.height + 33}" text-anchor="middle">{_text(x_name)}</text>'


def _svg(title: str, height: float, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{_text(title)}">{body}</svg>'


def _text(name: str) -> str:
    return escape(printable(name, 80))


def _clip(name: str, length: int) -> str:
    return printable(name, length)


def _ticks(start: float, end: float) -> list[float]:
    """About five round numbers between the two."""
    rough = (end - start) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [step * i for i in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1)]


def _short(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= max(unit, 1e4):  # up to 9,999 a plain number is shorter
            return f"{value / unit:.3g}{name}"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"


def _palette(count: int) -> NDArray[np.uint8]:
    """(count, 3) from early to late."""
    at, where = np.linspace(0, 1, count), np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(at, where, channel) for channel in zip(*COLOURS, strict=True)], 1).round().astype(np.uint8)


def _png(shades: NDArray[np.uint8]) -> str:
    picture = Image.frombytes("P", shades.shape[::-1], shades.tobytes())
    picture.putpalette(bytes(3) + _palette(SHADES).tobytes() + bytes(NEVER))
    held = io.BytesIO()
    picture.save(held, "PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode()
