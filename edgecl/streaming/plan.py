"""What is to be compared: learners with their settings, a scenario with its own, seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from edgecl import __version__, registry
from edgecl.errors import ConfigError
from edgecl.learners import making
from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios import making as scenarios
from edgecl.text import printable

TASKS = "tasks"  # a setting of every scenario, and of learners that make room for so many
SCENARIO = "scenario"  # the owner of the scenario's settings, beside the learners'
ALL = "all"  # the owner of settings of every learner that has them
LEARNER = "learner"  # in a table of settings: which learner it is, where the table's name is not one
_LARGEST_SEED = 2**31
_PACKAGES = ("numpy", "torch")  # that results depend on


@dataclass(frozen=True)
class Entry:
    """A learner with settings. label: its name in tables and plots; there may be several of one learner."""

    label: str
    learner: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        """All settings. Raises UnknownName, ConfigError, or MissingDependency."""
        return making.config(self.learner, self.options, self.label)


@dataclass(frozen=True)
class Plan:
    """A comparison before it is run.

    A seed draws the stream's order, where the scenario draws one, and all that a learner draws. batch, every: as for `run`.
    """

    entries: tuple[Entry, ...]
    scenario: str
    seeds: tuple[int, ...]
    batch: int = 1
    every: int | None = None
    scenario_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.entries]
        if not labels or not self.seeds:
            raise ConfigError("at least one learner and one seed are needed")
        if twice := [one for one in [*labels, *self.seeds] if [*labels, *self.seeds].count(one) > 1]:
            raise ConfigError(f"'{twice[0]}' stands there twice; each learner and each seed is run once")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < _LARGEST_SEED]:
            raise ConfigError(f"a seed lies between 0 and {_LARGEST_SEED - 1}, got {wrong[0]}")

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """The data in the scenario's order. Raises UnknownName, ConfigError or DataError."""
        return scenarios.make(self.scenario, dataset, seed, **self.scenario_options)

    def key(self, entry: Entry, seed: int, data: str) -> str:
        """What a run depends on, as a digest: two with the same key have the same result. data: a digest of the data."""
        options = {name: str(value) for name, value in self.scenario_options.items()}
        parts = {
            "learner": entry.learner,
            "config": making.told(entry.config),
            "seed": seed,
            "data": data,
            "scenario": self.scenario,
            "options": options,
            "batch": self.batch,
            "every": self.every,
            "versions": versions(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; every learner with all its settings."""
        entries = [{"label": e.label, "learner": e.learner, "config": making.told(e.config)} for e in self.entries]
        return {**vars(self), "entries": entries, "seeds": list(self.seeds), "scenario_options": dict(self.scenario_options)}


def planned(
    learners: Sequence[str],
    scenario: str,
    seeds: Sequence[int],
    *,
    settings: Sequence[tuple[str, str, Any]] = (),
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    tasks: int | None = None,
    batch: int = 1,
    every: int | None = None,
) -> Plan:
    """A plan from words: names of learners, or of tables that say by `learner` which one they are settings of.

    settings: (owner, name, value), over those of `tables`; the owner is one of the names, "scenario", or "all": every learner
    that has such a setting and is given no other.   tasks: only the first so many experiences, which is also told to learners
    that make room for that many.
    Raises UnknownName or ConfigError, also for settings of what is not run, or that none of `all` has.
    """
    options: dict[str, dict[str, Any]] = {owner: dict(table) for owner, table in (tables or {}).items()}
    for owner, name, value in settings:
        if owner not in (*learners, SCENARIO, ALL):
            known = ", ".join([*learners, SCENARIO, ALL])
            raise ConfigError(f"a setting is of '{printable(owner, 60)}', which is not run here; there are {known}")
        options.setdefault(owner, {})[name] = value
    common = options.pop(ALL, {})
    if tasks is not None:
        options.setdefault(SCENARIO, {})[TASKS] = tasks
    entries, taken = [], {TASKS}
    for label in learners:
        own = options.get(label, {})
        name = str(own.pop(LEARNER, label))
        if common or tasks is not None:
            has = making.takes(name)
            taken |= has & set(common)
            told = common if tasks is None else {**common, TASKS: tasks}
            own = {key: value for key, value in told.items() if key in has} | own
        entries.append(Entry(label, name, own))
    if left := [name for name in common if name not in taken]:
        raise ConfigError(f"none of the learners {', '.join(learners)} has a setting '{left[0]}'; leave it out")
    registry.check("scenario", registry.SCENARIOS, scenario)
    return Plan(tuple(entries), scenario, tuple(seeds), batch, every, options.get(SCENARIO, {}))


def versions() -> dict[str, str]:
    """Of edgecl and what its results depend on."""
    found = {"edgecl": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def data_digest(dataset: Dataset) -> str:
    """A digest of all samples; of inputs that are read when they are asked for, only of their labels and number."""
    digest = hashlib.sha256(json.dumps([dataset.name, dataset.classes, dataset.groups]).encode())
    for part in (dataset.train, dataset.val, dataset.test):
        for values in (part.y, part.group, part.x):
            digest.update(str(values.shape).encode())
            if isinstance(values, np.ndarray):
                digest.update(np.ascontiguousarray(values).data)
    for scenario, rows in sorted(dataset.published.items()):
        digest.update(scenario.encode() + np.ascontiguousarray(rows).data)
    return digest.hexdigest()
