"""`edgecl peers`: who this device is, and whose heads it believes."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import JsonOption, open_device, say
from edgecl.errors import BundleError, ConfigError, Reason, RomError
from edgecl.text import printable

app = typer.Typer(no_args_is_help=True, help="Whose heads this device believes.")
Name = Annotated[str, typer.Argument(help="The name that this device gives the peer.")]


@app.command("id")
def id_(as_json: JsonOption = False) -> None:
    """Say this device's key and its fingerprint, for others to trust."""
    from edgecl.sharing.signing import fingerprint

    with open_device() as edge:
        key, former = edge.trust.signer.key, edge.trust.here.former
    if as_json:
        print(json.dumps({"key": key, "fingerprint": fingerprint(key), "former": former}))
        return
    print(f"fingerprint  {fingerprint(key)}\nkey          {key}")
    for old in reversed(former):
        print(f"before that  {fingerprint(old)}")
    say(f"on the other device: edgecl peers trust NAME {key}")


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """List the peers: whom this device trusts, and whom it has revoked."""
    from edgecl.sharing.signing import fingerprint

    with open_device() as edge:
        peers = edge.trust.peers.values()
    if as_json:
        print(json.dumps([{**vars(peer), "fingerprint": fingerprint(peer.key)} for peer in peers]))
        return
    if not peers:
        print("this device trusts nobody but itself; edgecl peers trust NAME KEY")
    for peer in peers:
        allowed = f"only {', '.join(peer.tasks)}" if peer.tasks else "all tasks"
        most = f", up to {peer.max_bytes:,} bytes" if peer.max_bytes else ""
        keys = f", former keys: {len(peer.former)}" if peer.former else ""
        limits = allowed + most if peer.trusted else "REVOKED"
        print(f"{peer.name:20s} {fingerprint(peer.key)}  {limits}{keys}  {peer.address}".rstrip())


@app.command()
def scan(
    seconds: Annotated[float, typer.Option("--seconds", min=0.2, max=60, help="How long to listen.")] = 3.0,
    interface: Annotated[
        list[str] | None, typer.Option("--interface", help="IP address of this machine to look from; repeatable. Default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for devices on the network. What they say of themselves is a hint; the connection proves the key."""
    from edgecl import config
    from edgecl.sharing import discovery, peers
    from edgecl.sharing.signing import fingerprint, public_key

    home = config.home()
    known = {fingerprint(peer.key): peer for peer in peers.load(home).values()}
    own, rom = public_key(home), _rom_id(home)
    rows = []
    for found in discovery.scan(seconds, _addresses(interface)):
        peer = known.get(found.fingerprint)
        if own and found.fingerprint == fingerprint(own):
            state = "this device"
        else:
            state = "unknown" if peer is None else "trusted" if peer.trusted else "revoked"
        same = found.rom == rom[: len(found.rom)] if rom and found.rom else None
        rows.append({**vars(found), "state": state, "peer": peer and peer.name, "same_rom": same})
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        who = f"{row['state']} as '{row['peer']}'" if row["peer"] else row["state"]
        fits = {True: "same ROM", False: "another ROM", None: ""}[row["same_rom"]]
        doubt = "CONTESTED: others say to have this key, or it to be elsewhere" if row["contested"] else ""
        print("  ".join([f"{row['name']:24s} {row['address']:24s} {row['fingerprint']}", *filter(None, (who, fits, doubt))]))
    if not rows:
        print(f"no device was heard in {seconds:g} seconds; where multicast does not pass, give the address: HOST:PORT")


def _addresses(given: list[str] | None) -> list[str] | None:
    for one in given or ():
        try:
            ipaddress.ip_address(one)
        except ValueError:
            raise ConfigError(f"--interface takes an IP address of this machine, got '{printable(one, 60)}'") from None
    return given or None


def _rom_id(home: Path) -> str:
    """The id of the ROM in use, by its manifest alone; "" where there is none yet."""
    from edgecl import config
    from edgecl.rom.image import RomImage

    with contextlib.suppress(RomError):
        return RomImage.open(Path(config.load(home).rom or home / "rom").expanduser()).rom_id
    return ""


@app.command()
def trust(
    name: Annotated[str, typer.Argument(help="The name that this device gives the peer; or HOST:PORT alone.")],
    key: Annotated[
        str | None, typer.Argument(help="Its key, as `edgecl peers id` prints it there; or HOST:PORT, where it answers.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Take the key from a bundle that it has signed.")] = None,
    compared: Annotated[
        str | None, typer.Option("--fingerprint", help="As read from the other device; without a terminal it is needed.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this task; several times for more; * for any.")] = None,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", min=1, help="Of one bundle.")] = None,
    address: Annotated[str, typer.Option("--address", help="Where it answers, HOST:PORT.")] = "",
) -> None:
    """Believe what this peer signs, after its fingerprint was compared with what the peer itself shows.

    With HOST:PORT the device there is asked for its key. With a name alone, the device of that name that peers scan finds.
    """
    from edgecl.device import read_bytes
    from edgecl.sharing.bundle import from_bytes
    from edgecl.sharing.peers import checked_key, peer_name
    from edgecl.sharing.signing import fingerprint
    from edgecl.sharing.trust import Peer

    if key is not None and bundle is not None:
        raise ConfigError("give either the peer's key, or --bundle with a file that it has signed")
    if bundle is not None:
        key = from_bytes(read_bytes(bundle)).signer
        if not key:
            raise BundleError(f"{bundle} is not signed: it names no key", Reason.UNKNOWN_SIGNER)
    name, key, where = _asked(name, key)
    peer = Peer(peer_name(name), checked_key(key), True, tuple(task or ()), max_bytes, address or where)
    words = fingerprint(peer.key)
    with open_device() as edge:
        own = edge.trust.signer.key
        if compared is None and not sys.stdin.isatty():
            raise ConfigError(
                f"the key has the fingerprint {words}; compare it with what the peer shows, then give that with --fingerprint"
            )
        if compared is None:
            print(f"'{peer.name}' would have the fingerprint\n\n    {words}\n\nas `edgecl peers id` must show it there.")
            if not typer.confirm("Is it the same?"):
                raise ConfigError("not trusted: the fingerprints differ, so that key is somebody else's")
        elif compared.strip().upper() != words:
            raise ConfigError(f"not trusted: that key has the fingerprint {words}, not the one given; it is somebody else's")
        edge.trust.trust(peer)
    print(f"'{peer.name}' ({words}) is trusted" + (f" for {', '.join(peer.tasks)}" if peer.tasks else ""))
    say(f"to share with it, it must trust this device too. There: edgecl peers trust NAME {own}")
    say(f"and the fingerprint to compare is {fingerprint(own)}")


def _asked(name: str, key: str | None) -> tuple[str, str, str]:
    """(name, key, HOST:PORT or "") from the words given; the device there, or one that is found, is asked for its key."""
    from edgecl.peering import address
    from edgecl.sharing.transport.tls import first_look

    if key is None and (alone := address(name)):
        name, key = alone[0].replace(":", "-"), name
    if key is None:
        from edgecl.sharing.discovery import scan as look

        found = [one for one in look() if one.name == name]
        if len(found) != 1:
            many = f"{len(found)} devices" if found else "no device"
            raise ConfigError(f"{many} of the name '{printable(name, 60)}' were heard; give its key, or its HOST:PORT")
        key = found[0].address
    if place := address(key):
        return name, first_look(*place), key
    return name, key, ""


@app.command()
def revoke(name: Name) -> None:
    """Believe that peer no longer: what it had sent goes out of force at once."""
    with open_device() as edge:
        gone = edge.trust.revoke(name)
    print(f"'{name}' is revoked; out of force: {', '.join(gone) or 'nothing'}")


@app.command()
def rotate(as_json: JsonOption = False) -> None:
    """Give this device a new key, signed by the one it has, so that who trusts that one follows by itself.

    For a key that may be stolen this is no remedy: the thief can do the same. Then have it revoked (edgecl peers revoke).
    """
    from edgecl.sharing.signing import fingerprint

    with open_device() as edge:
        done = edge.trust.rotate()
    if as_json:
        print(json.dumps(vars(done)))
        return
    print(f"fingerprint  {fingerprint(done.new)}\nbefore that  {fingerprint(done.old)}")
    print(f"signed again: {', '.join(done.signed) or 'nothing'}")
    if done.resumed:
        say("an earlier change of the key had been cut off; it is finished now. For yet another key, run this again")
    say("others follow at the next share or pull: devices by themselves, sticks and buckets after edgecl share --to them")
