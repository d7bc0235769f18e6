"""What the verbs share: the device's options, progress bars, and short numbers."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl import config, registry
from edgecl.cli.stages import Stages
from edgecl.errors import ConfigError
from edgecl.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from edgecl.config import DeviceConfig
    from edgecl.device import EdgeDevice

WIDTH = 80  # columns, where the output is no terminal
RomOption = Annotated[Path | None, typer.Option("--rom", help="ROM image to use. Default: the home's, made on first need.")]
RuntimeOption = Annotated[str | None, typer.Option("--runtime", help=f"{', '.join(registry.RUNTIMES)}.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu or cuda. Default: cpu; for tensorrt cuda.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=0, help="Threads of the runtime; 0: its own choice.")]
MapperOption = Annotated[str | None, typer.Option("--mapper", help=f"{', '.join(registry.MAPPERS)}.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def say(line: str) -> None:
    """One line for the person, on stderr, so that stdout stays the answer."""
    print(line, file=sys.stderr, flush=True)


def out(line: str) -> None:
    """One line of the answer."""
    print(line, flush=True)


def console(err: bool = False) -> Console:
    """Where tables go; err: what is for the person alone."""
    from rich.console import Console

    found = Console(highlight=False, stderr=err)
    return found if found.is_terminal else Console(highlight=False, stderr=err, width=WIDTH)


def command() -> str:
    """What to type to run this program again."""
    called = Path(sys.argv[0])
    if called.stem != "edgecl":
        return f"{shlex.quote(sys.executable)} -m edgecl"
    found = shutil.which("edgecl")
    return "edgecl" if found and Path(found).resolve() == called.resolve() else shlex.quote(str(called))


def open_device(**options: object) -> EdgeDevice:
    """The device in the home, with the options that were given on the command line."""
    from edgecl.device import EdgeDevice

    rom = options.pop("rom", None)
    return EdgeDevice(rom=str(rom) if rom else None, say=say, **{k: v for k, v in options.items() if v is not None})  # type: ignore[arg-type]


def configured(tell: Callable[[str], None] = say, **options: object) -> DeviceConfig:
    """The settings of this home under the options that were given, with `rom` filled in; the home's bank is not opened."""
    from edgecl.rom.opening import rom_folder

    home = config.home()
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    settings = config.load(home, given)
    return dataclasses.replace(settings, rom=str(rom_folder(settings.rom, home, tell)))


@contextmanager
def progress_lines(every: float = 0.2) -> Iterator[Callable[[str, int, int], None]]:
    """`progress` for programs: JSON lines on stderr, a stage's first and last and at most one in `every` seconds between."""
    last, shown = 0.0, ""

    def line(stage: str, done: int, total: int) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if stage != shown or done >= total or now - last >= every:
            last, shown = now, stage
            say(json.dumps({"stage": stage, "done": done, "total": total}))

    yield line


@contextmanager
def progress(every: float = 10.0) -> Iterator[Callable[[str, int, int], None]]:
    """Shows `(stage, done, total)` on stderr: a bar on a terminal, gone when done; elsewhere a line every `every` seconds."""
    if not sys.stderr.isatty():
        last, stages = time.monotonic(), Stages()

        def line(stage: str, done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            stages.tell(stage, done, total, now)
            if now - last >= every:
                last = now
                say(stages.line(now))

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bars: dict[str, object] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = bar.add_task(stage, total=total)
            bar.update(bars[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield report


def seconds(text: str, option: str) -> float:
    """ "90", "90s" or "2m" in seconds. Raises ConfigError."""
    return _number(text, option, {"": 1, "s": 1, "m": 60, "h": 3600}, "a time such as 90s or 2m")


def amount(text: str, option: str) -> float:
    """ "200000", "200k" or "1.5M" in bytes. Raises ConfigError."""
    return _number(text, option, {"": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6}, "a size such as 200k or 1.5M")


def _number(text: str, option: str, units: dict[str, float], wanted: str) -> float:
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-zA-Z]*)\s*", text)
    if not found or found[2].lower() not in units or not float(found[1]):
        raise ConfigError(f"{option} takes {wanted}, got '{printable(text, 40)}'")
    return float(found[1]) * units[found[2].lower()]
