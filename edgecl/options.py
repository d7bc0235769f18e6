"""Settings as people write them: on a command line, where all is text, or in TOML; held against declared types."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from edgecl.errors import ConfigError
from edgecl.text import printable

_LARGEST = 1 << 20  # bytes of a file of settings
_NO = object()  # in place of a value that does not fit


class Text(str):
    """A value that came as text, to be read as the type that is wanted of it."""


def checked(hints: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values as their types want them: an int for a float, a list for a tuple, and whatever a `Text` says.

    hints: every setting there is, and its type (`typing.get_type_hints`).   where: whose settings they are, for messages.
    Raises ConfigError for a name that is none of them (with the nearest that is), and for a value of another type.
    """
    found = {}
    for name, value in given.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            listed = f"It takes {', '.join(sorted(hints))}" if hints else "It takes none"
            raise ConfigError(f"{where} has no setting '{printable(name, 60)}'{hint} {listed}")
        found[name] = _fitted(hints[name], value)
        if found[name] is _NO:
            kind = "" if isinstance(value, Text) else f"{type(value).__name__} "
            raise ConfigError(f"{where}: {name} must be {_words(hints[name])}, got {kind}{printable(repr(value), 60)}")
    return found


def assignment(text: str) -> tuple[str, str, Text]:
    """ "er.buffer=100" as ("er", "buffer", "100"). Raises ConfigError."""
    name, equals, said = text.partition("=")
    owner, dot, key = name.strip().rpartition(".")
    if not (equals and dot and owner and key):
        raise ConfigError(f"a setting is written LEARNER.NAME=VALUE, such as er.buffer=100; got '{printable(text, 80)}'")
    return owner, key, Text(said.strip())


def read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """A TOML file of tables, name -> settings. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ConfigError(f"{path} has more than {_LARGEST} bytes; it is no file of settings")
        found = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if loose := [key for key, table in found.items() if not isinstance(table, dict)]:
        raise ConfigError(f"{path}: '{printable(loose[0], 60)}' stands outside a table; put a line such as [er] before it")
    return found


def _fitted(hint: Any, value: Any) -> Any:
    """The value as a `hint`, or _NO."""
    origin, kinds = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return next((found for kind in kinds if (found := _fitted(kind, value)) is not _NO), _NO)
    if origin is Literal:
        return next((one for one in kinds if one == _fitted(type(one), value)), _NO)
    if origin is tuple and len(kinds) == 2 and kinds[1] is ...:
        parts = [Text(part.strip()) for part in value.split(",")] if isinstance(value, Text) else value
        fitted = tuple(_fitted(kinds[0], part) for part in parts) if isinstance(parts, list | tuple) else (_NO,)
        return _NO if _NO in fitted else fitted
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next((one for one in hint if one.value == _fitted(type(one.value), value)), _NO)
    if isinstance(value, Text) and hint is not str:
        value = _read(hint, value)
    if hint is NoneType:
        return None if value is None else _NO
    if hint is float and type(value) in (int, float):
        return float(value) if math.isfinite(value) else _NO
    if hint is str and isinstance(value, str):
        return str(value)
    return value if hint in (bool, int) and type(value) is hint else _NO


def _read(hint: Any, text: Text) -> Any:
    words = {"true": True, "false": False} if hint is bool else {"none": None} if hint is NoneType else {}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return hint(text) if hint in (int, float) else _NO
    except ValueError:
        return _NO


def _words(hint: Any) -> str:
    """A type for people."""
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(kind) for kind in kinds)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, kinds))
    if get_origin(hint) is tuple:
        return f"a list of {_words(kinds[0])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(str(one.value) for one in hint)
    return "none" if hint is NoneType else str(getattr(hint, "__name__", hint))
