"""Settings of a device: where things lie and which runtime and mapper serve. TOML in, a frozen dataclass out."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import platformdirs

from edgecl import registry
from edgecl.errors import ConfigError

_MAX_THREADS = 256  # the runtime starts as many as it is told; 100,000 keep it busy for minutes


@dataclass(frozen=True)
class DeviceConfig:
    """What one device is set to. Every field can stand in `config.toml`, and most have a command-line flag."""

    data_root: str = ""  # where `learn --task birds` looks for birds/ after the working directory
    rom: str = ""  # path of a ROM image; empty: the default ROM in the home
    runtime: str = "onnxruntime"
    device: str = "cpu"  # cpu or cuda; where it is not set, a runtime that knows only cuda takes that
    mapper: str = "mahalanobis"
    false_reject: float = 0.05  # share of a task's own pictures that may be called "unknown"
    class_false_reject: float = 0.02  # the same for "unknown class", of the pictures whose task was known
    threads: int = 0  # of the runtime; 0: its own choice
    feature_cache_mb: int = 512  # bound of the feature cache on disk; 0: no cache
    heads_mb: int = 1024  # bound of all bundles in the bank, history included, when one comes from elsewhere; 0: none
    collision_limit: float = 0.1  # share of a known task's pictures that a head from elsewhere may take; 1: any
    session_cache_mb: int = 512  # bound of what is kept in memory for heads that act inside the ROM; one always fits


def home(override: str | Path | None = None) -> Path:
    """The folder a device lives in: `override`, else $EDGECL_HOME, else the platform's place for user data."""
    chosen = override or os.environ.get("EDGECL_HOME") or platformdirs.user_data_dir("edgecl", appauthor=False)
    return Path(chosen).expanduser()


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> DeviceConfig:
    """`folder/config.toml` over the defaults, `overrides` (None values dropped) over both.

    Raises ConfigError for an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    path = folder / "config.toml"
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    return _checked(DeviceConfig, values, str(path))


def _checked(cls: type[DeviceConfig], values: Mapping[str, Any], where: str) -> DeviceConfig:
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f". Known: {', '.join(hints)}"
            raise ConfigError(f"{where}: unknown key '{key}'{hint}")
        wanted = hints[key]
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise ConfigError(f"{where}: {key} must be {wanted.__name__}, got {type(value).__name__} {value!r}")
    config = cls(**values)
    if config.runtime in registry.CUDA_ONLY:
        if values.get("device", "cuda") != "cuda":
            raise ConfigError(
                f"{where}: the runtime {config.runtime} runs on cuda only, but device is set to {config.device}; leave device "
                f"out, or use the runtime onnxruntime"
            )
        config = dataclasses.replace(config, device="cuda")
    for key in ("false_reject", "class_false_reject"):
        if not 0 < getattr(config, key) < 0.5:
            raise ConfigError(f"{where}: {key} must lie between 0 and 0.5, got {getattr(config, key)}")
    if not 0 <= config.collision_limit <= 1:
        raise ConfigError(f"{where}: collision_limit must lie between 0 and 1, got {config.collision_limit}")
    registry.check("runtime", registry.RUNTIMES, config.runtime)
    registry.check("mapper", registry.MAPPERS, config.mapper)
    if config.device not in ("cpu", "cuda"):
        raise ConfigError(f"{where}: device must be cpu or cuda, got {config.device!r}")
    if min(config.threads, config.feature_cache_mb, config.session_cache_mb, config.heads_mb) < 0:
        raise ConfigError(f"{where}: threads, feature_cache_mb, session_cache_mb and heads_mb must not be negative")
    if config.threads > _MAX_THREADS:
        raise ConfigError(f"{where}: threads must be at most {_MAX_THREADS}, got {config.threads}; 0 leaves it to the runtime")
    return config
