"""The contract of a ROM on some runtime: pictures in, features out. A leaf implements `_run` and `_close`, no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from edgecl.errors import RomError
from edgecl.rom.image import RomImage
from edgecl.rom.preprocess import normalise
from edgecl.types import Floats, Pixels

BATCH = 32  # pictures per call of the runtime; larger gains nothing on two cores and costs memory


class Rom(ABC):
    """The sealed backbone on one runtime.

    runtime, version, provider: what really runs, for reports ("onnxruntime", "1.20.1", "CPUExecutionProvider").
    """

    runtime: str
    version: str
    provider: str

    def __init__(self, image: RomImage) -> None:
        self.image = image
        self.rom_id = image.rom_id
        self.width = image.features
        self.preprocess = image.preprocess
        self._closed = False

    def features(self, pixels: Pixels | Sequence[Pixels]) -> Floats:
        """Plain features of decoded pictures.

        pixels: (n, s, s, 3) uint8 as `pictures.decode` makes them, s = preprocess.size.   Returns (n, d) float32.
        Raises RomError for another shape or dtype, when the network answers with non-finite numbers, and after `close`.
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
        for at in range(0, len(batch), BATCH):
            out[at : at + BATCH] = self._run(normalise(batch[at : at + BATCH], self.preprocess))
        if not np.isfinite(out).all():
            raise RomError(f"ROM {self.rom_id[:12]} on {self.runtime} ({self.provider}) answered non-finite features")
        return out

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
