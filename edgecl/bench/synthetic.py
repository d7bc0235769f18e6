"""Tasks by the thousand, without pictures: real anchors and heads, made from class means that nobody learned.

They imitate what the 14 shared tasks look like in the space of `unit_sqrt` features of the default ROM (measured there: a
common mean of length 0.60 with an uneven profile over the channels; tasks 0.46 from it, mostly within some 16 directions;
classes 0.31 from their task, within some 32; pictures around their class with a variance of 0.14 along 16 directions,
falling from 0.024 to 0.004, and 0.19 over all the others; coordinates not negative). So: the mean of a class is the common
mean, plus an offset of the task and one of the class, each drawn in a fixed basis with a spectrum falling by 1 / (1 + j / 8),
cut at zero. A picture is its class's mean plus such noise, cut at zero; as ROM features, squared. All this alone is easier
than life (no picture would be given to a wrong task), so every tenth picture lies on the way from its class's mean to that
of another task, up to half-way.

A few tasks, the templates, are drawn picture by picture and go through the mappers' own `anchor`. All others are a template
whose means are replaced by their own, and whose directions are turned by noise, at the level of the stored arrays; their
heads score by distance to the means. That makes a thousand of them in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl import registry
from edgecl.heads.base import Head
from edgecl.sharing.bundle import Bundle
from edgecl.space import pack, unpack
from edgecl.types import Floats, Ints

CLASSES = 10  # of every task
_TEMPLATES, _PER_CLASS, _RANK = 4, 12, 16
# Offsets are drawn a quarter larger than they come out: the cut at zero takes that away.
_COMMON, _TASK, _CLASS, _ALONG, _REST = 0.53, 0.58, 0.37, 0.14, 0.19
_DOUBTFUL = 0.1  # share of the pictures
_ASTRAY = 0.2  # the same among those to learn from
_SHARPNESS = 40.0  # of the heads' scores


class World:
    """Where the synthetic tasks come from; the same width and seed give the same tasks."""

    def __init__(self, width: int, mappers: Sequence[str], seed: int = 0) -> None:
        """width: d of the ROM's features.   mappers: names of those to make anchors for."""
        rng = np.random.default_rng(seed)
        self._seed, self.width, self._rank = seed, width, min(_RANK, width // 4)
        basis = np.linalg.qr(rng.normal(size=(width, min(256, width // 2))))[0].T
        self._basis = (basis / (1 + np.arange(len(basis)) / 8)[:, None]).astype(np.float32)
        profile = rng.gamma(4, size=width)
        self._common = (_COMMON * profile / np.linalg.norm(profile)).astype(np.float32)
        self._falling = np.linspace(0.024, 0.004, self._rank) * _ALONG / np.linspace(0.024, 0.004, self._rank).sum()
        kinds = {name: registry.load("mapper", registry.MAPPERS, name) for name in dict.fromkeys(mappers)}
        self._templates: list[dict[str, dict[str, NDArray[Any]]]] = []
        for number in range(_TEMPLATES):
            own = np.random.default_rng([seed, 1, number])
            labels = np.repeat(np.arange(CLASSES), _PER_CLASS)
            x = self._around(own, self.means(-1 - number)[labels], self._directions(own))
            self._templates.append({name: kind.anchor(x, labels) for name, kind in kinds.items()})

    def means(self, task: int) -> Floats:
        """Class means of a task, (k, d), of the length that real ones have."""
        rng = np.random.default_rng([self._seed, 2, task + _TEMPLATES])
        offset = self._offsets(rng, 1, _TASK) + self._offsets(rng, CLASSES, _CLASS)
        return _shell(np.maximum(self._common + offset, 0))

    def anchors(self, task: int, means: Floats | None = None) -> dict[str, dict[str, NDArray[Any]]]:
        """Mapper name -> anchor of a task. means (k, d): others than its own, such as features of pictures at hand."""
        centres = self.means(task) if means is None else _shell(means)
        rng = np.random.default_rng([self._seed, 3, task])
        made: dict[str, dict[str, NDArray[Any]]] = {}
        for name, template in self._templates[task % _TEMPLATES].items():
            made[name] = dict(template)
            rows = len(template["means"])
            made[name]["means"], made[name]["means_step"] = pack(centres[np.arange(rows) % len(centres)])
            turned = template["directions"] + rng.normal(0, 3, template["directions"].shape)
            made[name]["directions"] = np.clip(np.rint(turned), -127, 127).astype(np.int8)
        return made

    def bundle(self, task: int, rom_id: str, means: Floats | None = None) -> Bundle:
        """A whole task, as it would lie in a bank."""
        centres = self.means(task) if means is None else _shell(means)
        w = _SHARPNESS * centres
        arrays = {"w": w.astype(np.float16), "b": (-0.5 * np.einsum("kd,kd->k", w, centres)).astype(np.float32)}
        classes = tuple(f"class {number}" for number in range(len(centres)))
        head = Head("linear", classes, rom_id, arrays, {"phi": "unit_sqrt", "recipe": "default", "unknown_below": 0.0})
        return Bundle(name(task), head, self.anchors(task, means))

    def pictures(self, tasks: Ints, seed: int = 1) -> Floats:
        """ROM features (n, d) of one new picture of some class of each of `tasks` (n,)."""
        others = np.random.default_rng([self._seed, 5, seed]).permutation(tasks)
        rng = np.random.default_rng([self._seed, 4, seed])
        found = np.empty((len(tasks), self.width), np.float32)
        for i, task in enumerate(tasks):
            anchor = next(iter(self._templates[task % _TEMPLATES].values()))
            directions = unpack(anchor["directions"], anchor["directions_step"])[: self._rank]
            centre = self.means(int(task))[rng.integers(CLASSES)][None]
            if rng.random() < _DOUBTFUL:
                share = rng.uniform(0.5, 1)
                centre = share * centre + (1 - share) * self.means(int(others[i]))[rng.integers(CLASSES)]
            found[i] = self._around(rng, centre, directions)[0]
        return found

    def drawn(self, task: int, labels: Ints, among: int, seed: int = 0) -> Floats:
        """ROM features (n, d) of pictures of one task, to learn it from: of classes `labels` (n,), each in 0..CLASSES-1.

        Real tasks lose more pictures to a class of their own than to another task. So a fifth of these lies on the way to
        another class, up to beyond half-way, and of these every second one to a class of another task, of 0..among-1.
        seed: another one draws other pictures of the same task.
        """
        rng = np.random.default_rng([self._seed, 6, task, seed])
        directions = self._directions(np.random.default_rng([self._seed, 7, task]))
        own = self.means(task)
        centres = own[labels]
        for i in np.flatnonzero(rng.random(len(labels)) < _ASTRAY):
            to = own
            if among > 1 and rng.random() < 0.5:
                to = self.means((task + int(rng.integers(1, among))) % among)
            share = rng.uniform(0.35, 1)
            centres[i] = share * centres[i] + (1 - share) * to[rng.integers(CLASSES)]
        return self._around(rng, centres, directions)

    def _directions(self, rng: np.random.Generator) -> Floats:
        """Orthonormal (r, d), for the most part where the classes differ too: that is what makes them hard to tell."""
        drawn = self._offsets(rng, self._rank, 1.0) + 0.3 * rng.normal(size=(self._rank, self.width)) / self.width**0.5
        turned: Floats = np.linalg.qr(drawn.T)[0].T.astype(np.float32)
        return turned

    def _offsets(self, rng: np.random.Generator, count: int, length: float) -> Floats:
        drawn = rng.normal(size=(count, len(self._basis))).astype(np.float32) @ self._basis
        out: Floats = length * drawn / np.linalg.norm(self._basis)
        return out

    def _around(self, rng: np.random.Generator, centres: Floats, directions: Floats) -> Floats:
        along = rng.normal(size=(len(centres), len(directions))) * np.sqrt(self._falling[: len(directions)])
        rest = rng.normal(0, (_REST / self.width) ** 0.5, centres.shape)
        out: Floats = np.square(np.maximum(centres + along @ directions + rest, 0)).astype(np.float32)
        return out


def name(task: int) -> str:
    """Of a synthetic task."""
    return f"synthetic-{task:05}"


def _shell(means: Floats) -> Floats:
    """Rows at the length of real class means: that of unit vectors, less the variance around the mean."""
    length = (1 - _ALONG - _REST) ** 0.5
    out: Floats = length * means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return out
