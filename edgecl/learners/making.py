"""A learner by its registered name, and its settings held against what its `Config` declares."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from edgecl import registry
from edgecl.errors import ConfigError
from edgecl.learners.base import Learner
from edgecl.options import checked
from edgecl.text import printable


def config(name: str, options: Mapping[str, Any], where: str = "") -> Any:
    """The `Config` of the learner `name` with these options, the others at their defaults.

    where: what messages call it; its name if nothing else.   Raises UnknownName, ConfigError, or MissingDependency.
    """
    where = where or name
    found, fields = _declared(name)
    given = checked(fields, options, where)
    try:
        return found(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def takes(name: str) -> frozenset[str]:
    """The settings that the learner `name` has. Raises UnknownName or MissingDependency."""
    return frozenset(_declared(name)[1])


def _declared(name: str) -> tuple[Any, dict[str, Any]]:
    """Its `Config`, and the type of each setting."""
    registry.check("learner", registry.LEARNERS, name)
    found = import_module(registry.LEARNERS[name].partition(":")[0]).Config
    hints = get_type_hints(found)
    return found, {field.name: hints[field.name] for field in dataclasses.fields(found)}


def told(settings: Any) -> dict[str, Any]:
    """A `Config` as plain values, without what no result depends on: fields whose metadata have `place`.

    Of a field whose metadata have `file`, the digest of the file and not its name. Raises ConfigError.
    """
    found = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name not in places(settings):
            found[field.name] = digest(Path(value)) if value and field.metadata.get("file") else value
    return found


def places(settings: Any) -> frozenset[str]:
    """Of a `Config`, the fields that say where the learner keeps how far it is."""
    return frozenset(field.name for field in dataclasses.fields(settings) if field.metadata.get("place"))


def digest(path: Path) -> str:
    """SHA-256 of a file, hex. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{printable(path)} cannot be read: {error.strerror}; name a file that is there") from None


def make(name: str, shape: tuple[int, ...], k: int, seed: int, settings: Any = None) -> Learner:
    """The learner, new. settings: its `Config`, None: the defaults; the rest as for `Learner`."""
    method = registry.load("learner", registry.LEARNERS, name)
    learner: Learner = method(shape, k, seed, config(name, {}) if settings is None else settings)
    return learner
