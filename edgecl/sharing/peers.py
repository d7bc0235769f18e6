"""Whom this device trusts, in `peers.toml`: made to be read and changed by hand too.

[shop-floor-2]
key = "64 hexadecimal digits"
trusted = true             # false: revoked
tasks = ["birds"]          # optional: only these; * stands for anything
max_bytes = 2_000_000      # optional: of one bundle
address = "10.0.0.7:7433"  # optional
former = ["64 digits"]     # keys that it has replaced by itself, oldest first; what they sign now is refused
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecl.errors import ConfigError
from edgecl.files import write_whole
from edgecl.sharing.trust import Peer
from edgecl.text import printable
from edgecl.types import task_name

PEERS_FILE = "peers.toml"
_KEY = re.compile(r"[0-9a-f]{64}")
_FIRST = "# Whom this device believes, by the key that signs. `edgecl peers` writes here; changes by hand are kept.\n"


def load(home: Path) -> dict[str, Peer]:
    """The peers of that home, by name. Raises ConfigError for anything that cannot be meant; nobody is trusted by mistake."""
    return _checked(home / PEERS_FILE, _parsed(home))


def _parsed(home: Path) -> dict[str, Any]:
    path = home / PEERS_FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; mend it") from error


def revoked(home: Path) -> dict[str, str]:
    """Key -> name of all that are not trusted, even where another entry cannot be meant. Raises ConfigError for no TOML.

    With the keys that they had before.
    """
    entries = {name: entry for name, entry in _parsed(home).items() if isinstance(entry, dict)}
    return {
        str(key).lower(): printable(name, 60)
        for name, entry in entries.items()
        if entry.get("trusted", True) is not True
        for key in (entry.get("key"), *_listed(entry.get("former")))
    }


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _checked(path: Path, raw: Mapping[str, Any]) -> dict[str, Peer]:
    peers = {name: _peer(path, name, entry) for name, entry in raw.items()}
    holders = Counter(key for peer in peers.values() for key in peer.line)
    twice = [peer.name for peer in peers.values() if any(holders[key] > 1 for key in peer.line)]
    if twice:
        raise ConfigError(f"{path}: {', '.join(twice)} have the same key; keep one of them")
    return peers


def _peer(path: Path, name: str, entry: Any) -> Peer:
    where = f"{path}: [{printable(name, 60)}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a table with a key")
    if wrong := set(entry) - set(Peer.__dataclass_fields__) or {"name"} & set(entry):
        raise ConfigError(f"{where} has an unknown field '{printable(sorted(wrong)[0], 60)}'")
    peer = {"trusted": True, "tasks": [], "max_bytes": None, "address": "", "former": [], **entry}
    try:
        plain = peer_name(name) == name
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not plain or not isinstance(peer.get("key"), str) or not _KEY.fullmatch(peer["key"]):
        raise ConfigError(f"{where} needs a plain name, and a key of 64 hexadecimal digits as `edgecl peers id` prints it")
    tasks, most = peer["tasks"], peer["max_bytes"]
    if not isinstance(tasks, list) or not all(isinstance(task, str) and task.strip() for task in tasks):
        raise ConfigError(f"{where}: tasks must be a list of names, or left out to allow all")
    if "tasks" in entry and not tasks:  # it would read as "none" and mean "all"
        raise ConfigError(f"{where}: tasks is empty; leave it out to allow all, or set trusted = false to allow none")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ConfigError(f"{where}: max_bytes must be a whole number above 0")
    if not isinstance(peer["trusted"], bool) or not isinstance(peer["address"], str):
        raise ConfigError(f"{where}: trusted must be true or false, and address a text")
    former = peer["former"]
    if not isinstance(former, list) or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in former):
        raise ConfigError(f"{where}: former must be a list of keys of 64 hexadecimal digits")
    if len({*former, peer["key"]}) <= len(former):
        raise ConfigError(f"{where}: a key stands twice in former, or is the present one too")
    return Peer(name, peer["key"], peer["trusted"], tuple(tasks), most, peer["address"], tuple(former))


def peer_name(name: str) -> str:
    """A peer's name in normal form: as tasks are named. Raises ConfigError."""
    try:
        return task_name(name)
    except ConfigError as error:
        raise ConfigError(str(error).replace("a task name", "the name of a peer").partition(" (a path")[0]) from None


def checked_key(key: str) -> str:
    """A public key in its one form. Raises ConfigError."""
    if not _KEY.fullmatch(key.lower()):
        raise ConfigError(f"a key has 64 hexadecimal digits, as `edgecl peers id` prints it; got '{printable(key, 80)}'")
    return key.lower()


def store(home: Path, peer: Peer) -> None:
    """Write the peer in place of the one of that name, and leave the rest of the file as it is. Raises ConfigError."""
    import tomlkit

    path = home / PEERS_FILE
    load(home)  # what cannot be read is not written over
    document = tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else _FIRST)
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(peer).items() if k != "name"}
    table: Any = document.get(peer.name)
    if table is None:
        table = document[peer.name] = tomlkit.table()
    for key, value in values.items():
        if value in (None, [], ""):
            table.pop(key, None)
        elif table.get(key) != value:
            table[key] = value
    text = tomlkit.dumps(document)
    _checked(path, tomllib.loads(text))  # nor is what could not be read
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error
