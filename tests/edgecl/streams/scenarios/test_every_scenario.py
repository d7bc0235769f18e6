"""Each registered scenario x each check that fits it, on small data sets of domains and of tasks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from edgecl import registry
from edgecl.checks import streams
from edgecl.errors import ConfigError, DataError, UnknownName
from edgecl.streams.scenarios.making import make, scenario_names, scenario_options

REPEAT = ("permuted", "rotated")  # all samples in each experience
CHANGE = (*REPEAT, "drift")
ONLY = {"domain": ("domains",), "superclass": ("tasks",)}  # those that one kind of data set does not fit
OPTIONS = {
    "iid": ({}, {"shuffle": False}),
    "class": ({}, {"order": "class"}, {"classes_per_task": 4}),
    "superclass": ({}, {"order": "drawn"}),
    "blurry": ({}, {"share": 0.4}),
    "drift": ({"steps": 3}, {"steps": 2, "strength": 0.0}),
}
CASES = [
    (name, data, options)
    for name in registry.SCENARIOS
    for data in ONLY.get(name, ("domains", "tasks"))
    for options in OPTIONS.get(name, ({},))
]


def ids(value: object) -> str:
    return getattr(value, "__name__", None) or str(value)


@pytest.mark.parametrize(
    ("name", "data", "options", "check"),
    [(*case, check) for case in CASES for check in streams.CHECKS]
    + [(*case, check) for case in CASES if case[0] not in REPEAT for check in streams.ONCE]
    + [(*case, check) for case in CASES if case[0] not in CHANGE for check in streams.UNCHANGED],
    ids=ids,
)
def test_scenario(name: str, data: str, options: dict, check: streams.Check) -> None:
    check(partial(make, name, **options), getattr(streams, data)())


def test_every_check_is_listed() -> None:
    listed = streams.CHECKS + streams.ONCE + streams.UNCHANGED
    assert {name for name in vars(streams) if name.startswith("check_")} == {check.__name__ for check in listed}


@pytest.mark.parametrize("name", registry.SCENARIOS)
def test_what_it_was_made_with_is_on_record_and_makes_it_again(name: str) -> None:
    data = getattr(streams, ONLY.get(name, ("tasks",))[0])()
    stream = make(name, data, 7)
    assert stream.scenario == name and stream.name == data.name
    assert set(stream.made) == {"seed", *scenario_options(name)}
    options = {key: str(value) for key, value in stream.made.items() if key != "seed"}  # as from a command line
    again = make(name, data, stream.made["seed"], **options)
    assert [e.train.x.tobytes() for e in again] == [e.train.x.tobytes() for e in stream]


def test_tasks_takes_the_first() -> None:
    whole, part = (make("ci", streams.tasks(), tasks=n) for n in (0, 2))
    assert [e.name for e in part] == [e.name for e in whole][:2]
    for wrong in (7, -1):
        with pytest.raises(ConfigError, match="tasks"):
            make("ci", streams.tasks(), tasks=wrong)


def test_wrong_words_are_answered_with_the_right_ones() -> None:
    data = streams.tasks()
    with pytest.raises(UnknownName, match="did you mean 'classes_per_task'"):
        make("class", data, classes_pertask=2)
    with pytest.raises(UnknownName, match="did you mean 'cdi'"):
        make("cdii", data)
    with pytest.raises(ConfigError, match="must be int, got 'two'"):
        make("class", data, classes_per_task="two")
    with pytest.raises(ConfigError, match="must be bool"):
        make("iid", data, shuffle=3)
    with pytest.raises(ConfigError, match="classes_per_task must lie between"):
        make("class", data, classes_per_task=7)
    with pytest.raises(ConfigError, match="shuffled or class"):
        make("class", data, order="alphabetical")
    with pytest.raises(ConfigError, match="share"):
        make("blurry", data, share=0.6)
    with pytest.raises(ConfigError, match="degrees must be a finite number"):
        make("rotated", data, degrees="inf")
    with pytest.raises(ConfigError, match="has 1 to 56 steps"):
        make("drift", data, steps=10**12)
    for name in REPEAT:
        with pytest.raises(ConfigError, match="domains must lie between"):
            make(name, streams.domains(), domains=10**9)
    with pytest.raises(ConfigError, match="seed"):
        make("iid", data, -1)


def test_a_data_set_that_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(DataError, match="use the scenario class or task"):
        make("domain", streams.tasks())
    with pytest.raises(DataError, match="use the scenario task"):
        make("superclass", streams.domains())
    with pytest.raises(DataError, match="only pictures have a brightness"):
        make("drift", streams.tasks(), kind="brightness")
    unasked = replace(streams.tasks(), test=streams.tasks().test[:0])
    with pytest.raises(DataError, match="has no test sample"):
        make("ci", unasked)


def test_listing_the_names_loads_none() -> None:
    program = (
        "import sys; from edgecl.streams.scenarios.making import scenario_names; print(len(scenario_names()) > 5, "
        "[m for m in sys.modules if m.startswith('edgecl.streams.scenarios.') and not m.endswith('making')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split(maxsplit=1) == ["True", "[]\n"], done.stdout + done.stderr
    assert scenario_names() == tuple(registry.SCENARIOS)
