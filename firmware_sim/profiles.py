"""What boards are like: the numbers of `boards.toml`, and boards of a user's own over one of them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from edgecl import registry
from edgecl.errors import ConfigError


@dataclass(frozen=True)
class Profile:
    """One kind of board. Where a number is from: `origins`."""

    name: str
    ram_mb: float
    os_ram_mb: float  # of it, what the system keeps
    cores: float
    cpu_mips: float  # of one core, by 7-zip; measured costs are scaled by it
    pictures_s: float  # pictures a second through the default ROM, on the runtime that the board would use
    storage: str  # microSD, eMMC, NVMe, disk
    flash_gb: float
    bank_mb: float  # of it, what the bank may fill
    write_mb_s: float  # sustained, when new
    worn_speed: float  # the share of it that is left at the end of life
    sync_ms: float  # of making a write last
    endurance_tb: float  # bytes that the cells take, in 10^12
    write_amplification: float  # bytes to the cells for each byte written
    link_mbit_s: float  # as programs see it
    idle_w: float
    busy_w: float
    radio_w: float  # above idle, while it sends or receives
    brown_out: float  # chance that the supply gives in when work begins
    battery_wh: float  # 0: mains
    charge_w: float  # into the battery, at all times
    boot_s: float  # from power to a program that runs
    restart_s: float  # off after a brown-out, before it boots

    @property
    def bank_bytes(self) -> float:
        """The budget of the bank, in bytes."""
        return self.bank_mb * 2**20


NUMBERS = tuple(field.name for field in fields(Profile) if field.name not in ("name", "storage"))
KEYS = (*NUMBERS, "storage")
_LIMITS = {"ram_mb", "bank_mb", "flash_gb", "write_mb_s", "endurance_tb", "link_mbit_s"}  # may be infinite: none
_ABOVE_ZERO = {*_LIMITS, "cores", "cpu_mips", "pictures_s", "worn_speed"}  # something is divided by them
_SHARES = {"worn_speed", "brown_out"}


@cache
def tables() -> Mapping[str, Any]:
    """`boards.toml` as it stands: sources, defaults, and a table for each board."""
    return MappingProxyType(tomllib.loads((files("firmware_sim") / "boards.toml").read_text(encoding="utf-8")))


def names() -> tuple[str, ...]:
    """The boards that are known, in the file's order."""
    return tuple(name for name in tables() if name not in ("sources", "defaults"))


@cache
def profile(name: str) -> Profile:
    """The board of that name. Raises UnknownName, with the nearest known one."""
    registry.check("board", names(), name)
    entries = {**tables()["defaults"], **tables()[name]}
    return _profile(name, {key: entry["value"] for key, entry in entries.items()})


def profile_from(name: str, table: Mapping[str, Any]) -> Profile:
    """A user's board: the table [own_boards.NAME] of a scenario, `base` and what differs from it.

    Raises UnknownName for a base or a key that there is not, with the nearest known one, and ConfigError for a value out of
    range.
    """
    values = dict(table)
    if "base" not in values or not isinstance(values["base"], str):
        raise ConfigError(
            f"board '{name}' needs the board it is like, such as base = \"raspberry-pi-4\"; known: {', '.join(names())}"
        )
    base = profile(values.pop("base"))
    for key in values:
        registry.check(f"key of board '{name}'", KEYS, key)
    return _profile(name, {**{key: getattr(base, key) for key in KEYS}, **values})


def origins(name: str) -> dict[str, tuple[str, str]]:
    """Key -> ("source", title and address) or ("assumption", why), of the board's every value. Raises UnknownName."""
    registry.check("board", names(), name)
    entries = {**tables()["defaults"], **tables()[name]}
    sources = tables()["sources"]
    return {
        key: ("source", sources[entry["source"]]) if "source" in entry else ("assumption", entry["assumption"])
        for key, entry in sorted(entries.items())
    }


def _profile(name: str, values: Mapping[str, Any]) -> Profile:
    for key in NUMBERS:
        value = values[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"board '{name}': {key} must be a number, got {value!r}")
        if not value >= 0 or (value == 0 and key in _ABOVE_ZERO) or (key in _SHARES and value > 1):
            wanted = "from 0 to 1" if key in _SHARES else "above 0" if key in _ABOVE_ZERO else "0 or more"
            raise ConfigError(f"board '{name}': {key} must be {wanted}, got {value}")
        if math.isinf(value) and key not in _LIMITS:
            raise ConfigError(f"board '{name}': {key} must be finite; without a limit can be {', '.join(sorted(_LIMITS))}")
    if not isinstance(values["storage"], str):
        raise ConfigError(f"board '{name}': storage must be a word such as \"microSD\", got {values['storage']!r}")
    return Profile(name=name, storage=values["storage"], **{key: float(values[key]) for key in NUMBERS})
