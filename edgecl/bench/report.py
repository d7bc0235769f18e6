"""A bench's result: figures and the conditions they were taken under; as JSON (`schema.json`), as Markdown, and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecl.bench.conditions import VARYING
from edgecl.bench.latency import Timing
from edgecl.errors import ConfigError, EdgeclError
from edgecl.text import printable

FORMAT = 1  # of the JSON; another number for anything that a reader of this one would misread


@dataclass(frozen=True)
class Target:
    """What a figure is held against. of: its "ratio" or its "value".   at_most: else it is at least `bound`."""

    of: str
    bound: float
    at_most: bool = True


@dataclass(frozen=True)
class Figure:
    """One thing measured.

    name: its key, the same in every run.   value, unit: "ms" (then the median of `timing`), "bytes", "share" or "count".
    floor: what it is compared with in the same run, by turns.   ratio: median over median.   note: what belongs to it.
    """

    name: str
    value: float
    unit: str
    timing: Timing | None = None
    floor: Timing | None = None
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if self.target is None:
            return None
        found = self.ratio if self.target.of == "ratio" else self.value
        return found is not None and (found <= self.target.bound if self.target.at_most else found >= self.target.bound)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"met": self.met}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Figure:
        """The inverse of `to_dict`; keys it does not know raise TypeError."""
        values = {key: value for key, value in raw.items() if key != "met"}
        for key, kind in (("timing", Timing), ("floor", Timing), ("target", Target)):
            values[key] = kind(**values[key]) if values[key] is not None else None
        return cls(**values)


@dataclass(frozen=True)
class Report:
    """One run. rom: which.   settings: how much was measured.   notes: what was not, and why."""

    conditions: Mapping[str, Any]
    rom: Mapping[str, Any]
    settings: Mapping[str, Any]
    figures: Sequence[Figure]
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "format": FORMAT,
            "conditions": dict(self.conditions),
            "rom": dict(self.rom),
            "settings": dict(self.settings),
            "figures": [figure.to_dict() for figure in self.figures],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, raw: Any) -> Report:
        """The inverse of `to_dict`. Raises ConfigError for another format, or what is no report."""
        if not isinstance(raw, dict) or "format" not in raw:
            raise ConfigError("it is no report of edgecl bench")
        if raw["format"] != FORMAT:
            raise ConfigError(f"it has format {str(raw['format'])[:20]}, this edgecl compares {FORMAT}; measure again")
        try:
            figures = [Figure.from_dict(figure) for figure in raw["figures"]]
            return cls(raw["conditions"], raw["rom"], raw["settings"], figures, raw["notes"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"it is no report of edgecl bench: {type(error).__name__}: {str(error)[:200]}") from error


def load(path: Path) -> Report:
    """A saved report. Raises ConfigError, naming the file, when it cannot be compared with."""
    try:
        return Report.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{printable(path)} cannot be read: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error.__cause__


def save(report: Report, path: Path) -> None:
    """Write the JSON. Raises EdgeclError when that is not possible."""
    try:
        path.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise EdgeclError(f"the report cannot be written to {printable(path)}: {error.strerror}") from error


def markdown(report: Report, targets_only: bool = False) -> str:
    """The report for people: conditions in two lines, one table, notes. targets_only: only what is held against something."""
    c, figures = report.conditions, [f for f in report.figures if f.target or not targets_only]
    threads = c["threads"] or "the runtime's choice of"
    lines = [
        f"{c['cpu']}, {c['cores']} cores, {threads} threads, {c['runtime']} {c['provider']}, load {c['load']} at start",
        f"ROM {report.rom['rom_id'][:12]} ({report.rom['backbone']}), "
        + ", ".join(f"{name} {version}" for name, version in c["versions"].items())
        + f", Python {c['python']}, {c['date']}",
        "",
    ]
    if targets_only:
        lines += ["| what | target | measured | verdict |", "|---|---|---|---|"]
        lines += [f"| {f.name} | {_bound(f)} | {_measured(f)} | {_verdict(f)} |" for f in figures]
    else:
        lines += ["| what | p50 | p90 | p99 | per second | floor p50 | ratio | target | verdict |", "|---" * 9 + "|"]
        lines += [_row(figure) for figure in figures]
    remarks = [f"{figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*lines, *("" for _ in (remarks or report.notes)[:1]), *(f"- {x}" for x in (*remarks, *report.notes))])


def _row(f: Figure) -> str:
    t = f.timing
    cells = [_quantity(f.value, f.unit), *((_number(t.p90), _number(t.p99), _number(t.throughput)) if t else ("", "", ""))]
    cells += [_quantity(f.floor.p50, "ms") if f.floor else "", f"{f.ratio:.3f}" if f.ratio is not None else ""]
    return f"| {f.name} | {' | '.join(cells)} | {_bound(f)} | {_verdict(f)} |"


def _measured(f: Figure) -> str:
    times = f"{f.ratio:.3f} x ({_quantity(f.value, f.unit)}" if f.ratio is not None else ""
    return f"{times} against {_quantity(f.floor.p50, 'ms')})" if times and f.floor else _quantity(f.value, f.unit)


def _bound(f: Figure) -> str:
    if f.target is None:
        return ""
    bound = f"{f.target.bound:g} x" if f.target.of == "ratio" else _quantity(f.target.bound, f.unit)
    return f"{'<=' if f.target.at_most else '>='} {bound}"


def _verdict(f: Figure) -> str:
    return "" if f.met is None else "met" if f.met else "**missed**"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _quantity(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"
    if unit == "share":
        return f"{value:.2%}"
    return f"{_number(value)} ms" if unit == "ms" else f"{value:g}"


@dataclass(frozen=True)
class Change:
    """One figure in two runs. ratio: new over old value.   floors: the ratio to the floor, then and now, where there is one.

    With a floor, `floors` says more: it does not move with the machine's mood.
    """

    name: str
    old: float
    new: float
    unit: str
    ratio: float | None
    floors: tuple[float, float] | None


def compare(old: Report, new: Report) -> tuple[list[Change], list[str]]:
    """What changed in the figures that both runs have, and warnings about what makes them hard to compare."""
    before, after = {f.name: f for f in old.figures}, {f.name: f for f in new.figures}
    changes = []
    for name, figure in after.items():
        if name in before and before[name].unit == figure.unit:
            was = before[name]
            ratio = figure.value / was.value if was.value else None
            floors = (was.ratio, figure.ratio) if was.ratio is not None and figure.ratio is not None else None
            changes.append(Change(name, was.value, figure.value, figure.unit, ratio, floors))
    warnings = [
        f"{key} differs: {a} then, {b} now"
        for key in sorted({*old.conditions, *new.conditions} - set(VARYING))
        if (a := old.conditions.get(key)) != (b := new.conditions.get(key))
    ]
    if old.rom["rom_id"] != new.rom["rom_id"]:
        warnings.append(f"another ROM: {old.rom['rom_id'][:12]} then, {new.rom['rom_id'][:12]} now")
    missing = sorted(set(before) ^ set(after))
    return changes, warnings + ([f"only in one of the two: {', '.join(missing)}"] if missing else [])


def comparison(changes: Sequence[Change], warnings: Sequence[str]) -> str:
    """`compare` as a Markdown table with the warnings below it."""
    lines = ["| what | then | now | now / then | of the floor, then | now |", "|---|---|---|---|---|---|"]
    for c in changes:
        ratio = f"{c.ratio:.3f}" if c.ratio is not None else ""
        floors = f"{c.floors[0]:.3f} | {c.floors[1]:.3f}" if c.floors else " | "
        lines.append(f"| {c.name} | {_quantity(c.old, c.unit)} | {_quantity(c.new, c.unit)} | {ratio} | {floors} |")
    return "\n".join([*lines, *(f"\nwarning: {line}" for line in warnings)])
