"""The recipe of ns-ImageNet on any pictures: three domains, one noisier than the other, class by class.

Source: non-stationary mini-ImageNet of Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024. Departures: pictures may
be of any data set; the ROM's own preprocessing reads them, with its crop; values are rounded to 8 bits, so that clean pictures
stay what they are; and the noise of a picture comes from the seed, the domain and the picture's number, so that it does not
depend on what was read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from edgecl.errors import DataError, PictureError
from edgecl.pictures.decode import decode
from edgecl.rom.preprocess import Preprocess
from edgecl.streams.labelled import TEST, TRAIN, VAL, LabelledPictures
from edgecl.types import Ints, Pixels

SIDE = 84  # pixels, as in mini-ImageNet
DOMAINS = {"clean": 0.0, "noise .25 x .1": 0.25 * 0.1, "noise .5 x .2": 0.5 * 0.2}  # standard deviations, of 0..1


def noisy(pictures: LabelledPictures, seed: int = 0, side: int = SIDE) -> LabelledPictures:
    """All pictures three times, clean, noisy and noisier; of each class 70 % to train, 10 % val and 20 % to test, by position.

    The parts that the pictures had are pooled, training pictures first. They are made (side, side, 3) uint8 when they are asked
    for. Raises DataError where a class has too few pictures to be in both train and test.
    """
    order = np.lexsort((np.arange(len(pictures.y)), pictures.part, pictures.y))
    y = pictures.y[order]
    part = np.concatenate([_parts(int(n)) for n in np.bincount(y)])
    for c, name in enumerate(pictures.classes):
        if not {TRAIN, TEST} <= set(part[y == c].tolist()):
            raise DataError(
                f"{pictures.name}: the class '{name}' has {int((y == c).sum())} pictures; ns needs 2 or more of each"
            )
    d, n = len(DOMAINS), len(y)
    return replace(
        pictures,
        name=f"ns-{pictures.name}",
        groups=tuple(DOMAINS),
        sources=_Noisy(pictures.sources, order, seed, side),
        y=np.tile(y, d),
        group=np.repeat(np.arange(d), n),
        part=np.tile(part, d),
        side=side,
    )


def _parts(n: int) -> Ints:
    """Which part the pictures of a class of n are in: 420, 60 and 120 of 600."""
    out = np.full(n, TEST)
    out[: n * 8 // 10] = VAL
    out[: n * 7 // 10] = TRAIN
    return out


class _Noisy(Sequence[Any]):
    """Domain after domain, the pictures with its noise; what cannot be read gives the PictureError in its place."""

    def __init__(self, sources: Sequence[Any], order: Ints, seed: int, side: int) -> None:
        self._sources, self._order, self._seed = sources, order, seed
        self._preprocess = Preprocess(size=side, crop=1.0)

    def __len__(self) -> int:
        return len(DOMAINS) * len(self._order)

    @overload
    def __getitem__(self, at: int) -> Pixels | PictureError: ...
    @overload
    def __getitem__(self, at: slice) -> list[Pixels | PictureError]: ...
    def __getitem__(self, at: int | slice) -> Pixels | PictureError | list[Pixels | PictureError]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        if not 0 <= at < len(self):
            raise IndexError(at)
        domain, row = divmod(int(at), len(self._order))
        source = self._sources[self._order[row]]
        try:
            if isinstance(source, PictureError):
                raise source
            clean = decode(source, self._preprocess)
        except PictureError as error:
            return error
        sigma = list(DOMAINS.values())[domain]
        if not sigma:
            return clean
        noise = np.random.default_rng([self._seed, domain, row]).normal(0, sigma, clean.shape)
        return np.rint(np.clip(clean / 255 + noise, 0, 1) * 255).astype(np.uint8)
