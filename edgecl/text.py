"""Foreign names made safe to print.

A file, class or task name comes from whoever made it. Printed as it is, it can move the cursor, clear the screen,
forge a second log line or turn the reading direction around. Every foreign name that reaches a terminal, a log or an
error message goes through `printable`. Beside it, numbers as people read them.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import PurePath

# Joiners are format characters too, but ordinary spelling (Persian, Hindi, emoji families) needs them.
_JOINERS = "\u200c\u200d"
# Control, format (bidi overrides, zero-width marks), surrogate, unassigned, private use (each font its own), line and paragraph
# separator.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})


def printable(name: str | PurePath | bytes, limit: int = 240) -> str:
    """The name on one line, safe for any terminal: what is invisible or acts on the screen is shown as an escape.

    For reading, not for parsing back: a backslash stays as it is. A byte that is no UTF-8 (Python's surrogate escape)
    is shown as `\\xNN`. A name longer than `limit` characters loses its middle: the start says where, the end which.
    """
    text = os.fsdecode(name)
    if not text.isascii() or not text.isprintable():
        text = "".join(c if _safe(c) else _escape(c) for c in text)
    if len(text) > limit:
        head = (limit - 1) // 2
        text = text[:head] + "…" + text[len(text) - (limit - 1 - head) :]
    return text


def size(count: float) -> str:
    """Bytes for people: 25.6 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds for people: 4.2 s, 48 s, 12 min 5 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _safe(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNSAFE


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the raw byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
