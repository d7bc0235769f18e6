"""`edgecl heads`: what the bank holds, its history, and heads as files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecl.cli.common import JsonOption, open_device, progress, say
from edgecl.errors import BankCorrupt, ConfigError, EdgeclError
from edgecl.files import write_whole
from edgecl.text import printable, size
from edgecl.types import task_name

if TYPE_CHECKING:
    from edgecl.bank.bank import Generation
    from edgecl.sharing.trust_store import Custody

_SHOWN = 320  # characters of one field; --json shows all
app = typer.Typer(no_args_is_help=True, help="The heads of this device.")
Name = Annotated[str, typer.Argument(help="Name of the task.", callback=lambda name: name and task_name(name))]


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("task", "digest", "part"))
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


@app.command()
def ls(
    remote: Annotated[
        str | None, typer.Option("--remote", help="What a trusted device has: a peer's name, or HOST:PORT. Nothing is taken.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks in force."""
    from edgecl.importing import OPINION

    if remote is not None:
        _ls_remote(remote, as_json)
        return
    with open_device() as edge:
        rows, damaged, actions = [], 0, edge.bank.actions()
        for task, digest in edge.bank.current().items():
            try:
                bundle = edge.bundle(digest)
                card = bundle.card()
            except EdgeclError as error:
                say(f"'{task}' is damaged: {error}")
                damaged += 1
                continue
            number = next(g for g in edge.bank.history(task) if g.current)
            rows.append(
                {
                    "task": task,
                    "opinion_on": card["task"] if actions[task] == OPINION else None,
                    "generation": number.number,
                    "method": card["method"],
                    "over": [base.task for base in bundle.head.over],
                    "classes": len(card["classes"]),
                    "pictures": card["provenance"].get("pictures"),
                    "validation_accuracy": card["report"].get("validation_accuracy"),
                    "bytes": number.bytes,
                    "rom_id": card["rom_id"],
                    "digest": digest,
                }
            )
        if as_json:
            print(json.dumps(rows))
        elif not rows:
            print("the bank is empty; learn something: edgecl learn --task NAME --data FOLDER")
        else:
            columns = ["task", "gen", "method", "classes", "pictures", "val.", "bytes", "digest"]
            shown = [
                [
                    r["task"] + (f" (opinion on {r['opinion_on']})" if r["opinion_on"] else ""),
                    r["generation"],
                    r["method"] + (f" over {', '.join(r['over'])}" if r["over"] else ""),
                    r["classes"],
                    r["pictures"],
                    _accuracy(r["validation_accuracy"]),
                    size(r["bytes"]),
                    r["digest"][:12],
                ]
                for r in rows
            ]
            _table(f"{len(rows)} tasks, {size(edge.bank.size())} with history", columns, shown)
        if damaged:
            raise BankCorrupt(f"{damaged} tasks in {edge.bank.path} are damaged; roll them back, or learn them again")


def _accuracy(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


def _ls_remote(word: str, as_json: bool) -> None:
    from edgecl.peering import listing
    from edgecl.sharing.signing import fingerprint

    with open_device() as edge:
        found = listing(edge, word)
    rows = [
        {
            "task": offer.task,
            "bytes": offer.size,
            "signer": fingerprint(offer.key),
            "here": "new" if answer.state == "want" else answer.state,
            "reason": answer.reason,
            "digest": offer.digest,
        }
        for offer, answer in found
    ]
    if as_json:
        print(json.dumps(rows))
    for row in [] if as_json else rows:
        here = f"{row['here']} ({row['reason']})" if row["reason"] else row["here"]
        print(f"{row['task']:24s} {size(int(str(row['bytes']))):>10s}  {row['signer']}  {here}")
    if not rows and not as_json:
        print(f"{printable(word, 80)} offers nothing")


@app.command()
def show(task: Name, as_json: JsonOption = False) -> None:
    """Everything about one task: card, report, where the bytes go, history."""
    with open_device() as edge:
        history = edge.bank.history(task)
        newest = next((g for g in history if g.current), history[-1])
        bundle = edge.bundle(newest.digest)
        past = [
            {
                "generation": g.number,
                "current": g.current,
                "action": g.action,
                "at": g.at,
                "bytes": g.bytes,
                "digest": g.digest,
            }
            for g in history
        ]
        if as_json:
            print(json.dumps({**bundle.card(), "parts": bundle.parts(), "history": past}))
            return
        card = bundle.card()
        state = "in force" if newest.current else "REMOVED; this is the last one kept"
        print(f"{task}: {card['method']} head, {len(card['classes'])} classes, generation {newest.number} ({state})")
        print(f"classes: {', '.join(card['classes'])}")
        print(f"ROM {card['rom_id'][:12]}, digest {newest.digest}")
        if bundle.head.over:
            print(f"stands on: {', '.join(map(str, bundle.head.over))}")
        if above := edge.bank.above(task):
            print(f"carries: {', '.join(above)}")
        for part in ("report", "provenance", "settings"):
            print(f"{part}:")
            for key, value in sorted(card[part].items()):
                shown = value if isinstance(value, (int, float)) else printable(json.dumps(value), _SHOWN)
                print(f"  {printable(key)}: {shown}")
        _table("where the bytes go", ["part", "bytes"], [[name, f"{count:,}"] for name, count in bundle.parts().items()])
        _table(
            "history",
            ["gen", "in force", "action", "at", "bytes", "digest"],
            [[g.number, "yes" if g.current else "", g.action, _day(g.at), size(g.bytes), g.digest[:12]] for g in history],
        )


@app.command()
def rm(task: Name) -> None:
    """Take a task out of force; `rollback` brings it back until `gc`."""
    with open_device() as edge:
        edge.bank.remove(task)
        print(f"removed '{task}'; edgecl heads rollback {task} brings it back until gc")
        if above := edge.bank.above(task):
            say(f"{', '.join(above)} picks from its weights: these stay for as long as that does, and its answers are the same")


@app.command()
def rollback(task: Name, to: Annotated[int | None, typer.Option("--to", help="Generation to put in force.")] = None) -> None:
    """Put the generation before the current one (or the removed one, or --to N) in force."""
    with open_device() as edge:
        there = edge.bank.rollback(task, to)
        if why := edge.trust.barred()(edge.bundle(there.digest)):
            say(f"it answers nothing all the same: {why}")
        print(f"'{task}' is at generation {there.number} again ({there.action}, {_day(there.at)}, {there.digest[:12]})")


@app.command("export")
def export_(task: Name, output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")]) -> None:
    """Write a task's bundle to a file."""
    from edgecl.sharing.bundle import from_bytes

    with open_device() as edge:
        data = edge.export(task)
        _write(output, data)
        print(f"wrote '{task}' to {output}, {size(len(data))}")
        if over := from_bytes(data).head.over:
            say(f"it stands on {', '.join(map(str, over))}, to be imported first; edgecl share --to FOLDER takes all along")


def _write(output: Path, data: bytes) -> None:
    try:
        write_whole(output, data)
    except OSError as error:
        raise EdgeclError(f"{output} cannot be written: {error.strerror}") from error


@app.command()
def convert(
    task: Annotated[list[str] | None, typer.Argument(help="Tasks. Default: all that are in force.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="ROM image that the heads shall belong to.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the tasks' pictures, or of one task: learn the heads again.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder of any pictures: carry the heads over, measured on these.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File for the bundle of one task; the bank stays as it is.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Carry over even what then answers otherwise.")] = False,
) -> None:
    """Make heads for another ROM of the same backbone, such as its INT8 form: a new generation each; rollback undoes it."""
    from edgecl.conversion import convert as run
    from edgecl.rom.opening import open_rom

    if to is None:
        raise ConfigError("say which ROM image the heads shall belong to: edgecl heads convert --to ROM")
    if output is not None and len(task or []) != 1:
        raise ConfigError("a file holds one bundle; name one task, or leave out -o")
    with open_device() as edge, open_rom(to, edge.config.runtime, edge.config.device, edge.config.threads) as rom:
        with progress() as bar:
            bundles, changes = run(edge, rom, task or (), data=data, pictures=pictures, force=force, progress=bar)
        if not bundles:
            print(f"nothing to convert: no head in force belongs to another ROM than {rom.rom_id[:12]}")
            return
        written = {name: bundle.to_bytes() for name, bundle in bundles.items()}
        for name, content in written.items():
            told = f"carried over: {changes[name]}" if name in changes else "learned again"
            if output is not None:
                _write(output, content)
                print(f"wrote '{name}' for ROM {rom.rom_id[:12]} to {output}, {told}")
            else:
                there = edge.bank.put(name, content, "convert", bundles[name].mark)
                print(f"'{name}' is generation {there.number} for ROM {rom.rom_id[:12]}, {told}")
        if output is None:
            say(f"these heads answer on ROM {rom.rom_id[:12]}: use --rom {to}, or set rom in {edge.home / 'config.toml'}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Bundle file.")],
    older: Annotated[bool, typer.Option("--older", help="Even when a newer one of its signer is known.")] = False,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Even when nobody has signed it.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also in place of a head that another device learned.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Even when it takes known tasks' pictures.")] = False,
    name: Annotated[str | None, typer.Option("--as", help="Keep it under this name, as a second opinion.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Make one head of it and the task's own.")] = False,
) -> None:
    """Check a bundle and put it in force, if this device or a trusted peer has signed it (edgecl peers)."""
    from edgecl.collisions import percentages
    from edgecl.device import read_bytes
    from edgecl.sharing.bundle import digest

    if merge and (older or unsigned or replace or anyway or name):
        raise ConfigError("--merge makes a new head of both, and goes with no other option")
    data = read_bytes(file)
    with open_device() as edge:
        if merge:
            other = edge.read_bundle(data)
            _tell_merge(edge.merge(other.task, other))
            return
        names = {} if name is None else {digest(data): name}
        (found,) = edge.import_bundles([data], older=older, unsigned=unsigned, replace=replace, anyway=anyway, names=names)
        if found.takes:
            say(f"'{found.task}' takes {percentages(found.takes)}")
        for note in found.notes:
            say(f"note: {note}")
        if found.error is not None:
            raise found.error
        there = found.generation
        assert there is not None
        bundle = edge.bundle(there.digest)
        who = edge.trust.custody(bundle)
        how = f"a second opinion on '{bundle.task}'" if name else f"generation {there.number}"
        print(f"imported '{there.task}' as {how}, {size(there.bytes)}, learned by {_who(who)}")


@app.command()
def merge(
    task: Name,
    other: Annotated[str | None, typer.Option("--with", help="A second opinion's name, or a bundle file.")] = None,
) -> None:
    """Make one head of two that were learned on two devices from unlike pictures; rollback undoes it."""
    from edgecl.device import read_bytes

    if other is None:
        raise ConfigError(f"say with what: edgecl heads merge {task} --with NAME_OR_FILE")
    with open_device() as edge:
        current = edge.bank.current()
        there = edge.bundle(current[other]) if other in current else edge.read_bundle(read_bytes(other))
        _tell_merge(edge.merge(task, there))


def _tell_merge(there: Generation) -> None:
    print(
        f"merged into '{there.task}', generation {there.number}, {size(there.bytes)}; no pictures have measured it, and its "
        f"percentages err to the low side. edgecl heads rollback {there.task} undoes it"
    )


def _who(custody: Custody) -> str:
    key = "former key " if custody.former else ""
    return custody.signer + (f" ({key}{custody.fingerprint})" if custody.fingerprint else "")


@app.command()
def verify(task: Annotated[str | None, typer.Argument(help="One task only.")] = None) -> None:
    """Check every bundle of the bank: bytes, contents, ROM, signature; of one task, also tell who learned it, from what."""
    with open_device() as edge:
        problems = edge.verify(task)
        for problem in problems:
            say(problem)
        if problems:
            raise BankCorrupt(f"{len(problems)} problems in {edge.bank.path}")
        if task is None:
            print(f"sound: {len(edge.bank.current())} tasks in {edge.bank.path}")
            return
        now = next(g for g in edge.bank.history(task_name(task)) if g.current)
        bundle = edge.bundle(now.digest)
        who, p = edge.trust.custody(bundle), bundle.provenance
        print(f"sound: '{task}', generation {now.number}, digest {now.digest}")
        print(f"learned by {_who(who)}" + (f", its number {who.sequence}, signature valid" if who.sequence else ", unsigned"))
        counts = p.get("per_class")
        shown = (
            [f"{printable(str(k), 40)} {printable(str(v), 20)}" for k, v in counts.items()] if isinstance(counts, dict) else []
        )
        pictures, seed = (printable(str(p.get(key, "?")), 40) for key in ("pictures", "seed"))
        print(f"from {pictures} pictures: {', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}")
        print(f"on ROM {bundle.head.rom_id[:12]} by {bundle.head.method}, seed {seed}")
        if isinstance(came := p.get("converted"), dict):
            print("made from a head for another ROM: " + printable(json.dumps(came), 300))
        if isinstance(came := p.get("merged"), dict):
            print("merged from several heads: " + printable(json.dumps(came), 600))
        print(f"taken by '{now.action}' on {_day(now.at)}")


@app.command()
def gc(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Earlier generations of each task to keep.")] = 1,
) -> None:
    """Forget removed tasks and old generations, and give the space back."""
    with open_device() as edge:
        print(f"freed {size(edge.gc(keep))}; earlier generations kept of each task: at most {keep}")
