"""A bundle written once: every later edgecl reads it, and its signature follows from the page of the format alone."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgecl.sharing.bundle import digest, from_bytes
from edgecl.sharing.signing import verify

DATA = (Path(__file__).parent / "golden" / "bundle-1.safetensors").read_bytes()
DIGEST = "fda9c833b484d55ed7a42aa7080bcd3249d786d6c66b391e56613642b267c64d"
UNSIGNED = "f1cedc9c723e487283fc02973e5a19dd8152319e2e31ba8b1dc86310f514a6ff"
KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032, 7.1, test 1


def test_it_is_read_and_written_again_byte_for_byte() -> None:
    bundle = from_bytes(DATA)
    assert (bundle.task, bundle.head.classes, bundle.head.method) == ("leaf rust", ("ash", "bay \u00e9", "\u4e2d"), "linear")
    assert (bundle.signer, bundle.sequence, bundle.extra) == (KEY, 7, {"later": {"field": [1, 2]}})
    assert bundle.to_bytes() == DATA and digest(DATA) == DIGEST
    assert bundle.unsigned_digest().hex() == UNSIGNED and verify(KEY, bundle.unsigned_digest(), bundle.signature)


def test_the_page_is_enough_to_check_the_signature() -> None:
    (length,) = struct.unpack("<Q", DATA[:8])
    header, tensors = json.loads(DATA[8 : 8 + length]), DATA[8 + length :]
    card = json.loads(header["__metadata__"]["edgecl"])
    signature = bytes.fromhex(card.pop("signature"))
    header["__metadata__"]["edgecl"] = json.dumps(card, sort_keys=True, separators=(",", ":"))
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    unsigned = hashlib.sha256(struct.pack("<Q", len(raw)) + raw + tensors).digest()
    assert unsigned.hex() == UNSIGNED
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(card["signer"]["key"]))
    public.verify(signature, b"edgecl bundle 1\0" + unsigned)
    sizes = {"I64": 8, "F32": 4, "I32": 4, "F16": 2, "I8": 1, "U8": 1}
    names = [name for name in header if name != "__metadata__"]
    assert names == sorted(names, key=lambda name: (-sizes[header[name]["dtype"]], name))
    ends = [0, *(header[name]["data_offsets"][1] for name in names)]
    assert [header[name]["data_offsets"][0] for name in names] == ends[:-1] and ends[-1] == len(tensors)
