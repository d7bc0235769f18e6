"""The contract of a ROM on some runtime: pictures in, features out. A leaf implements `_run` and `_close`, no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from edgecl.errors import RomError, RuntimeUnavailable
from edgecl.rom import overlay
from edgecl.rom.image import RomImage
from edgecl.rom.preprocess import normalise
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats, Ints, Pixels

_REMEMBERED = 4096  # plugs that need not be checked again
BATCH = 32  # pictures per call of the runtime; larger gains nothing on two cores and costs memory


class Rom(ABC):
    """The sealed backbone on one runtime.

    runtime, version, provider: what really runs, for reports ("onnxruntime", "1.20.1", "CPUExecutionProvider").
    mixes: one call of the runtime can give each picture its own plugs, if they change no weights; else `features` groups the
        pictures by their plugs.
    scrambles: it can run BB's biases in the layout of the reference code.
    session_cache: bytes that may be kept for heads with plugs, where the runtime keeps any.
    threads: of one call, as asked for; 0 leaves it to the runtime. What learns on this ROM keeps to it too.
    """

    runtime: str
    version: str
    provider: str
    mixes = False
    scrambles = False
    session_cache = 512 << 20
    threads = 0

    def __init__(self, image: RomImage) -> None:
        self.image = image
        self.rom_id = image.rom_id
        self.width = image.features
        self.preprocess = image.preprocess
        self._closed = False
        self._fit: set[str] = set()  # keys of plugs that `require` has let through: it takes as long as 5 % of a picture

    def features(self, pixels: Pixels | Sequence[Pixels], plugs: Plugs | Sequence[Plugs | None] | None = None) -> Floats:
        """Features of decoded pictures: plain ones, or those of the network with plugs in its sockets.

        pixels: (n, s, s, 3) uint8 as `pictures.decode` makes them, s = preprocess.size.   plugs: for all pictures, or one
        entry for each, None where the plain network is asked.   Returns (n, d) float32.
        Raises RomError for another shape or dtype, when the network answers with non-finite numbers, and after `close`;
        RomMismatch for plugs that do not fit this ROM's sockets; RuntimeUnavailable for plugs this runtime cannot take.
        """
        if self._closed:
            raise RomError(f"ROM {self.rom_id[:12]} on {self.runtime} is closed; open it again")
        batch = np.asarray(pixels)
        s = self.preprocess.size
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (s, s, 3):
            raise RomError(
                f"ROM {self.rom_id[:12]} takes uint8 pixels of shape (n, {s}, {s}, 3), got {batch.dtype} {batch.shape}. "
                f"Decode pictures with edgecl.pictures.decode"
            )
        out = np.empty((len(batch), self.width), np.float32)
        for rows, filling in self._calls(len(batch), plugs):
            x = normalise(batch[rows], self.preprocess)
            out[rows] = self._run_plugged(x, filling) if filling else self._run(x)
        if not np.isfinite(out).all():
            raise RomError(f"ROM {self.rom_id[:12]} on {self.runtime} ({self.provider}) answered non-finite features")
        return out

    def _calls(self, n: int, plugs: Plugs | Sequence[Plugs | None] | None) -> Iterator[tuple[slice | Ints, list[Plugs]]]:
        """Which pictures go into which call, and the plugs of that call: none, one for all, or one per picture."""
        if plugs is None or isinstance(plugs, Plugs):
            filling = self._checked([plugs] if plugs else [])
            yield from ((slice(at, at + BATCH), filling) for at in range(0, n, BATCH))
            return
        if len(plugs) != n:
            raise RomError(f"{n} pictures, but {len(plugs)} plugs; give one for all, or one for each")
        used = {p.key: p for p in plugs if p}
        self._checked(list(used.values()))
        keys = np.array([p.key if p else "" for p in plugs], str)
        apart = ["", *(key for key, p in used.items() if p.scrambled or p.reweighted or not self.mixes)]
        groups = [np.flatnonzero(keys == key) for key in apart] + [np.flatnonzero(~np.isin(keys, apart))]
        for group in groups:
            for at in range(0, len(group), BATCH):
                rows = group[at : at + BATCH]
                mine = [used[key] for key in keys[rows] if key]
                yield rows, mine[:1] if len(set(keys[rows])) == 1 else mine

    def _checked(self, plugs: list[Plugs]) -> list[Plugs]:
        for one in plugs:
            if one.key not in self._fit:
                self.require(one)
                if len(self._fit) >= _REMEMBERED:
                    self._fit.clear()
                self._fit.add(one.key)
        return plugs

    def require(self, plugs: Plugs) -> None:
        """Raise RomMismatch or RomError unless the plugs fit this ROM, RuntimeUnavailable if its runtime cannot take them."""
        plugs.require(self.image.sockets, self.rom_id)
        if plugs.reweighted:
            overlay.require(self.image, plugs)
        if plugs.scrambled and not self.scrambles:
            raise RuntimeUnavailable(
                f"scrambled biases depend on the picture's size; the runtime '{self.runtime}' cannot take them, use "
                f"--runtime pytorch"
            )

    def _run_plugged(self, x: Floats, plugs: list[Plugs]) -> Floats:
        """`_run` with plugs: one for all pictures, or, where the runtime `mixes`, one per picture."""
        raise RuntimeUnavailable(
            f"the runtime '{self.runtime}' ({self.provider}) cannot run heads that act inside the network; "
            f"use --runtime pytorch"
        )

    @abstractmethod
    def _run(self, x: Floats) -> Floats:
        """(n, 3, s, s) float32, normalised -> (n, d) float32; n <= BATCH."""

    @abstractmethod
    def _close(self) -> None:
        """Give the runtime's memory back; called once."""

    def close(self) -> None:
        """Give the runtime's memory back; the ROM cannot be asked afterwards. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Rom:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
