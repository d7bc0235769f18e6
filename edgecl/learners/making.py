"""A learner by its registered name, and its settings held against what its `Config` declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_type_hints

from edgecl import registry
from edgecl.errors import ConfigError
from edgecl.learners.base import Learner
from edgecl.options import checked


def config(name: str, options: Mapping[str, Any], where: str = "") -> Any:
    """The `Config` of the learner `name` with these options, the others at their defaults.

    where: what messages call it; its name if nothing else.   Raises UnknownName, ConfigError, or MissingDependency.
    """
    module, fixed = _entry(name)
    where = where or name
    found = import_module(module).Config
    hints = get_type_hints(found)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(found) if field.init and field.name not in fixed}
    given = checked(fields, options, where)
    try:
        return found(**given, **fixed)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def told(settings: Any) -> dict[str, Any]:
    """A `Config` as plain values, without what no result depends on: fields whose metadata have `place`."""
    places = {field.name for field in dataclasses.fields(settings) if field.metadata.get("place")}
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in places}


def make(name: str, shape: tuple[int, ...], k: int, seed: int, settings: Any) -> Learner:
    """The learner, new. settings: its `Config`; the rest as for `Learner`."""
    registry.check("learner", registry.LEARNERS, name)
    learner: Learner = registry.load("learner", registry.LEARNERS, name)(shape, k, seed, settings)
    return learner


def _entry(name: str) -> tuple[str, Mapping[str, Any]]:
    registry.check("learner", registry.LEARNERS, name)
    return registry.LEARNERS[name].partition(":")[0], {}
