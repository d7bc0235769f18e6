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
    command,
    configured,
    console,
    out,
    progress,
    say,
)
from edgecl.cli.infer import sentence
from edgecl.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgecl.demo import Result


def demo(
    keep: Annotated[Path | None, typer.Option("--keep", help="Make what it makes in this new folder and keep it.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three tasks and fewer pictures.")] = False,
    two_devices: Annotated[
        bool, typer.Option("--two-devices", help="Another story: what one device has learned, a second one can do.")
    ] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn tasks one after another on real pictures, forget nothing, answer untold. Your own bank is not touched."""
    if two_devices:
        from edgecl.cli.two_devices import play

        options = {"rom": rom, "runtime": runtime, "device": device, "threads": threads, "mapper": mapper}
        return play(keep, quick, options, as_json)
    from edgecl.demo import learned, prepare, run, unseen, vacant

    started = time.perf_counter()
    if keep:
        vacant(keep)
    tell = say if as_json else out
    tasks, strangers = learned(quick), unseen(quick)
    tell(f"edgecl demo: one device, {len(tasks)} tasks, real pictures, no task labels.")
    tell(f"It lives in {printable(keep) if keep else 'a temporary folder'}; your own bank is not touched.")
    begun = time.perf_counter()
    settings = configured(tell, rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper)
    exported = time.perf_counter() - begun
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="edgecl-demo-") as place:
        prepare(Path(place), settings)
        result = run(Path(place), tasks, strangers, tell=tell, watch=progress, started=started)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _report(result, exported, tell)
        if keep:
            _play_on(keep, result, tell)
        else:
            tell("With --keep FOLDER the device stays, to play on with.")
    if not result.held:
        say("FAILED: something that was learned has changed; see the lines in capitals above")
        raise typer.Exit(1)


def _report(result: Result, exported: float, tell: Callable[[str], None]) -> None:
    as_task, as_class = (f"{result.conditions[key]:.0%}" for key in ("stated_false_reject", "stated_class_false_reject"))
    tell("")
    console().print(_table(result))
    tell("")
    tell("train, test: pictures. s, kB: seconds to learn the task, size of its head.")
    tell("oracle: right class when told the task. Not told: mapper, right task; joint,")
    tell('right task and class. right, unknown, wrong: the final answer; "unknown" is')
    tell(f"allowed (set to happen to {as_task} of known pictures as to task, {as_class} as to class).")
    tell("* Its pictures had been read before the power cut, and were kept.")
    taken = [
        f"{other.task}: " + ", ".join(f"{name} {count}" for name, count in other.taken_for.items()) + f" of {other.test}"
        for other in result.unseen
        if other.taken_for
    ]
    if taken:
        tell("Never seen, yet taken for a known task:")
        tell(f"  {'; '.join(taken)}")
    tell("")
    tell("Single answers, hits and misses, as edgecl infer prints them:")
    for example in result.examples:
        tell(f"  {sentence(example.answer)}")
        tell(f"    truth: {example.truth}{'' if example.known else ', never learned'}")
    tell("")
    if result.held:
        asked = sum(len(step.digests) for step in result.steps)
        tell(f"Earlier heads were asked again {asked} times: every score the same to the last bit.")
    made = f", {exported:.0f} s of it to make the ROM, once" if exported > 1 else ""
    tell(f"{result.answer_ms:.1f} ms an answer; {result.seconds:.0f} s in all{made}.")


def _table(result: Result) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("task", no_wrap=True)
    for name in ("classes", "train", "s", "kB", "test", "oracle", "mapper", "joint", "right", "unknown", "wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = ("oracle", "mapper", "joint", "right", "unknown", "wrong")
    for row in result.rows:
        values = [f"{getattr(row, name):.0%}" for name in shares]
        mark = "*" if row is result.rows[-1] else ""
        size = f"{row.bytes / 1000:.0f}"
        table.add_row(row.task, str(row.classes), str(row.train), f"{row.seconds:.1f}{mark}", size, str(row.test), *values)
    table.add_row("mean", "", "", "", "", "", *(f"{result.summary[name]:.1%}" for name in shares), style="bold")
    table.add_row("never seen:")
    for other in result.unseen:
        values = ["-", "-", "-", "-", f"{other.unknown:.0%}", f"{other.wrong:.0%}"]
        table.add_row(other.task, "-", "-", "-", "-", str(other.test), *values)
    return table


def _play_on(home: Path, result: Result, tell: Callable[[str], None]) -> None:
    edgecl = f"{command()} --home {shlex.quote(str(home))}"
    pictures = shlex.quote(str(home / "pictures"))
    tell("")
    tell(f"The device stays in {printable(home)}. Play on:")
    tell(f"  {edgecl} infer {pictures}/*.png")
    tell(f"  {edgecl} heads ls")
    for other in result.unseen[-1:]:
        tell(f"  {edgecl} learn --task {other.task} --data {pictures}/learn/{other.task}")
        tell(f"  {edgecl} infer {pictures}/{other.task}*.png")
