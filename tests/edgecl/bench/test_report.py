"""The report as JSON and back, its schema, its tables, and two runs compared."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecl.bench import conditions as conditions_module
from edgecl.bench.conditions import conditions
from edgecl.bench.latency import Timing
from edgecl.bench.report import FORMAT, Figure, Report, Target, compare, comparison, load, markdown, save
from edgecl.errors import ConfigError

Valid = Callable[[Any], None]


def timing(p50: float) -> Timing:
    return Timing(p50, p50 * 1.2, p50 * 2, 1e3 / p50, 100)


def report(infer: float = 11.0, floor: float = 10.0, size: float = 1000, **state: Any) -> Report:
    figures = [
        Figure("infer", infer, "ms", timing(infer), timing(floor), infer / floor, Target("ratio", 1.2), "a note"),
        Figure("agreement", 0.99, "share", target=Target("value", 0.995, at_most=False)),
        Figure("bytes", size, "bytes"),
    ]
    rom = {"rom_id": "ab" * 32, "backbone": "net", "features": 8, "size": 32, "precision": "fp32", "bytes": 5}
    at = conditions("onnxruntime", "CPUExecutionProvider", 0, clock=lambda: 86400.0)
    return Report({**at, **state}, rom, {"tasks": 3}, figures, ("not measured: x",))


def test_report_survives_json_and_fits_the_schema(tmp_path: Path, valid: Valid):
    made = report()
    save(made, tmp_path / "r.json")
    raw = json.loads((tmp_path / "r.json").read_text())
    assert raw["format"] == FORMAT
    valid(raw)
    assert load(tmp_path / "r.json").to_dict() == made.to_dict()


def test_the_check_of_the_schema_can_fail(valid: Valid):
    raw = json.loads(json.dumps(report().to_dict()))
    raw["figures"][0]["unit"] = "parsec"
    with pytest.raises(AssertionError):
        valid(raw)


def test_verdicts_follow_the_targets():
    infer, agreement, size = report().figures
    assert (infer.met, agreement.met, size.met) == (True, False, None)
    assert dataclasses.replace(infer, ratio=1.21).met is False
    assert dataclasses.replace(infer, ratio=None).met is False  # a target nothing was measured for is not met


def test_markdown_shows_figures_targets_and_notes():
    text = markdown(report())
    assert "| infer | 11 ms | 13.2 | 22 | 90.9 | 10 ms | 1.100 | <= 1.2 x | met |" in text
    assert "- infer: a note" in text
    assert "- not measured: x" in text
    short = markdown(report(), targets_only=True)
    assert "| infer | <= 1.2 x | 1.100 x (11 ms against 10 ms) | met |" in short
    assert "| agreement | >= 99.50% | 99.00% | **missed** |" in short
    assert "| bytes" not in short


def test_comparison_gives_the_ratio_of_each_figure():
    changes, warnings = compare(report(infer=10, floor=10, size=0), report(infer=15, floor=12))
    assert [(c.name, c.ratio) for c in changes] == [("infer", 1.5), ("agreement", 1.0), ("bytes", None)]
    assert changes[0].floors == pytest.approx((1.0, 1.25))
    assert warnings == []
    assert "| infer | 10 ms | 15 ms | 1.500 | 1.000 | 1.250 |" in comparison(changes, warnings)


def test_comparison_warns_of_other_conditions_and_missing_figures():
    old, new = report(cpu="a small one"), report(date="later", load=9.0)
    new = dataclasses.replace(new, figures=new.figures[:2])
    _, warnings = compare(old, new)
    assert any(line.startswith("cpu differs: a small one then") for line in warnings)
    assert "only in one of the two: bytes" in warnings
    assert len(warnings) == 2  # date and load may differ


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 2}', "has format 2"),
        ("[]", "no report"),
        ('{"format": 1}', "no report"),
        ("{", "cannot be read"),
        ('{"format": 1, "conditions": {}, "rom": {}, "settings": {}, "figures": [{"name": 1}], "notes": []}', "no report"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, text: str, said: str):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        load(tmp_path / "old.json")
    assert "old.json" in str(raised.value)


def test_conditions_are_all_there(valid: Valid):
    at = conditions("onnxruntime", "CPUExecutionProvider", 3, clock=lambda: 86400.0)
    valid(report(**at).to_dict())
    assert at["date"] == "1970-01-02T00:00:00Z"
    assert at["threads"] == 3
    assert at["versions"]["numpy"]
    assert at["cpu"]


def test_power_mode_of_a_jetson_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN'\necho 0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert conditions_module._power_mode() == "NV Power Mode: MAXN 0"
