"""A scenario by its name, with options that may be words from a command line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edgecl import registry
from edgecl.errors import ConfigError
from edgecl.streams.base import Dataset, Stream
from edgecl.text import printable

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def scenario_names() -> tuple[str, ...]:
    """The scenarios there are. Loads none of them."""
    return tuple(registry.SCENARIOS)


def scenario_options(name: str) -> Mapping[str, Any]:
    """What a scenario can be told besides the seed, with the value that each has when nobody says anything."""
    parameters = inspect.signature(registry.load("scenario", registry.SCENARIOS, name)).parameters
    own = {key: p.default for key, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return MappingProxyType({**own, "tasks": 0})


def make(name: str, dataset: Dataset, seed: int = 0, **options: Any) -> Stream:
    """The stream of `dataset` in scenario `name`. What it was made with is in `Stream.made`.

    options: of the scenario; values may be strings.   tasks: only the first so many experiences; 0: all.
    Raises UnknownName for a scenario or an option that does not exist, ConfigError for a value out of range, DataError where
    the data set does not fit.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"the seed of a stream must lie between 0 and 2^32 - 1, got {seed}")
    known = scenario_options(name)
    chosen = dict(known)
    for key, value in options.items():
        registry.check(f"option of the scenario {name}", known, key)
        chosen[key] = _typed(f"{name}: {key}", value, known[key])
    tasks = chosen.pop("tasks")
    if tasks < 0:
        raise ConfigError(f"{name}: tasks must be 1 or more, or 0 for all, got {tasks}")
    stream: Stream = registry.load("scenario", registry.SCENARIOS, name)(dataset, seed, **chosen)
    if tasks > len(stream):
        raise ConfigError(f"{name}: tasks={tasks}, but {dataset.name} makes {len(stream)} experiences; ask for so many at most")
    made = MappingProxyType({"seed": seed, **chosen, "tasks": tasks})
    return replace(stream[:tasks] if tasks else stream, made=made)


def _typed(where: str, value: Any, default: Any) -> Any:
    """`value` as what `default` is: bool, int, float or str."""
    wanted = type(default)
    try:
        if wanted is bool and isinstance(value, str):
            value = _WORDS[value.casefold()]
        elif isinstance(value, str):
            value = wanted(value)
    except (KeyError, ValueError):
        raise ConfigError(f"{where} must be {wanted.__name__}, got '{printable(value, 60)}'") from None
    fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{where} must be {wanted.__name__}, got {type(value).__name__} {printable(repr(value), 60)}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value}")
    return wanted(value)
