"""The reproduction table: what holds, what is recorded, and that the page in docs is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecl import registry
from edgecl.errors import ConfigError, DataError, UnknownName
from edgecl.learners.figures import FIGURES
from edgecl.reproduce import records
from edgecl.reproduce.base import TASK, Cell, Claim, measured
from edgecl.reproduce.rows import ROWS, row
from edgecl.reproduce.running import run, settings_digest
from edgecl.streaming.plan import Entry

DOCS = Path(__file__).resolve().parents[3] / "docs"
CELL = Cell("MODES CDI", "ncm", {}, "modes", "cdi", Claim(0.5, "us", within=0.01), seeds=(1, 2))


def record(cell: Cell = CELL, *values: float) -> dict[str, Any]:
    return {"run": json.loads(json.dumps(cell.run)), "values": list(values), "bytes": 64.0}


def test_the_page_in_docs_is_that_of_the_records() -> None:
    assert (DOCS / records.PAGE).read_text(encoding="utf-8") == records.markdown(records.load(DOCS))


def test_no_record_in_docs_is_of_another_run_than_its_row_has_now() -> None:
    for id, found in records.load(DOCS).items():
        for cell in ROWS[id].cells:
            assert records.verdict(cell, found["cells"].get(cell.told)) != records.OPEN, f"run {id} again: {cell.told}"
            assert found["cells"][cell.told]["settings"] == settings_digest(cell), f"a default changed, run {id} again"


@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        (Claim(0.5, "us", within=0.01), (0.5, 0.491, 0.509), (0.489, 0.511)),
        (Claim(0.9, "us", "at least"), (0.9, 1.0), (0.8999,)),
        (Claim(0.9, "us", "at least", 0.01), (0.891,), (0.889,)),
        (Claim(0.4, "us", "below"), (0.0, 0.399), (0.4, 0.5)),
        (measured(0.5, 0.0, "us"), (0.5, 0.5049), (0.506,)),  # a deviation printed as .00
    ],
)
def test_what_holds(claim: Claim, holds: tuple[float, ...], fails: tuple[float, ...]) -> None:
    assert all(map(claim.holds, holds)) and not any(map(claim.holds, fails))


def test_nothing_is_verified_without_a_full_run_of_these_very_settings() -> None:
    assert records.verdict(CELL, None) == records.OPEN
    assert records.verdict(CELL, record(CELL, 0.5, 0.51)) == records.VERIFIED
    assert records.verdict(CELL, record(CELL, 0.5, 0.55)) == records.NOT
    assert records.verdict(CELL, record(CELL, 0.5)) == records.OPEN  # one seed of two
    for other in (replace(CELL, options={"space": "plain"}), replace(CELL, seeds=(1, 3)), replace(CELL, scenario="ci")):
        assert records.verdict(CELL, record(other, 0.5, 0.5)) == records.OPEN
    assert records.verdict(replace(CELL, claim=Claim(0.6, "us")), record(CELL, 0.5, 0.5)) == records.NOT
    assert records.verdict(replace(CELL, claim=None), record(CELL, 0.5, 0.5)) == records.REPORTED


def test_the_worst_seed_is_not_the_mean() -> None:
    for statistic, expected in (("mean", 0.5), ("lowest", 0.2), ("highest", 0.8)):
        assert records.figure(replace(CELL, statistic=statistic), [0.8, 0.2]) == pytest.approx(expected)


def test_every_row_can_be_run() -> None:
    """Names, settings and figures exist; cells of a row have names of their own."""
    for id, found in ROWS.items():
        assert id == found.id and len({cell.told for cell in found.cells}) == len(found.cells)
        for cell in found.cells:
            assert Entry(cell.name, cell.learner, cell.options).config
            assert cell.scenario in registry.SCENARIOS and cell.seeds
            assert cell.figure in FIGURES or cell.figure.startswith(TASK)
            assert bool(cell.data) != bool(found.needs)


def test_a_row_that_is_not_there_or_lacks_its_data_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'memory-head/modes-cdi'"):
        row("memory-head/mode-cdi")
    with pytest.raises(ConfigError, match="needs the folder of the 14 tasks"):
        run(row("features/14-tasks"), "")


def test_a_row_is_run_recorded_and_shown(tmp_path: Path) -> None:
    small = replace(row("memory-head/euclid-sgd"), cells=row("memory-head/euclid-sgd").cells[2:3])
    found = run(small, "edgecl reproduce x", clock=lambda: 86400.0 * 365)
    (cell,) = small.cells
    assert records.verdict(cell, found["cells"][cell.told]) == records.VERIFIED
    assert (found["date"], len(found["cells"][cell.told]["values"])) == ("1971-01-01", 3)
    records.save({"memory-head/euclid-sgd": found}, tmp_path)
    again = records.load(tmp_path)
    assert again == json.loads(json.dumps({"memory-head/euclid-sgd": found}))
    page = (tmp_path / records.PAGE).read_text()
    assert "1 verified" in page and "`edgecl reproduce x`, 1971-01-01" in page
    short = run(small, "", short=True)["cells"][cell.told]
    assert records.verdict(cell, short) == records.OPEN and records.shown(cell, short, True)[-1].endswith("(short)")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mlp/adam": 3}', '{"mlp/adam": {"cells": {}}}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / records.FILE).write_text(text)
    with pytest.raises(DataError, match="move it away"):
        records.load(tmp_path)
