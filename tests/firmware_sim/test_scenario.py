"""Scenarios: what cannot be meant is refused with what is known; what is meant survives the way to another process."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgecl.errors import ConfigError, UnknownName
from firmware_sim.scenario import BUILT_IN, described, from_dict, load, names


@pytest.mark.parametrize("name", names())
def test_every_built_in_scenario_loads_and_says_what_it_is(name: str) -> None:
    found = load(name, tasks={"folder": "somewhere"})
    assert found.name == name and len(described()[name]) > 20
    again = from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found


def test_infinity_survives_json(tmp_path: Path) -> None:
    found = load("mesh", tasks={"folder": "x"})
    assert found.faults.until_s == math.inf and from_dict(json.loads(json.dumps(found.to_dict()))).faults.until_s == math.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agent = 3", "did you mean 'agents'"),
        ("agents = 0", "between 2 and"),
        ('agents = 5000\n[network]\ntopology = "mesh"', "for the topology mesh"),
        ('boards = { jetson-nano = "ten" }', "jetson-nano must be int"),
        ("own_boards = { x = 5 }", "x must be a table"),
        ('[[orders]]\nwho = "agent-000"\nat = "agent-001"', "at_s is not said"),
        ('[[orders]]\nat_s = 1\nwho = "agent-000"\nat = "agent-001"\nspread = false', "did you mean 'spreads'"),
        ('[[orders]]\nat_s = nan\nwho = "a"\nat = "b"', "must be a number"),
        ("[network]\npartitions = [{ from_s = 1, until_s = 2, groups = 5 }]", "groups must be a list"),
        ("[network]\npartitions = [{ from_s = 1, until_s = 2, groups = [[0.5]] }]", "groups must be int"),
        ("[network]\nlatency_ms = inf", "latency_ms must lie"),
        ("[foes]\ncount = -1", "count must lie"),
        ("[foes]\nperiod_s = 0", "period_s must lie"),
        ("[foes]\npoisoned = 99", "poisoned must lie"),
        ("seed = 99999999999999999999999999", "smaller number"),
        ("agents = true", "agents must be int"),
        ('agents = "3"', "agents must be int"),
        ("[network]\nlos = 0.1", "did you mean 'loss'"),
        ("[network]\nloss = 0.95", "loss must lie"),
        ("[network]\nlatency_ms = 0", "latency_ms"),
        ('[network]\ntopology = "rings"', "did you mean 'ring'"),
        ("[network]\nawake_s = 70\nduty_s = 60", "awake_s must lie"),
        ("network = 3", "must be a table"),
        ("[faults]\npower_cuts_per_hour = -1", "power_cuts_per_hour must lie"),
        ("[faults]\npower_cuts_per_hour = nan", "must be a number"),
        ('[foes]\nattacks = "all"', "must be a list"),
        ("seed = -1", "seed must lie"),
        ("until_s = inf", "until_s must lie"),
        ("agents = ", "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text if text.startswith("[tasks]") else f"{text}\n")
    with pytest.raises(ConfigError, match=words.replace("(", "\\(")):
        load(str(path), tasks={"folder": "x"})


def test_a_fleet_needs_something_to_learn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="something to learn"):
        load("ring")
    assert load("ring", tasks={"source": "synthetic"}).tasks.source == "synthetic"


def test_unknown_scenarios_are_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownName, match="did you mean 'ring'"):
        load("rnig")
    with pytest.raises(ConfigError, match="cannot be read"):
        load("nowhere.toml")


def test_changes_go_before_the_file_and_none_is_no_change() -> None:
    found = load("ring", agents=7, seed=None, tasks={"folder": "x", "method": None})
    assert found.agents == 7 and found.seed == 0 and found.tasks.method == "linear"
    assert (BUILT_IN / "ring.toml").exists()


def test_the_files_that_come_with_it_are_packed() -> None:
    """A folder without modules is left out of a wheel unless it is named."""
    import tomllib

    root = BUILT_IN.parents[1]
    if not (root / "pyproject.toml").exists():
        pytest.skip("edgecl is installed without its sources")
    packed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["firmware_sim"]
    here = {path for pattern in packed for path in (root / "firmware_sim").glob(pattern)}
    assert here == set((root / "firmware_sim").rglob("*.toml")) and len(here) > 5
