"""`edgecl demo`: the whole story on pictures that come with packages."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    progress,
    say,
)
from edgecl.cli.infer import sentence

if TYPE_CHECKING:
    from rich.table import Table

    from edgecl.demo import Result

WIDTH = 80  # columns, where the output is no terminal


def demo(
    keep: Annotated[Path | None, typer.Option("--keep", help="Make the device in this new folder and keep it.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three tasks and fewer pictures.")] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn tasks one after another on real pictures, forget nothing, answer untold. Your own bank is not touched."""
    from edgecl import config
    from edgecl.demo import learned, prepare, run, unseen
    from edgecl.rom.opening import ensure_default

    started = time.perf_counter()
    tell = say if as_json else _print
    tasks, strangers = learned(quick), unseen(quick)
    home = config.home()
    given = {"rom": str(rom) if rom else None, "runtime": runtime, "device": device, "threads": threads, "mapper": mapper}
    settings = config.load(home, given)
    tell(f"edgecl demo: {len(tasks)} tasks for one device, which is never told the task of a picture.")
    tell(f"The device lives in {keep if keep else 'a temporary folder'}; your own bank is not touched.")
    begun = time.perf_counter()
    image = Path(settings.rom).expanduser() if settings.rom else ensure_default(home / "rom", tell)
    exported = time.perf_counter() - begun
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="edgecl-demo-") as place:
        prepare(Path(place), image, settings)
        result = run(Path(place), tasks, strangers, tell=tell, watch=progress, started=started)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _report(result, exported, tell)
        if keep:
            _play_on(keep, result, tell)
    if not result.held:
        say("FAILED: something that was learned has changed; see the lines in capitals above")
        raise typer.Exit(1)


def _print(line: str) -> None:
    print(line, flush=True)


def _report(result: Result, exported: float, tell: Callable[[str], None]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    tell("")
    console.print(_table(result))
    tell("train, test  pictures; nothing is tested on what was learned from")
    tell("oracle       right class when told the task    mapper  right task found, untold")
    tell("joint        right task and class, untold; 'unknown' not allowed")
    tell(f"right, unknown, wrong  the answer as you get it; 'unknown' may be up to {_stated(result)} a task,")
    tell("             and as much for its classes; for a task never seen it is the right answer")
    tell("")
    tell("Some single answers, as edgecl infer prints them (what it is really):")
    for example in result.examples:
        tell(f"  {sentence(example.answer)}")
        tell(f"      ({example.truth})")
    tell("")
    made = f", {exported:.0f} s of it to make the ROM, once" if exported > 1 else ""
    checks = len(result.steps) - 1
    tell(f"Checked {checks} times: every earlier score bit-identical, every bundle unchanged." if result.held else "")
    tell(f"{result.answer_ms:.1f} ms an answer on {result.conditions['ran_on']}; the whole demo took {result.seconds:.0f} s{made}.")


def _stated(result: Result) -> str:
    return f"{result.conditions['stated_false_reject']:.0%}"


def _table(result: Result) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("task", no_wrap=True)
    for name in ("classes", "train", "s", "kB", "test", "oracle", "mapper", "joint", "right", "unknown", "wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = ("oracle", "mapper", "joint", "right", "unknown", "wrong")
    for row in result.rows:
        values = [f"{getattr(row, name):.0%}" for name in shares]
        table.add_row(
            row.task, str(row.classes), str(row.train), f"{row.seconds:.1f}", f"{row.bytes / 1000:.0f}", str(row.test), *values
        )
    table.add_row("mean", "", "", "", "", "", *(f"{result.summary[name]:.0%}" for name in shares), style="bold")
    table.add_section()
    for other in result.unseen:
        values = ["-", "-", "-", "-", f"{other.unknown:.0%}", f"{other.wrong:.0%}"]
        table.add_row(other.task, "-", "-", "-", "-", str(other.test), *values)
    return table


def _play_on(home: Path, result: Result, tell: Callable[[str], None]) -> None:
    edgecl = f"edgecl --home {shlex.quote(str(home))}"
    pictures = shlex.quote(str(home / "pictures"))
    last = result.rows[-1].task
    tell("")
    tell("Play on:")
    tell(f"  {edgecl} infer {pictures}/*.png")
    tell(f"  {edgecl} heads ls")
    tell(f"  {edgecl} learn --task again --data {pictures}/learn/{shlex.quote(last)}")
