"""Comparisons: the same runs however they are made, kept as they are done, and ranked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import EdgeclError
from edgecl.options import Text, assignment
from edgecl.streaming.comparing import Comparison, compare
from edgecl.streaming.plan import planned
from edgecl.streaming.record import RUNS, Run, run_of
from edgecl.streaming.report import markdown, rows, verdict, write
from edgecl.streams.base import Dataset
from edgecl.streams.datasets import modes

LEARNERS = ["ncm", "memory_head"]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return modes.load()


@pytest.fixture(scope="module")
def result(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    settings = [("memory_head", "m", Text("12")), ("scenario", "tasks", Text("8"))]  # as a command line has them
    plan = planned(LEARNERS, "cdi", [0, 1], every=50, settings=settings)
    return compare(plan, dataset, folder=tmp_path_factory.mktemp("kept"))


def told(run: Run) -> object:
    """What a run says, but for what it took."""
    return {name: value for name, value in run.to_dict().items() if name not in ("seconds", "peak_memory")}


def test_several_processes_give_the_same_runs(result: Comparison, dataset: Dataset) -> None:
    apart = compare(result.plan, dataset, workers=2)
    for label in LEARNERS:
        assert list(map(told, apart.runs[label])) == list(map(told, result.runs[label]))


def test_an_interrupted_comparison_goes_on(result: Comparison, dataset: Dataset, tmp_path: Path) -> None:
    first = compare(replace(result.plan, seeds=(0,)), dataset, folder=tmp_path)
    lines = (tmp_path / RUNS).read_text().splitlines()
    assert len(lines) == 2 and first.conditions["runs_kept_from_before"] == 0
    # The second line broke off, as when the power goes, and somebody has put in lines that are none.
    (tmp_path / RUNS).write_text("\n".join(["[]", "null", '{"key": 1}', lines[0], lines[1][: len(lines[1]) // 2]]))
    on = compare(result.plan, dataset, folder=tmp_path)
    assert on.conditions["runs_kept_from_before"] == 1
    assert [told(run) for run in on.runs["ncm"]] == [told(run) for run in result.runs["ncm"]]
    assert compare(result.plan, dataset, folder=tmp_path).conditions["runs_kept_from_before"] == 4


def test_a_figure_that_a_run_kept_from_before_lacks_is_not_told(result: Comparison) -> None:
    (first, second), other = result.runs["ncm"], result.runs["memory_head"]
    nan = np.full(len(first.result.top5), np.nan)
    tops = ((first, nan), (second, np.ones(len(nan))))
    lacks, has = (replace(run, result=replace(run.result, top5=top)) for run, top in tops)
    for runs in ((lacks, has), (has, lacks)):
        figures = replace(result, runs={"ncm": runs, "memory_head": other}).figures["ncm"]
        assert "top5" not in figures and "accuracy" in figures


@pytest.mark.parametrize("workers", [1, 2])
def test_a_learner_that_is_long_at_one_experience_keeps_its_states_beside_the_runs(tmp_path: Path, workers: int) -> None:
    """For each run in a folder of its own, so that other data there are no damage."""
    pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")
    own = tmp_path / "mine"
    settings = [assignment(f"{name}.scale=0.01") for name in ("packnet", "independent")]
    settings.append(assignment(f"independent.states={own}"))
    data, folder = modes.load(), tmp_path / "out"
    for scenario in ("class", "domain"):
        plan = planned(["packnet", "independent"], scenario, [0], settings=settings, tasks=1)
        compare(plan, data, folder=folder, workers=workers)
        settings = settings[:2]
    states = list(folder.rglob("001-own.safetensors"))
    assert len({path.parent.parent for path in states}) == 3 and all(path.is_relative_to(folder / "states") for path in states)
    assert len(list(own.rglob("001-own.safetensors"))) == 1, "where the user says"


def test_a_run_survives_its_line(result: Comparison) -> None:
    run = result.runs["memory_head"][0]
    again = run_of(json.loads(json.dumps(run.to_dict(), allow_nan=False)))
    for name in ("accuracy", "val", "top5", "untrained", "test_counts", "train_counts", "bytes_held"):
        assert np.array_equal(getattr(again.result, name), getattr(run.result, name), equal_nan=True)
    assert (again.result.curve, again.experiences, again.seed) == (run.result.curve, run.experiences, 0)
    assert run.regions is not None and again.regions is not None
    assert np.array_equal(again.regions.labels, run.regions.labels)


@pytest.mark.parametrize("broken", ["accuracy", "curve", "seconds", "train_counts", "regions", "experiences"])
def test_a_line_that_is_no_run_is_refused(result: Comparison, broken: str) -> None:
    values = result.runs["ncm"][0].to_dict()
    for wrong in ([[1.0]], None if broken != "regions" else {"low": [0, 0], "high": [1, 1], "labels": "AAAA"}, "x"):
        with pytest.raises((ValueError, TypeError, KeyError)):
            run_of({**values, broken: wrong})


def test_only_the_first_seed_maps_the_plane(result: Comparison, dataset: Dataset) -> None:
    assert [run.regions is not None for run in result.runs["ncm"]] == [True, False]
    regions = result.runs["ncm"][0].regions
    assert regions is not None
    # A point between the grid's corners, by the nearest class mean written out.
    at = (40, 150)
    low, high = np.array(regions.low), np.array(regions.high)
    point = low + (high - low) * np.array([at[1], at[0]]) / (len(regions.labels) - 1)
    means = np.stack([dataset.train.x[dataset.train.y == c].mean(0) for c in range(4)])
    assert regions.labels[at] == ((means - point) ** 2).sum(1).argmin()


def test_figures_ranking_and_lead(result: Comparison) -> None:
    ends = {label: [run.result.accuracy[-1].mean() for run in result.runs[label]] for label in LEARNERS}
    assert result.figures["ncm"]["accuracy"].mean == pytest.approx(np.mean(ends["ncm"]))
    assert result.ranking == ["memory_head", "ncm"]
    ahead = result.lead("memory_head", "ncm")
    assert ahead.mean == pytest.approx(np.mean(ends["memory_head"]) - np.mean(ends["ncm"])) and ahead.n == 2
    assert verdict(result).startswith("memory_head is best, with ")


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_equals_none_is_best(result: Comparison, seeds: int) -> None:
    same = replace(result, runs=dict.fromkeys(("one", "other"), result.runs["ncm"][:seeds]))
    assert verdict(same).startswith("one and other are level, with ")


def test_the_report_has_every_learner_setting_and_picture(result: Comparison, dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = write(result, dataset, tmp_path / "out")
    assert [f.name for f in files[2:]] == ["summary.png", "curves.png", "matrices.png", "regions.png"]
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in files[2:])
    text = files[0].read_text()
    assert all(f"]({f.name})" in text for f in files[2:])
    assert '"m": 12' in text and verdict(result) in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][1:] == ["| memory_head", "| ncm"]
    saved = json.loads(files[1].read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert saved["figures"]["ncm"]["accuracy"]["mean"] == result.figures["ncm"]["accuracy"].mean
    assert saved["plan"]["entries"][1]["config"]["m"] == 12 and saved["ranking"] == result.ranking


def test_names_from_elsewhere_do_not_reach_the_terminal_as_they_are(result: Comparison) -> None:
    foul = replace(result, data="x\x1b[2J", runs={"a\nb": result.runs["ncm"]})
    assert rows(foul)[0][0] == "a\\nb" and "\x1b" not in markdown(foul, [])


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(result: Comparison, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeclError, match="cannot be"):
        compare(result.plan, dataset, folder=tmp_path / "file")
    with pytest.raises(EdgeclError, match="cannot be written"):
        write(result, dataset, tmp_path / "file")
