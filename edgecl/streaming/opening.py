"""The data that a command names, with what it was read under; and what there is, in a line each."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecl import config
from edgecl.bench.conditions import conditions
from edgecl.rom.feature_cache import FeatureCache
from edgecl.rom.opening import open_rom, rom_folder
from edgecl.streams import opening
from edgecl.streams.base import Dataset

DEFAULT = "default"


def open_data(
    data: str,
    *,
    rom: str | None = None,
    size: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set and what to state about how it was read.

    rom: path of a ROM image to read features with, "default": the home's, made on first need.
    """
    home = config.home()
    if rom is None:
        found = opening.load(data, size=size, progress=progress)
        return found, _stated(conditions("", "", 1), rom_id="", backbone="")
    settings = config.load(home, {"rom": None if rom == DEFAULT else rom})
    with contextlib.ExitStack() as end:
        opened = end.enter_context(
            open_rom(rom_folder(settings.rom, home, say), settings.runtime, settings.device, settings.threads)
        )
        cache = None
        if settings.feature_cache_mb:
            key = f"{opened.rom_id}/{opened.runtime}/{opened.provider}"
            cache = FeatureCache(home / "cache" / "features.sqlite", key, opened.width, settings.feature_cache_mb << 20)
            end.callback(cache.close)
        found = opening.load(data, rom=opened, cache=cache, size=size, progress=progress)
        stated = conditions(opened.runtime, opened.provider, settings.threads)
        return found, _stated(stated, rom_id=opened.rom_id, backbone=opened.image.backbone)


def first_line(path: str) -> str:
    """Of the docstring of what a registry names, read and not imported: a list must not load torch."""
    spec = find_spec(path.partition(":")[0])
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    text = ast.get_docstring(tree)
    return (text or "").partition("\n")[0]


def _stated(found: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """Of the conditions, what a comparison of accuracies depends on."""
    kept = {name: found[name] for name in ("date", "cpu", "machine", "cores", "os", "python", "runtime", "provider")}
    return {name: value for name, value in {**kept, **more}.items() if value != ""}
