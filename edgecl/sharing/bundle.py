"""A head, its anchors and its card as canonical bytes, and back. No files, no network, no pickle.

The bytes are one safetensors file. Its metadata has one entry, `edgecl`: the card as JSON with sorted keys and no spaces.
Tensors are named `head/NAME` and `anchor/MAPPER/NAME`. Equal contents give equal bytes, so the sha256 of the bytes is the
bundle's name everywhere. Reading believes nothing: sizes, names, dtypes, shapes and numbers are checked before use, and
bytes that are not in canonical form are refused, so that no two files mean the same bundle.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from edgecl import registry
from edgecl.errors import BundleError, ConfigError, Reason
from edgecl.heads.base import Head, checked_classes
from edgecl.text import printable
from edgecl.types import Arrays, task_name

FORMAT = 1
MAX_BYTES = 64 << 20  # far above any head of this kind; what is larger is refused unread
_MAX_HEADER = 4 << 20
_MAX_DEPTH = 32  # of a card; far below where writing or showing it would exhaust Python's stack
MAX_SEQUENCE = 1 << 48  # a counter near its end could be followed by nothing
_KEY_HEX = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_ROM_ID = re.compile(r"[0-9a-f]{64}")
_DTYPES = {np.dtype(t) for t in ("float16", "float32", "int64", "int32", "int8", "uint8")}
_KEY = "edgecl"


@dataclass(frozen=True)
class Bundle:
    """What travels: a task's head and what each mapper needs to recognise the task.

    anchors: mapper name -> arrays.   report: what was measured while learning.   provenance: counts, seed, versions.
    signer: public key of the device that learned it, with `sequence`, its counter; "" for an unsigned bundle.
    signature: by that key, over `unsigned_digest`.
    Fields of a card that this edgecl does not know are kept in `extra` and written again.
    """

    task: str
    head: Head
    anchors: Mapping[str, Arrays]
    report: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    signer: str = ""
    sequence: int = 0
    signature: str = ""

    def card(self) -> dict[str, Any]:
        """The card as plain values: everything but the arrays."""
        return {
            **self.extra,
            "format": FORMAT,
            "task": self.task,
            "classes": list(self.head.classes),
            "method": self.head.method,
            "rom_id": self.head.rom_id,
            "settings": dict(self.head.settings),
            "report": dict(self.report),
            "provenance": dict(self.provenance),
            **({"signer": {"key": self.signer, "sequence": self.sequence}} if self.signer else {}),
            **({"signature": self.signature} if self.signature else {}),
        }

    def to_bytes(self) -> bytes:
        """The canonical bytes. Raises BundleError for contents that `from_bytes` would refuse."""
        tensors = {f"head/{name}": value for name, value in self.head.arrays.items()}
        for mapper, arrays in self.anchors.items():
            tensors |= {f"anchor/{mapper}/{name}": value for name, value in arrays.items()}
        _check_tensors(tensors)
        try:
            card = json.dumps(self.card(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise BundleError(f"the card of '{self.task}' holds a value that JSON cannot carry: {error}") from error
        return bytes(save_tensors({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata={_KEY: card}))

    @property
    def mark(self) -> tuple[str, str, int] | None:
        """Signer, ROM and sequence number, by which a bank remembers it; None for an unsigned one."""
        return (self.signer, self.head.rom_id, self.sequence) if self.signer else None

    @property
    def makers(self) -> frozenset[str]:
        """Keys of all who had a hand in the arrays: the signer, and those whose heads it was made or went on from."""
        found = {self.signer}
        for how in ("converted", "merged", "continued"):
            came = self.provenance.get(how)
            before = came.get("from_signers") if isinstance(came, dict) else None
            found |= {key for key in before if isinstance(key, str)} if isinstance(before, list) else set()
        return frozenset(found)

    def unsigned_digest(self) -> bytes:
        """SHA-256 of the canonical bytes without the signature: what is signed. Signer and counter are in it."""
        return hashlib.sha256(replace(self, signature="").to_bytes()).digest()

    def anchor(self, mapper: str) -> Arrays:
        """The anchor for that mapper. Raises BundleError, with the mappers it has anchors for."""
        if mapper not in self.anchors:
            has = ", ".join(sorted(self.anchors)) or "none"
            raise BundleError(
                f"it carries no anchor for the mapper '{mapper}', only for: {has}. "
                f"Learn it again with --mapper {mapper}, or use another"
            )
        return self.anchors[mapper]

    def require_width(self, width: int) -> None:
        """Raise BundleError unless head and anchors are for features (n, width), whatever ROM they claim."""
        widths = {"head": self.head.width} | {
            f"anchor/{name}": registry.load("mapper", registry.MAPPERS, name).anchor_width(arrays)
            for name, arrays in self.anchors.items()
        }
        wrong = {part: d for part, d in widths.items() if d != width}
        if wrong:
            raise BundleError(f"the bundle of '{self.task}' is for other feature widths than the ROM's {width}: {wrong}")

    def parts(self) -> dict[str, int]:
        """Where the bytes go: part -> bytes of its arrays."""
        sizes = {f"head/{name}": int(value.nbytes) for name, value in self.head.arrays.items()}
        for mapper, arrays in self.anchors.items():
            sizes |= {f"anchor/{mapper}/{name}": int(value.nbytes) for name, value in arrays.items()}
        return dict(sorted(sizes.items()))


def digest(data: bytes) -> str:
    """The bundle's name: sha256 of its bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def from_bytes(data: bytes) -> Bundle:
    """The bundle in `data`. Raises BundleError with the reason; nothing in `data` is trusted before it is checked."""
    card = _card(data)
    try:
        tensors = load_tensors(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise BundleError(f"the bundle is malformed: {type(error).__name__}: {printable(str(error), 200)}") from error
    _check_tensors(tensors)
    bundle = _assemble(card, tensors)
    if bundle.to_bytes() != data:
        raise BundleError("the bundle is not in canonical form; bytes were added, reordered or padded")
    return bundle


def card_only(data: bytes) -> Bundle:
    """A bundle without its arrays, from bytes that were checked when they were kept here; many times quicker."""
    card = _card(data)
    head = Head(card["method"], tuple(card["classes"]), card["rom_id"], {}, card["settings"])
    return Bundle(card["task"], head, {}, card["report"], card["provenance"], {}, *_signed(card))


def _card(data: bytes) -> dict[str, Any]:
    header = _header(data)
    try:
        card = json.loads(header["__metadata__"][_KEY], object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        if not isinstance(card, dict):
            raise ValueError("the card is no object")
        if _depth(card) > _MAX_DEPTH:
            raise ValueError(f"the card is nested deeper than {_MAX_DEPTH} levels")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"the bundle is malformed: {type(error).__name__}: {printable(str(error), 200)}") from error
    if card.get("format") != FORMAT:
        raise BundleError(f"the bundle has format {str(card.get('format'))[:20]!r}, this edgecl reads {FORMAT}; update edgecl")
    return card


def _header(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise BundleError(f"the bundle has {len(data):,} bytes, accepted are up to {MAX_BYTES:,}", Reason.TOO_LARGE)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise BundleError("the bundle is truncated, or no bundle: its header does not fit into it")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the bundle is malformed: its header cannot be read: {printable(str(error), 200)}") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict) or _KEY not in header["__metadata__"]:
        raise BundleError("the bundle is malformed: it has no card")
    return header


def _assemble(card: dict[str, Any], tensors: Mapping[str, Any]) -> Bundle:
    known = ("format", "task", "classes", "method", "rom_id", "settings", "report", "provenance", "signer", "signature")
    try:
        parts: dict[str, dict[str, Any]] = {}
        for name, value in tensors.items():
            part, _, leaf = name.rpartition("/")
            parts.setdefault(part, {})[leaf] = value
        wrong = [p for p in parts if p != "head" and p.removeprefix("anchor/") not in registry.MAPPERS]
        if wrong or any(not p.startswith(("head", "anchor/")) for p in parts):
            raise BundleError(f"the bundle holds an unknown part {sorted(parts)[:4]}")
        objects = {key: card[key] for key in ("settings", "report", "provenance")}
        if not all(isinstance(value, dict) for value in objects.values()):
            raise BundleError("the bundle is malformed: settings, report or provenance is no object")
        if task_name(str(card["task"])) != card["task"]:
            raise BundleError("the bundle is malformed: its task name is not in normal form")
        if card["method"] not in list(registry.HEADS):
            shown = printable(str(card["method"]), 40)
            raise BundleError(f"the bundle's head method '{shown}' is unknown here; known: {', '.join(registry.HEADS)}")
        if not isinstance(card["rom_id"], str) or not _ROM_ID.fullmatch(card["rom_id"]):
            raise BundleError("the bundle is malformed: its rom_id is no sha256 in hexadecimal")
        head = Head(
            method=card["method"],
            classes=checked_classes(card["classes"]),
            rom_id=card["rom_id"],
            arrays=parts.get("head", {}),
            settings=objects["settings"],
        )
        head.check()
        if any(base.task == card["task"] for base in head.over):
            raise BundleError(f"'{card['task']}' says that it stands on itself")
        anchors = {p.removeprefix("anchor/"): arrays for p, arrays in parts.items() if p != "head"}
        for mapper, arrays in anchors.items():
            registry.load("mapper", registry.MAPPERS, mapper).check(arrays)
        signed = _signed(card)
        extra = {key: value for key, value in card.items() if key not in known}
    except (KeyError, ConfigError) as error:
        raise BundleError(f"the bundle is malformed: {error}") from error
    return Bundle(card["task"], head, anchors, objects["report"], objects["provenance"], extra, *signed)


def _signed(card: Mapping[str, Any]) -> tuple[str, int, str]:
    """(signer, sequence, signature) as the card has them; empty where it has none of them."""
    if not {"signer", "signature"} & set(card):
        return "", 0, ""
    signer, signature = card.get("signer"), card.get("signature")
    if not isinstance(signer, dict) or set(signer) != {"key", "sequence"} or not isinstance(signature, str):
        raise BundleError("the bundle is malformed: signer (key, sequence) and signature belong together")
    key, sequence = signer["key"], signer["sequence"]
    if not isinstance(key, str) or not _KEY_HEX.fullmatch(key) or not _SIGNATURE.fullmatch(signature):
        raise BundleError("the bundle is malformed: its signer or signature is no hexadecimal number of the right length")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 < sequence <= MAX_SEQUENCE:
        raise BundleError(f"the bundle is malformed: its sequence number must lie in 1 to {MAX_SEQUENCE:,}")
    return key, sequence, signature


def _check_tensors(tensors: Mapping[str, Any]) -> None:
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            raise BundleError(
                f"tensor '{name[:60]}' has dtype {value.dtype}; accepted are float16, float32, int64, int32, int8, uint8"
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BundleError(f"tensor '{name[:60]}' holds a non-finite number", Reason.NON_FINITE)


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    levels, here = 0, [value]
    while here:
        levels += 1
        here = [inner for v in here if isinstance(v, (dict, list)) for inner in (v.values() if isinstance(v, dict) else v)]
    return levels


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
