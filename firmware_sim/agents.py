"""An agent's home, made as an owner would make it before the device is sent out: its key, and whom it trusts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from edgecl.sharing.peers import PEERS_FILE
from edgecl.sharing.signing import KEY_FILE, PUBLIC_FILE, Signer


def name_of(index: int, total: int) -> str:
    """ "agent-007" of 100."""
    return f"agent-{index:0{max(3, len(str(total - 1)))}}"


def seeded_signer(*words: object) -> Signer:
    """A key pair that the same words always give: simulated devices keep no secret."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = hashlib.sha256("\0".join(map(str, ("edgecl simulated key", *words))).encode()).digest()
    return Signer(Ed25519PrivateKey.from_private_bytes(secret))


def provision(home: Path, rom: Path, own: Signer, trusted: Mapping[str, str], revoked: Mapping[str, str]) -> None:
    """Make the home. trusted, revoked: peer's name -> key. Nothing is synced: a run that is cut off is begun anew."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(f"rom = {json.dumps(str(rom))}\n")
    path = home / KEY_FILE
    path.write_bytes(own.to_pem())
    path.chmod(0o600)
    (home / PUBLIC_FILE).write_text(f"{own.key}\n")
    tables = [f'[{name}]\nkey = "{key}"\ntrusted = true\n' for name, key in trusted.items()]
    tables += [f'[{name}]\nkey = "{key}"\ntrusted = false\n' for name, key in revoked.items()]
    (home / PEERS_FILE).write_text("\n".join(tables))
