"""What the fields of a method's `Config` are held against; each raises ConfigError naming field, value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from edgecl.errors import ConfigError
from edgecl.text import printable


def whole(name: str, value: Any, least: int = 0) -> None:
    """A whole number, not below `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {printable(repr(value), 60)}")


def real(name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """A finite number from `low` to `high`; `above`: greater than `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low):
        bounds = f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
        raise ConfigError(f"{name} must be a finite number {bounds}, got {printable(repr(value), 60)}")


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    """One of the words in `known`."""
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{name} must be {' or '.join(known)}, got {printable(repr(value), 60)}")


def flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {printable(repr(value), 60)}")
