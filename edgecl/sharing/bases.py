"""What a head stands on, brought to it: a head that picks from other heads' weights is nothing without exactly those.

It declares them in its card, which is signed: task, method and digest of each, bottom first. So whoever is believed about the
head is believed about its bases: their bytes are part of it, and need no trust, no newest number and no place in force of their
own. What their own signer has lost is lost for what stands on them: a revoked one's weights serve nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgecl.errors import BankCorrupt, BankError, BundleError, Reason, TransferError
from edgecl.heads.base import Base
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import MAX_BYTES, Bundle, card_only, digest, from_bytes


def stand(bundle: Bundle, rom: Rom, read: Callable[[str], bytes], barred: Callable[[Bundle], str]) -> Bundle:
    """The bundle with what its head stands on at hand; itself, where that is nothing.

    read: bytes of a bundle by its digest; may raise BankError or TransferError.   barred: why one must not serve, or "".
    Raises BundleError for a base that is missing, barred, or another than is declared, RomMismatch where weights do not fit.
    """
    head, size = bundle.head, 0
    below = None
    for number, base in enumerate(head.over):
        data = _read(bundle, base, read)
        size += len(data)
        if size > MAX_BYTES:
            raise BundleError(f"what '{bundle.task}' stands on has more than {MAX_BYTES:,} bytes", Reason.TOO_LARGE)
        one = card_only(data) if head.below is not None else from_bytes(data)
        if (one.task, one.head.method, one.head.rom_id) != (base.task, base.method, head.rom_id):
            raise BundleError(
                f"'{bundle.task}' says that it stands on {base}, a {base.method} head for ROM {head.rom_id[:12]}; that bundle "
                f"is '{one.task}', a {one.head.method} head for ROM {one.head.rom_id[:12]}"
            )
        if one.head.over != head.over[:number]:
            raise BundleError(f"'{bundle.task}' says that {base} stands on other heads than it does")
        if why := barred(one):
            raise BundleError(f"'{bundle.task}' stands on {base}, and {why}", Reason.REVOKED)
        if head.below is None:
            below = replace(one.head, below=below).ground(rom)
    return bundle if below is None else replace(bundle, head=replace(head, below=below))


def _read(bundle: Bundle, base: Base, read: Callable[[str], bytes]) -> bytes:
    try:
        data = read(base.digest)
        if digest(data) == base.digest:
            return data
    except BankCorrupt:
        raise
    except (BankError, TransferError):
        pass
    raise BundleError(
        f"'{bundle.task}' picks from the weights of {base}, and that version is not here. Share, pull or import '{base.task}' "
        f"first; where it was learned again since, share '{bundle.task}' through a folder, which takes all of it along, or "
        f"learn it anew",
        Reason.MISSING_BASE,
    )
