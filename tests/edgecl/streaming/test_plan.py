"""Plans from words, and what makes two runs the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecl.errors import ConfigError, UnknownName
from edgecl.options import Text
from edgecl.streaming.plan import Entry, Plan, data_digest, planned
from edgecl.streams.datasets import modes, moons


def test_settings_over_tables_over_defaults() -> None:
    tables = {"slda": {"shrinkage": 0.5, "space": "plain"}, "stiff": {"learner": "slda", "shrinkage": 0.9}}
    plan = planned(["ncm", "slda", "stiff"], "cdi", [3], settings=[("slda", "shrinkage", 0.2)], tables=tables)
    assert [(entry.label, entry.learner) for entry in plan.entries] == [("ncm", "ncm"), ("slda", "slda"), ("stiff", "slda")]
    assert [entry.config.shrinkage for entry in plan.entries[1:]] == [0.2, 0.9]
    assert plan.entries[1].config.space == "plain"


def test_a_setting_of_all_goes_to_every_learner_and_yields_to_its_own() -> None:
    tables = {"stiff": {"learner": "slda", "shrinkage": 0.9}, "loose": {"learner": "slda"}}
    given = [("loose", "shrinkage", 0.2), ("all", "shrinkage", 0.3)]
    plan = planned(["slda", "stiff", "loose", "ncm"], "cdi", [3], settings=given, tables=tables)
    assert [entry.config.shrinkage for entry in plan.entries[:3]] == [0.3, 0.9, 0.2]


def test_settings_for_all_reach_the_learners_that_have_them() -> None:
    pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")
    tables = {"wide": {"learner": "cpg", "width": 2.0}}
    names = ["cpg", "wide", "ncm", "packnet"]
    common = [("all", "width", Text("0.25")), ("all", "net", Text("cnn"))]
    plan = planned(names, "class", [0], settings=common, tables=tables, tasks=3)
    assert [entry.config.width for entry in plan.entries if entry.label != "ncm"] == [0.25, 2.0, 0.25]
    assert {entry.config.net for entry in plan.entries if entry.label != "ncm"} == {"cnn"}
    assert [entry.config.tasks for entry in plan.entries if entry.label != "ncm"] == [3, 3, 3], "room for so many"
    assert plan.scenario_options == {"tasks": 3}
    own = planned(["cpg"], "class", [0], settings=[("cpg", "tasks", 20)], tasks=3)
    assert own.entries[0].config.tasks == 20
    with pytest.raises(ConfigError, match="none of the learners ncm has a setting 'net'"):
        planned(["ncm"], "class", [0], settings=[("all", "net", Text("cnn"))])


def test_the_scenario_has_settings_too() -> None:
    plan = planned(["ncm"], "class", [0], settings=[("scenario", "classes_per_task", "2"), ("scenario", "tasks", 1)])
    stream = plan.stream(modes.load(), 0)
    assert len(stream) == 1 and len(stream[0].classes) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"learners": ["nmc"]}, "did you mean 'ncm'"),
        ({"learners": ["ncm"], "settings": [("er", "buffer", 1)]}, "'er', which is not run here; there are ncm, scenario, all"),
        ({"learners": ["slda"], "settings": [("slda", "shrinkag", 1)]}, "slda has no setting 'shrinkag'; did you mean"),
        ({"learners": ["slda"], "settings": [("slda", "shrinkage", 7.0)]}, "slda: shrinkage"),
        ({"learners": ["ncm"], "settings": [("all", "shrinkage", 0.5)]}, "ncm has a setting 'shrinkage'"),
        ({"learners": ["ncm", "ncm"]}, "'ncm' stands there twice"),
        ({"learners": ["ncm"], "seeds": [1, 1]}, "'1' stands there twice"),
        ({"learners": ["ncm"], "seeds": [-1]}, "got -1"),
        ({"learners": []}, "at least one learner"),
        ({"learners": ["ncm"], "scenario": "cdj"}, "no scenario 'cdj'"),
    ],
)
def test_what_cannot_be_run_is_refused(words: dict[str, object], why: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=why):
        plan = planned(**{"scenario": "cdi", "seeds": [0], **words})  # type: ignore[arg-type]
        _ = [entry.config for entry in plan.entries]


def test_a_key_changes_with_whatever_a_result_depends_on() -> None:
    entry = Entry("slda", "slda")
    plan = Plan((entry,), "cdi", (0, 1))
    keys = {
        plan.key(entry, 0, "d"),
        plan.key(entry, 1, "d"),
        plan.key(entry, 0, "e"),
        plan.key(replace(entry, options={"shrinkage": 0.5}), 0, "d"),
        replace(plan, scenario="ci").key(entry, 0, "d"),
        replace(plan, batch=2).key(entry, 0, "d"),
        replace(plan, every=5).key(entry, 0, "d"),
        replace(plan, scenario_options={"tasks": 2}).key(entry, 0, "d"),
    }
    assert len(keys) == 8
    # A label, another seed beside it, and a default that is written out change nothing.
    assert replace(plan, seeds=(0,)).key(Entry("x", "slda", dict(entry.config.__dict__)), 0, "d") == plan.key(entry, 0, "d")


def test_a_digest_is_of_all_samples_and_their_order() -> None:
    one, again = modes.load(), modes.load()
    assert data_digest(one) == data_digest(again) != data_digest(moons.load())
    again.train.x[-1, 0] += 1e-9
    assert data_digest(one) != data_digest(again)
    assert data_digest(one) != data_digest(replace(one, published={}))
