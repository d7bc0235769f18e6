"""`edgecl peers`: who this device is, and whose heads it believes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import JsonOption, open_device, say
from edgecl.errors import BundleError, ConfigError, Reason

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
def trust(
    name: Name,
    key: Annotated[str | None, typer.Argument(help="Its key, as `edgecl peers id` prints it there.")] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Take the key from a bundle that it has signed.")] = None,
    compared: Annotated[
        str | None, typer.Option("--fingerprint", help="As read from the other device; without a terminal it is needed.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this task; several times for more; * for any.")] = None,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", min=1, help="Of one bundle.")] = None,
    address: Annotated[str, typer.Option("--address", help="Where it answers, HOST:PORT.")] = "",
) -> None:
    """Believe what this peer signs, after its fingerprint was compared with what the peer itself shows."""
    from edgecl.device import read_bytes
    from edgecl.sharing.bundle import from_bytes
    from edgecl.sharing.peers import checked_key, peer_name
    from edgecl.sharing.signing import fingerprint
    from edgecl.sharing.trust import Peer

    if (key is None) == (bundle is None):
        raise ConfigError("give either the peer's key, or --bundle with a file that it has signed")
    if bundle is not None:
        key = from_bytes(read_bytes(bundle)).signer
        if not key:
            raise BundleError(f"{bundle} is not signed: it names no key", Reason.UNKNOWN_SIGNER)
    peer = Peer(peer_name(name), checked_key(str(key)), True, tuple(task or ()), max_bytes, address)
    words = fingerprint(peer.key)
    with open_device() as edge:
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
    say("others follow when they next pull from where you share: edgecl share --to FOLDER")
