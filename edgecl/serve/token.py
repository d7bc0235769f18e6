"""The word that a client off this machine must know, kept in the home for its owner's eyes."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path

from edgecl.errors import IdentityError
from edgecl.files import write_once

TOKEN_FILE = "api-token"
_FORM = re.compile(r"[A-Za-z0-9_-]{20,200}")


def api_token(home: Path) -> str:
    """The token in `home`, made on first use (256 bits). Raises IdentityError when others may read it, or it is none."""
    path = home / TOKEN_FILE
    try:
        if not path.exists():
            write_once(path, f"{secrets.token_urlsafe(32)}\n".encode())
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise IdentityError(f"others than its owner may read {path}; delete it, and a new token is made")
        token = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise IdentityError(f"the token {path} cannot be used: {error.strerror}") from error
    if not _FORM.fullmatch(token):
        raise IdentityError(
            f"{path} holds no token of 20 to 200 letters, digits, '-' and '_'; delete it, and a new one is made"
        )
    return token


def matches(authorization: bytes, token: str) -> bool:
    """Whether an `Authorization` header carries the token. It takes as long for a wrong one."""
    scheme, _, given = authorization.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())
